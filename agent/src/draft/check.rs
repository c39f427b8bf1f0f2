//! One cheap call of a configured model, before any task depends on it.
//!
//! That shows the address, the key and the model's name; a model that works by tools is asked to call one of
//! no effect, which shows whether it takes them. Nothing is tried again: whoever asks wants to know how it is now.

use std::time::Duration;

use chrono::Utc;
use patchfleet_model::{Answer, Conversation, Model as _, ModelError, Stop, Tool, Usage};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::config::LanguageModelConfig;
use crate::model::language_model;
use crate::model::remedy::{is_passing, remedy};

/// How long the answer may take; a server of one's own loads its model first.
const PATIENCE: Duration = Duration::from_mins(1);
/// Room for an answer of a few words after some thinking.
const MOST_OUTPUT: u32 = 256;
/// The tool that is offered.
const TOOL: &str = "ready";

/// What a model showed of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckedModel {
    /// What the call used.
    pub usage: Usage,
    /// What it cost in millionths of a US dollar; nothing when its price is not known.
    pub micro_dollars: Option<u64>,
    /// Whether it called the tool; nothing when it was offered none, or its answer was cut before it
    /// could.
    pub calls_tools: Option<bool>,
}

/// What a checked model is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needed {
    /// It works by tools.
    Tools,
    /// It answers in words, or another program offers it tools.
    Words,
}

/// A model that can't be used as it is configured.
#[derive(Debug, thiserror::Error)]
pub enum ModelFault {
    /// It can't even be asked.
    #[error("{0:#}")]
    Setup(anyhow::Error),
    /// It was asked and gave no answer.
    #[error("{0}")]
    Call(#[from] ModelError),
    /// It was asked, and nobody waits that long for a first answer.
    #[error("it did not answer within {0:?}")]
    Slow(Duration),
}

/// Asks a model once that a section of the configuration names.
///
/// # Errors
/// [`ModelFault`] with what has to be mended.
pub async fn check_model(
    config: &LanguageModelConfig,
    section: &str,
    needed: Needed,
) -> Result<CheckedModel, ModelFault> {
    let has_tool = needed == Needed::Tools;
    let answer = ask_once(config, section, has_tool).await?;
    let calls_tools = match &answer.stop {
        Stop::End | Stop::ToolCalls => has_tool.then(|| !answer.calls().is_empty()),
        Stop::OutputCut | Stop::Paused => None,
        stop @ (Stop::ContextFull | Stop::Refused(_)) => {
            return Err(stop.error().map_or_else(
                || ModelFault::Setup(anyhow::anyhow!("it ended without a reason")),
                ModelFault::Call,
            ));
        }
    };
    let price = config.entry();
    Ok(CheckedModel {
        usage: answer.usage,
        micro_dollars: price.and_then(|it| it.micro_dollars(&answer.usage, Utc::now())),
        calls_tools,
    })
}

/// The answer of a model that a section names to one small question, with a tool or without.
pub(crate) async fn ask_once(
    config: &LanguageModelConfig,
    section: &str,
    has_tool: bool,
) -> Result<Answer, ModelFault> {
    let client = language_model::client(config, section, PATIENCE);
    let client = client.map_err(ModelFault::Setup)?;
    let prompt = if has_tool {
        format!("Call the tool `{TOOL}` now, and do nothing else.")
    } else {
        "Answer with the word `ready`.".to_owned()
    };
    let system = "You are asked whether you can be reached.";
    let mut conversation = Conversation::question(system, prompt, MOST_OUTPUT);
    if has_tool {
        conversation.tools.push(Tool {
            name: TOOL.to_owned(),
            description: "Says that you are ready.".to_owned(),
            parameters: json!({ "type": "object", "properties": {}, "additionalProperties": false }),
        });
    }
    let never = CancellationToken::new();
    let answer = client.answer(&conversation, &never).await;
    answer.map_err(|broken| match broken.error {
        ModelError::TimedOut { limit } => ModelFault::Slow(limit),
        error => ModelFault::Call(error),
    })
}

impl ModelFault {
    /// What the operator can do about it, in the section of the configuration that the model has.
    pub fn mend(&self, section: &str) -> String {
        match self {
            Self::Setup(_) => {
                format!("put the key where the configuration says, or mend {section}")
            }
            Self::Call(error) => remedy(error, section),
            Self::Slow(_) => format!(
                "ask again once its server has loaded it, or choose a faster model; a draft waits \
                 for {section}.answer_timeout"
            ),
        }
    }

    /// True when it may pass by itself, and tasks wait for that.
    pub const fn may_pass(&self) -> bool {
        match self {
            Self::Setup(_) | Self::Slow(_) => false,
            Self::Call(error) => is_passing(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use patchfleet_model::Protocol;
    use patchfleet_testkit::model::{Script, Simulator};

    use super::*;

    const SECTION: &str = "agents.draft.model";

    async fn checked(script: &str, model: &str) -> Result<CheckedModel, ModelFault> {
        asked(script, model, Needed::Tools).await
    }

    async fn asked(script: &str, model: &str, needed: Needed) -> Result<CheckedModel, ModelFault> {
        let script = Script::parse("script", script).unwrap();
        let simulator = Simulator::start(script).await.unwrap();
        let mut config = LanguageModelConfig::new(Protocol::Anthropic, model.to_owned());
        config.url = Some(simulator.base_url().parse().unwrap());
        config.key = serde_json::from_value(json!(simulator.key())).unwrap();
        check_model(&config, SECTION, needed).await
    }

    #[tokio::test]
    async fn a_model_that_calls_the_tool_is_told_from_one_that_talks() {
        let usage = "usage: {input: 1000, output: 100}";
        let calls = format!("turns: [{{calls: [{{name: ready}}], {usage}}}]");
        let found = checked(&calls, "simulated").await.unwrap();
        assert_eq!((found.calls_tools, found.micro_dollars), (Some(true), None));
        assert_eq!((found.usage.input, found.usage.output), (1000, 100));
        let priced = format!("models: [{{name: claude-opus-5}}]\n{calls}");
        let found = checked(&priced, "claude-opus-5").await.unwrap();
        assert_eq!(found.micro_dollars, Some(1000 * 5 + 100 * 25));
        let talks = "turns: [{text: I am ready.}]";
        assert_eq!(
            checked(talks, "simulated").await.unwrap().calls_tools,
            Some(false)
        );
        let cut = "turns: [{text: Let me, stop: max_tokens}]";
        assert_eq!(checked(cut, "simulated").await.unwrap().calls_tools, None);
    }

    #[tokio::test]
    async fn a_model_that_is_to_answer_in_words_is_offered_no_tool() {
        let script = "models: [{name: simulated, tools: false}]\nturns: [{text: ready}]";
        let found = asked(script, "simulated", Needed::Words).await.unwrap();
        assert_eq!(found.calls_tools, None);
        let script = "turns: [{fault: unauthorized}]";
        let fault = asked(script, "simulated", Needed::Words).await.unwrap_err();
        let mend = fault.mend("agents.review.model");
        assert!(mend.contains("agents.review.model"), "{mend}");
    }

    #[tokio::test]
    async fn each_fault_is_found_in_one_call_with_its_remedy() {
        let turns = |turn: &str| format!("turns: [{turn}]");
        let no_tools = format!(
            "models: [{{name: simulated, tools: false}}]\n{}",
            turns("{text: no}")
        );
        for (script, model, mend) in [
            (turns("{text: no}"), "imagined", "ollama pull NAME"),
            (
                turns("{fault: unauthorized}"),
                "simulated",
                "a key that the provider accepts",
            ),
            (no_tools, "simulated", "a model that calls tools"),
            (
                turns("{fault: {quota: {}}}"),
                "simulated",
                "raise it at the provider",
            ),
            (turns("{fault: reset}"), "simulated", "start the server"),
            (
                turns("{stop: refusal}"),
                "simulated",
                "choose another model",
            ),
            (
                turns("{fault: {overloaded: {}}}"),
                "simulated",
                "nothing, if it passes",
            ),
            (
                turns("{fault: {context_too_long: {}}}"),
                "simulated",
                "a larger window",
            ),
        ] {
            let fault = checked(&script, model).await.unwrap_err();
            let advice = fault.mend(SECTION);
            assert!(advice.contains(mend), "{script}: {fault}: {advice}");
            let may_pass = mend.starts_with("nothing");
            assert_eq!(fault.may_pass(), may_pass, "{fault}");
        }
    }
}
