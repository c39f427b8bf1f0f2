//! Why a request is refused, before a protocol puts it into its own form.

use super::script::{Fault, Wait};

/// What kind of refusal it is; a protocol makes status, type and code of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Invalid,
    UnknownParameter,
    Unsupported,
    Authentication,
    NotFound,
    ContextTooLong,
    TooLarge,
    RateLimit,
    Quota,
    Overloaded,
    Server,
    /// A request that was answered before.
    Conflict,
    /// The script says so.
    Other(u16),
}

/// A refusal.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Problem {
    pub(crate) kind: Kind,
    pub(crate) message: String,
    /// The parameter that is wrong.
    pub(crate) parameter: Option<String>,
    /// How and for how long the client is told to wait.
    pub(crate) wait: Option<(Wait, f64)>,
    /// What `x-should-retry` says.
    pub(crate) should_retry: Option<bool>,
}

impl Problem {
    pub(crate) fn new(kind: Kind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            parameter: None,
            wait: None,
            // The same again would be answered the same.
            should_retry: (kind == Kind::Conflict).then_some(false),
        }
    }

    pub(crate) fn invalid(parameter: &str, message: impl Into<String>) -> Self {
        Self {
            parameter: (!parameter.is_empty()).then(|| parameter.to_owned()),
            ..Self::new(Kind::Invalid, message)
        }
    }

    pub(crate) fn unknown_parameter(parameter: &str) -> Self {
        Self {
            parameter: Some(parameter.to_owned()),
            ..Self::new(Kind::UnknownParameter, "Extra inputs are not permitted")
        }
    }

    pub(crate) fn missing(parameter: &str) -> Self {
        Self::invalid(parameter, "Field required")
    }

    pub(crate) fn unsupported(parameter: &str, message: impl Into<String>) -> Self {
        Self {
            parameter: Some(parameter.to_owned()),
            ..Self::new(Kind::Unsupported, message)
        }
    }

    /// The refusal that a scripted fault is, if it is one.
    pub(crate) fn of(fault: &Fault, model: &str, context: u64) -> Option<Self> {
        let problem = match fault {
            Fault::Status {
                code,
                message,
                should_retry,
            } => {
                let words = message.as_deref().unwrap_or("the script says so");
                Self {
                    should_retry: *should_retry,
                    ..Self::new(Kind::Other(*code), words)
                }
            }
            Fault::RateLimit { wait, seconds, .. } => {
                let mut words = format!("Rate limit reached for {model}.");
                if *wait == Wait::Message {
                    words = format!(
                        "{words} Please try again in {seconds}s. Please retry in {seconds}s."
                    );
                }
                Self {
                    wait: Some((*wait, *seconds)),
                    ..Self::new(Kind::RateLimit, words)
                }
            }
            Fault::Quota { .. } => Self::new(
                Kind::Quota,
                "You exceeded your current quota, please check your plan and billing details.",
            ),
            Fault::Overloaded { wait, seconds, .. } => Self {
                wait: Some((*wait, *seconds)),
                ..Self::new(Kind::Overloaded, "Overloaded")
            },
            Fault::ServerError { .. } => Self::new(Kind::Server, "Internal server error"),
            Fault::Unauthorized => Self::new(
                Kind::Authentication,
                "API key not valid. Please pass a valid API key.",
            ),
            Fault::ContextTooLong { .. } => Self::too_long(context + 1, context),
            Fault::Html
            | Fault::Reset
            | Fault::RefuseConnections { .. }
            | Fault::Cut { .. }
            | Fault::Stall { .. }
            | Fault::BrokenJson { .. } => return None,
        };
        Some(problem)
    }

    pub(crate) fn too_long(tokens: u64, maximum: u64) -> Self {
        let words = format!("prompt is too long: {tokens} tokens > {maximum} maximum");
        Self::new(Kind::ContextTooLong, words)
    }
}
