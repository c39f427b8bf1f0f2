//! What of a request decides its price: the model, and how long its answer may be.
//!
//! The body goes on as it came. A client that could have the gateway read one price and the provider
//! another one would spend more than is reserved, so that what is said twice is refused, and so is
//! what costs more than the table of models knows.

use patchfleet_model::{Entry, Protocol};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::refusal::{Reason, Refused};
use crate::model::charges::most_tokens;

/// Room for an answer whose request and model name no limit, in tokens.
const UNSTATED_OUTPUT: u64 = 128_000;
/// Room for a prompt that lies at the provider, where the model's window is not known.
const UNKNOWN_WINDOW: u64 = 1_000_000;

/// A call of a model that another program makes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Asked {
    pub(super) model: String,
    /// The most tokens of all its answers, as far as it says so.
    output: Option<u64>,
    /// A part of its prompt lies at the provider.
    is_continued: bool,
    bytes: u64,
}

/// The fields of all protocols that matter; serde refuses any of them that comes twice.
#[derive(Debug, Deserialize)]
struct Body {
    model: Option<String>,
    max_tokens: Option<u64>,
    max_completion_tokens: Option<u64>,
    max_output_tokens: Option<u64>,
    n: Option<u64>,
    #[serde(alias = "generation_config", rename = "generationConfig")]
    generation: Option<Generation>,
    options: Option<Options>,
    previous_response_id: Option<IgnoredAny>,
    conversation: Option<IgnoredAny>,
    background: Option<bool>,
    service_tier: Option<String>,
    speed: Option<String>,
}

/// Gemini's.
#[derive(Debug, Deserialize)]
struct Generation {
    #[serde(alias = "max_output_tokens", rename = "maxOutputTokens")]
    max_output_tokens: Option<u64>,
    #[serde(alias = "candidate_count", rename = "candidateCount")]
    candidate_count: Option<u64>,
}

/// Ollama's.
#[derive(Debug, Deserialize)]
struct Options {
    num_predict: Option<i64>,
}

impl Asked {
    /// Reads a request's body; the path names the model where the body does not.
    pub(super) fn read(
        protocol: Protocol,
        named: Option<String>,
        body: &[u8],
    ) -> Result<Self, Refused> {
        let malformed = |why: String| Refused::new(Reason::Malformed, why);
        let read: Body = serde_json::from_slice(body)
            .map_err(|error| malformed(format!("the request can't be read: {error}")))?;
        read.has_usual_price()?;
        let model = match protocol {
            Protocol::Gemini => named,
            Protocol::Anthropic | Protocol::Responses | Protocol::Chat | Protocol::Ollama => {
                read.model.clone()
            }
        };
        let model = model.filter(|model| !model.is_empty());
        let model = model.ok_or_else(|| malformed("the request names no model".to_owned()))?;
        Ok(Self {
            model,
            output: read.output(protocol),
            is_continued: read.previous_response_id.is_some() || read.conversation.is_some(),
            bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
        })
    }

    /// The most tokens in and out that the call can use.
    pub(super) fn most(&self, entry: Option<&Entry>) -> (u64, u64) {
        let window = entry.and_then(Entry::window);
        let prompt = if self.is_continued {
            window.unwrap_or(UNKNOWN_WINDOW)
        } else {
            // A longer one is refused by the provider.
            most_tokens(self.bytes).min(window.unwrap_or(u64::MAX))
        };
        let limit = entry.and_then(Entry::output_limit);
        let output = self.output.or(limit).unwrap_or(UNSTATED_OUTPUT);
        (prompt, output)
    }
}

impl Body {
    /// The most tokens of all answers, as far as the request says so.
    fn output(&self, protocol: Protocol) -> Option<u64> {
        let generation = self.generation.as_ref();
        let (each, answers) = match protocol {
            Protocol::Anthropic => (self.max_tokens, None),
            Protocol::Responses => (self.max_output_tokens, None),
            Protocol::Chat => (self.max_tokens.max(self.max_completion_tokens), self.n),
            Protocol::Gemini => (
                generation.and_then(|it| it.max_output_tokens),
                generation.and_then(|it| it.candidate_count),
            ),
            Protocol::Ollama => {
                let limit = self.options.as_ref().and_then(|it| it.num_predict);
                // Less than nothing is without an end.
                (limit.and_then(|it| u64::try_from(it).ok()), None)
            }
        };
        Some(each?.saturating_mul(answers.unwrap_or(1).max(1)))
    }

    fn has_usual_price(&self) -> Result<(), Refused> {
        let dearer = [
            ("service_tier", &self.service_tier, ["priority", "fast"]),
            ("speed", &self.speed, ["fast", "priority"]),
        ];
        for (field, value, words) in dearer {
            if let Some(value) = value.as_deref().filter(|it| words.contains(it)) {
                return Err(Refused::new(
                    Reason::NotAllowed,
                    format!(
                        "`{field}` of `{value}` costs more than the table of models knows; leave it out"
                    ),
                ));
            }
        }
        if self.background == Some(true) {
            let why = "an answer in the `background` is not seen by the gateway; leave it out";
            return Err(Refused::new(Reason::NotAllowed, why));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(protocol: Protocol, body: &str) -> Result<Asked, Refused> {
        Asked::read(protocol, Some("named".to_owned()), body.as_bytes())
    }

    #[test]
    fn each_protocol_has_its_own_words_for_the_limit() {
        for (protocol, body, output) in [
            (Protocol::Anthropic, r#"{"model": "m", "max_tokens": 7}"#, 7),
            (
                Protocol::Responses,
                r#"{"model": "m", "max_output_tokens": 7}"#,
                7,
            ),
            (
                Protocol::Chat,
                r#"{"model": "m", "max_tokens": 7, "max_completion_tokens": 9, "n": 3}"#,
                27,
            ),
            (
                Protocol::Gemini,
                r#"{"generationConfig": {"maxOutputTokens": 7, "candidateCount": 2}}"#,
                14,
            ),
            (
                Protocol::Gemini,
                r#"{"generation_config": {"max_output_tokens": 7}}"#,
                7,
            ),
            (
                Protocol::Ollama,
                r#"{"model": "m", "options": {"num_predict": 7}}"#,
                7,
            ),
            (
                Protocol::Ollama,
                r#"{"model": "m", "options": {"num_predict": -1}}"#,
                UNSTATED_OUTPUT,
            ),
            (Protocol::Responses, r#"{"model": "m"}"#, UNSTATED_OUTPUT),
        ] {
            let asked = read(protocol, body).unwrap();
            assert_eq!(
                asked.most(None),
                (body.len() as u64 / 2 + 1, output),
                "{body}"
            );
            let name = if protocol == Protocol::Gemini {
                "named"
            } else {
                "m"
            };
            assert_eq!(asked.model, name, "{body}");
        }
        let continued = r#"{"model": "m", "previous_response_id": "r"}"#;
        let continued = read(Protocol::Responses, continued).unwrap();
        assert_eq!(continued.most(None).0, UNKNOWN_WINDOW);
    }

    #[test]
    fn what_could_be_read_in_two_ways_or_costs_more_is_refused() {
        for (protocol, body, why) in [
            (
                Protocol::Anthropic,
                r#"{"model": "cheap", "model": "dear"}"#,
                "duplicate field `model`",
            ),
            (
                Protocol::Gemini,
                r#"{"generationConfig": {"maxOutputTokens": 7}, "generation_config": {}}"#,
                "duplicate field",
            ),
            (
                Protocol::Anthropic,
                r#"{"max_tokens": 7}"#,
                "names no model",
            ),
            (
                Protocol::Anthropic,
                r#"{"model": "m", "max_tokens": "many"}"#,
                "can't be read",
            ),
            (Protocol::Chat, "model=m", "can't be read"),
            (
                Protocol::Responses,
                r#"{"model": "m", "background": true}"#,
                "background",
            ),
            (
                Protocol::Responses,
                r#"{"model": "m", "service_tier": "priority"}"#,
                "costs more",
            ),
            (
                Protocol::Anthropic,
                r#"{"model": "m", "speed": "fast"}"#,
                "costs more",
            ),
        ] {
            let refused = read(protocol, body).unwrap_err();
            assert!(refused.message.contains(why), "{body}: {refused:?}");
        }
    }
}
