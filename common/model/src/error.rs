//! How a call of a model fails, as callers need to tell it apart.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::Usage;

/// A call that gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ModelError {
    /// Too many requests or tokens in a short time.
    #[error("the provider's rate limit is reached{}", next_try(*after))]
    RateLimited {
        /// How long the provider asks to be left alone, if it says so.
        after: Option<Duration>,
    },
    /// The account has nothing left to spend. Trying again within the task is no use.
    #[error("the account's quota at the provider is used up{}; raise it there or choose another model", until.map(|at| format!(" until {}", at.to_rfc3339())).unwrap_or_default())]
    Quota {
        /// When there is more, if the provider says so.
        until: Option<DateTime<Utc>>,
    },
    /// The provider is too busy or broken for the moment.
    #[error("the provider is overloaded{}", next_try(*after))]
    Overloaded {
        /// How long it asks to be left alone, if it says so.
        after: Option<Duration>,
    },
    /// The conversation does not fit into the model's window.
    #[error("the conversation is longer than the model's window{}", limit.map(|limit| format!(" of {limit} tokens")).unwrap_or_default())]
    ContextTooLong {
        /// The window in tokens, if the provider says so.
        limit: Option<u64>,
    },
    /// The answer reached the limit of the output before its end.
    #[error("the answer was cut at the output limit; raise `max_output`")]
    OutputCut,
    /// The model or the provider's filter refused.
    #[error("the model refused: {why}")]
    Refused {
        /// The provider's words.
        why: String,
    },
    /// The key is missing, wrong, or may not do this.
    #[error("the provider does not accept the key: {why}")]
    Authentication {
        /// The provider's words.
        why: String,
    },
    /// The provider has no such model, or nothing is at the address.
    #[error("the provider does not have the model {why}")]
    UnknownModel {
        /// The name that was asked for, and the provider's words.
        why: String,
    },
    /// The model does not take a parameter or feature that it was sent.
    #[error("the model does not take `{parameter}`")]
    Unsupported {
        /// The parameter or feature.
        parameter: String,
    },
    /// The provider takes the request for wrong, for a reason that has no class of its own.
    #[error("the provider refused the request: {why}")]
    Rejected {
        /// The provider's words.
        why: String,
    },
    /// The answer can't be understood, or ended before its end.
    #[error("the provider's answer can't be used: {what}")]
    Malformed {
        /// What is wrong with it.
        what: String,
    },
    /// The conversation itself is not valid; it was not sent.
    #[error("the conversation is not valid: {pairing}")]
    History {
        /// What does not fit together.
        pairing: String,
    },
    /// The provider can't be reached, or the connection broke.
    #[error("the provider can't be reached: {transport}")]
    Away {
        /// What happened to the connection.
        transport: String,
    },
    /// The answer did not begin, or not end, in the time that it may take.
    #[error("the answer took longer than the {limit:?} of `answer_timeout`")]
    TimedOut {
        /// The time that it may take.
        limit: Duration,
    },
    /// A budget does not allow the call; it was not made.
    #[error("the budget of {scope} does not allow another call")]
    Budget {
        /// Whose budget: a task, a repository, a user or a day.
        scope: String,
    },
    /// The caller does not want the answer any more.
    #[error("the call was cancelled")]
    Cancelled,
}

fn next_try(after: Option<Duration>) -> String {
    after
        .map(|after| format!("; next try in {:.1} s", after.as_secs_f64()))
        .unwrap_or_default()
}

impl ModelError {
    /// The word for metrics and stored records.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::RateLimited { .. } => "rate_limited",
            Self::Quota { .. } => "quota",
            Self::Overloaded { .. } => "overloaded",
            Self::ContextTooLong { .. } => "context_too_long",
            Self::OutputCut => "output_cut",
            Self::Refused { .. } => "refused",
            Self::Authentication { .. } => "authentication",
            Self::UnknownModel { .. } => "unknown_model",
            Self::Unsupported { .. } => "unsupported",
            Self::Rejected { .. } => "rejected",
            Self::Malformed { .. } => "malformed",
            Self::History { .. } => "history",
            Self::Away { .. } => "away",
            Self::TimedOut { .. } => "timed_out",
            Self::Budget { .. } => "budget",
            Self::Cancelled => "cancelled",
        }
    }

    /// True when the same call may succeed a little later.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::RateLimited { .. } | Self::Overloaded { .. } | Self::Away { .. } => true,
            Self::Quota { .. }
            | Self::ContextTooLong { .. }
            | Self::Malformed { .. }
            | Self::OutputCut
            | Self::Refused { .. }
            | Self::Authentication { .. }
            | Self::UnknownModel { .. }
            | Self::Unsupported { .. }
            | Self::Rejected { .. }
            | Self::History { .. }
            // The same again would take as long, and cost as much.
            | Self::TimedOut { .. }
            | Self::Budget { .. }
            | Self::Cancelled => false,
        }
    }
}

/// A call that broke off, with everything that is known of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{error}{}", effort(*tries, *waited))]
pub struct Broken {
    /// Why.
    pub error: ModelError,
    /// What it used, over all tries; an estimate where the provider did not get to report it.
    pub usage_so_far: Usage,
    /// The text that was received.
    pub text_so_far: String,
    /// True when a piece of the answer had been received, so that the call can't be made again
    /// without paying for that piece twice.
    pub started: bool,
    /// Whether the provider says that trying again helps, when it says anything.
    pub advice: Option<bool>,
    /// How many requests were sent.
    pub tries: u32,
    /// How long the call waited between them.
    pub waited: Duration,
}

fn effort(tries: u32, waited: Duration) -> String {
    match tries {
        0 | 1 => String::new(),
        _ => format!(
            " (after {tries} tries and {:.1} s of waiting)",
            waited.as_secs_f64()
        ),
    }
}

impl Broken {
    /// A call that failed before anything was received.
    pub fn new(error: ModelError) -> Self {
        Self {
            error,
            usage_so_far: Usage::default(),
            text_so_far: String::new(),
            started: false,
            advice: None,
            tries: 0,
            waited: Duration::ZERO,
        }
    }
}

impl From<ModelError> for Broken {
    fn from(error: ModelError) -> Self {
        Self::new(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_how_long_to_wait_and_what_was_tried() {
        let after = Some(Duration::from_millis(1500));
        let mut broken = Broken::new(ModelError::RateLimited { after });
        assert_eq!(
            broken.to_string(),
            "the provider's rate limit is reached; next try in 1.5 s"
        );
        broken.tries = 3;
        broken.waited = Duration::from_secs(4);
        assert!(
            broken
                .to_string()
                .ends_with("(after 3 tries and 4.0 s of waiting)")
        );
        let bare = ModelError::Quota { until: None }.to_string();
        assert!(bare.contains("used up; raise it there"), "{bare}");
    }
}
