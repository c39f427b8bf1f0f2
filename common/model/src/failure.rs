//! What a provider's error means: one class, and how long to wait.
//!
//! The class follows from the provider's words for it and from the status, in that order, and the
//! same way for an error inside a stream. The text of a message decides nothing about trying again,
//! but for the two waits that providers document to write there.

use std::collections::BTreeSet;
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::header::{DATE, RETRY_AFTER};
use http::{HeaderMap, StatusCode};

use crate::ModelError;
use crate::protocol::Parameter;

/// The longest text of a provider's that an error repeats.
const LONGEST_MESSAGE: usize = 500;

/// The older name of the limit of the output in Chat Completions.
pub(crate) const LIMIT: &str = "max_tokens";

/// An error as the provider reports it.
#[derive(Debug, Default)]
pub(crate) struct Report {
    /// The status of the response, or the one that the error itself names.
    pub(crate) status: Option<u16>,
    /// The provider's words for the error: code, type, status.
    pub(crate) words: Vec<String>,
    /// The text for people.
    pub(crate) message: String,
    /// The parameter that the error names.
    pub(crate) parameter: Option<String>,
    /// How long to wait.
    pub(crate) wait: Option<Duration>,
    /// True when a limit is reached that no wait within a task outlasts.
    pub(crate) exhausted: bool,
}

/// What headers say about trying again.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Advice {
    /// How long to wait first.
    pub(crate) wait: Option<Duration>,
    /// Whether it helps at all.
    pub(crate) again: Option<bool>,
}

/// Families of errors that have a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Family {
    Rate,
    Quota,
    Busy,
    Key,
    Model,
    Length,
    Refusal,
}

impl Family {
    fn of(word: &str) -> Option<Self> {
        Some(match word.to_ascii_lowercase().as_str() {
            "rate_limit_error"
            | "rate_limit_exceeded"
            | "resource_exhausted"
            | "requests"
            | "tokens"
            | "too_many_requests" => Self::Rate,
            "insufficient_quota"
            | "credit_balance_exhausted"
            | "billing_error"
            | "billing_hard_limit_reached"
            | "usage_not_included"
            | "usage_limit_reached"
            | "quota_exceeded" => Self::Quota,
            "overloaded_error"
            | "api_error"
            | "server_error"
            | "timeout_error"
            | "slow_down"
            | "server_is_overloaded"
            | "unavailable"
            | "internal"
            | "deadline_exceeded"
            | "internal_server_error"
            | "service_unavailable" => Self::Busy,
            "authentication_error"
            | "permission_error"
            | "invalid_api_key"
            | "unauthenticated"
            | "permission_denied"
            | "api_key_invalid" => Self::Key,
            "model_not_found" | "not_found_error" | "not_found" => Self::Model,
            "context_length_exceeded"
            | "request_too_large"
            | "exceed_context_size_error"
            | "string_above_max_length" => Self::Length,
            "content_filter" | "content_policy_violation" | "invalid_prompt" => Self::Refusal,
            _ => return None,
        })
    }

    const fn of_status(status: u16) -> Option<Self> {
        Some(match status {
            401 | 403 => Self::Key,
            402 => Self::Quota,
            404 => Self::Model,
            413 => Self::Length,
            429 => Self::Rate,
            408 | 409 | 425 | 499 | 500..=599 => Self::Busy,
            _ => return None,
        })
    }
}

impl Report {
    /// The error that this is, to a request that had some optional parameters.
    pub(crate) fn error(self, model: &str, sent: &BTreeSet<Parameter>) -> ModelError {
        let why = shortened(&self.message, self.status);
        let wait = self.wait.or_else(|| wait_in_text(&self.message));
        let word = self.words.iter().find_map(|word| Family::of(word));
        let status = self.status.or_else(|| {
            let numbers = self.words.iter().filter_map(|word| word.parse().ok());
            numbers
                .into_iter()
                .find(|status| (400..600).contains(status))
        });
        let quota = self
            .words
            .iter()
            .any(|word| matches!(Family::of(word), Some(Family::Quota)));
        let by_status = status.and_then(Family::of_status);
        let family = match word.or(by_status) {
            _ if quota || self.exhausted => Some(Family::Quota),
            // Context and money are words of texts alone with some providers.
            None | Some(Family::Rate | Family::Busy) if is_about_length(&self.message) => {
                Some(Family::Length)
            }
            None if is_about_money(&self.message) => Some(Family::Quota),
            Some(Family::Rate) if self.words.is_empty() && is_about_money(&self.message) => {
                Some(Family::Quota)
            }
            // A word for any error of a server does not outweigh the status of the client's.
            Some(Family::Busy) if status.is_some_and(|status| status < 500) => by_status,
            family => family,
        };
        match family {
            Some(Family::Rate) => ModelError::RateLimited { after: wait },
            Some(Family::Quota) => ModelError::Quota {
                until: moment_in_text(&self.message),
            },
            Some(Family::Busy) => ModelError::Overloaded { after: wait },
            Some(Family::Key) => ModelError::Authentication { why },
            Some(Family::Model) => ModelError::UnknownModel {
                why: format!("`{model}`: {why}"),
            },
            Some(Family::Length) => ModelError::ContextTooLong {
                limit: limit_in_text(&self.message),
            },
            Some(Family::Refusal) => ModelError::Refused { why },
            // A stream that was begun and has no word for what went wrong.
            None if status.is_none() => ModelError::Overloaded { after: wait },
            None => self
                .unsupported(sent)
                .unwrap_or(ModelError::Rejected { why }),
        }
    }

    /// The one optional parameter, or feature, that the error names.
    fn unsupported(&self, sent: &BTreeSet<Parameter>) -> Option<ModelError> {
        let unsupported = |parameter: &str| {
            let parameter = parameter.to_owned();
            Some(ModelError::Unsupported { parameter })
        };
        let words = [
            "unsupported_parameter",
            "unsupported_value",
            "unknown_parameter",
        ];
        let says_so = self.words.iter().any(|word| words.contains(&word.as_str()));
        let field = self.parameter.as_deref().filter(|_| says_so);
        // `reasoning.effort` is a part of `reasoning`.
        let field = field.and_then(|field| field.split('.').next());
        if field == Some(LIMIT) {
            return unsupported(LIMIT);
        }
        if self.message.contains("does not support tools") {
            return unsupported("tools");
        }
        let is_named = |parameter: &&Parameter| match field {
            Some(field) => parameter.fields().contains(&field),
            None => parameter.is_named_in(&self.message),
        };
        let mut named = sent.iter().filter(is_named);
        match (named.next(), named.next()) {
            (Some(parameter), None) => unsupported(parameter.fields()[0]),
            _ => None,
        }
    }
}

/// The provider's text, short enough for an error.
pub(crate) fn shortened(message: &str, status: Option<u16>) -> String {
    let message = message.trim();
    let mut text: String = message.chars().take(LONGEST_MESSAGE).collect();
    if text.len() < message.len() {
        text.push('…');
    }
    let status = status.and_then(|status| StatusCode::from_u16(status).ok());
    match status {
        Some(status) if text.is_empty() => status.to_string(),
        Some(status) => format!("{text} ({})", status.as_u16()),
        None if text.is_empty() => "without a reason".to_owned(),
        None => text,
    }
}

fn is_about_length(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let texts = [
        "prompt is too long",
        "prompt too long",
        "input is too long",
        "maximum context length",
        "exceed context limit",
        "exceeds the maximum number of tokens",
        "exceeds the available context",
        "exceeds the context window",
        "exceeded max context length",
        "context length of only",
    ];
    texts.iter().any(|text| message.contains(text))
}

fn is_about_money(message: &str) -> bool {
    let message = message.to_ascii_lowercase();
    let texts = [
        "credit balance is too low",
        "specified api usage limits",
        "exceeded your current quota",
    ];
    texts.iter().any(|text| message.contains(text))
}

/// The largest number of a text about a window that stands where the limit stands.
fn limit_in_text(message: &str) -> Option<u64> {
    let lower = message.to_ascii_lowercase();
    let before = [
        "> ",
        "maximum context length is ",
        "tokens allowed (",
        "context size (",
    ];
    let before = before
        .iter()
        .chain(&["length of only ", "max context length of "]);
    before.into_iter().find_map(|text| {
        let rest = &lower[lower.find(text)? + text.len()..];
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse().ok()
    })
}

/// The moment of a spend limit's end: "You will regain access on 2026-12-01 at 00:00 UTC."
fn moment_in_text(message: &str) -> Option<DateTime<Utc>> {
    let rest = &message[message.find("regain access on ")? + "regain access on ".len()..];
    let (day, rest) = rest.split_once(" at ")?;
    let hour = rest.get(..5)?;
    let moment = chrono::NaiveDateTime::parse_from_str(&format!("{day} {hour}"), "%Y-%m-%d %H:%M");
    Some(moment.ok()?.and_utc())
}

/// The wait that a message asks for: "try again in 1.3s" or "Please retry in 12s".
fn wait_in_text(message: &str) -> Option<Duration> {
    let lower = message.to_ascii_lowercase();
    let texts = ["try again in ", "retry in "];
    let at = texts
        .iter()
        .find_map(|text| Some(lower.find(text)? + text.len()))?;
    let text: String = lower[at..]
        .chars()
        .take_while(|letter| !letter.is_whitespace())
        .collect();
    let text = text.trim_end_matches(['.', ',', ';']);
    duration(text).or_else(|| {
        // "in 20 seconds"
        let mut words = lower[at..].split_whitespace();
        let number: f64 = words.next()?.parse().ok()?;
        let unit = match words.next()?.trim_end_matches(['.', ',', ';']) {
            "second" | "seconds" => 1.0,
            "minute" | "minutes" => 60.0,
            _ => return None,
        };
        Duration::try_from_secs_f64(number * unit).ok()
    })
}

/// A duration as `34.07s`, `350ms` or `6m0s`.
pub(crate) fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut seconds = 0.0;
    if text.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..end].parse().ok()?;
        rest = &rest[end..];
        let end = rest
            .find(|letter: char| letter.is_ascii_digit())
            .unwrap_or(rest.len());
        let factor = match &rest[..end] {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            "d" => 86400.0,
            _ => return None,
        };
        seconds += number * factor;
        rest = &rest[end..];
    }
    Duration::try_from_secs_f64(seconds).ok()
}

impl Advice {
    /// What the headers of a response say: `retry-after-ms` before `retry-after`, which is a
    /// number of seconds or a date; when a limit that is used up begins anew, if neither is there;
    /// and `x-should-retry`.
    pub(crate) fn of(headers: &HeaderMap, now: DateTime<Utc>) -> Self {
        let text = |name: &str| headers.get(name)?.to_str().ok().map(str::trim);
        let milliseconds = || {
            let value: f64 = text("retry-after-ms")?.parse().ok()?;
            Duration::try_from_secs_f64(value / 1000.0).ok()
        };
        let seconds = || {
            let value: f64 = text(RETRY_AFTER.as_str())?.parse().ok()?;
            Duration::try_from_secs_f64(value).ok()
        };
        let date = || {
            let moment = DateTime::parse_from_rfc2822(text(RETRY_AFTER.as_str())?).ok()?;
            // The server's clock may not be ours.
            let sent = text(DATE.as_str()).and_then(|text| DateTime::parse_from_rfc2822(text).ok());
            let now = sent.map_or(now, |sent| sent.with_timezone(&Utc));
            Some(
                (moment.with_timezone(&Utc) - now)
                    .to_std()
                    .unwrap_or_default(),
            )
        };
        Self {
            wait: milliseconds()
                .or_else(seconds)
                .or_else(date)
                .or_else(|| reset(headers, now)),
            again: text("x-should-retry").and_then(|text| text.parse().ok()),
        }
    }
}

/// How long until every limit that is used up begins anew.
fn reset(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let text = |name: String| headers.get(name)?.to_str().ok().map(str::trim);
    let anthropic = ["requests", "tokens", "input-tokens", "output-tokens"].map(|limit| {
        let name = |what: &str| format!("anthropic-ratelimit-{limit}-{what}");
        (name("remaining"), name("reset"))
    });
    let openai = ["requests", "tokens"].map(|limit| {
        let name = |what: &str| format!("x-ratelimit-{what}-{limit}");
        (name("remaining"), name("reset"))
    });
    let limits = anthropic.into_iter().chain(openai);
    let waits = limits.filter_map(|(remaining, reset)| {
        let used_up = text(remaining)? == "0";
        let reset = text(reset).filter(|_| used_up)?;
        duration(reset).or_else(|| {
            let moment = DateTime::parse_from_rfc3339(reset).ok()?;
            Some(
                (moment.with_timezone(&Utc) - now)
                    .to_std()
                    .unwrap_or_default(),
            )
        })
    });
    waits.max()
}

#[cfg(test)]
mod tests;
