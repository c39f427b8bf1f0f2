//! Requests that got no answer, and what has to be charged for them.
//!
//! A provider bills what it generates, whether or not anybody is there any more to read it. So a request
//! that may have arrived is charged with an estimate of its prompt, and marked as estimated; only one
//! that never had a connection is free. Our own calls and those that a gateway passes on follow this one
//! rule. Absent: answers that were refused with a status, which are free, and streams that broke off,
//! which their decoder knows best.

use std::error::Error as StdError;
use std::time::Duration;

use patchfleet_guard::redact;

use crate::{Broken, ModelError, Target};

/// A request that was made and got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NoAnswer {
    error: ModelError,
    may_be_billed: bool,
}

impl NoAnswer {
    /// The connection could not be made, or broke.
    pub fn failed(error: &reqwest::Error) -> Self {
        let never_sent = error.is_connect() || error.is_builder();
        Self {
            error: away(error),
            may_be_billed: !never_sent,
        }
    }

    /// The time was over before the answer began.
    pub const fn timed_out(limit: Duration) -> Self {
        Self {
            error: ModelError::TimedOut { limit },
            may_be_billed: true,
        }
    }

    /// Something else became of it after it was sent: whoever asked went away, or what came is no answer.
    pub const fn lost(error: ModelError) -> Self {
        Self {
            error,
            may_be_billed: true,
        }
    }
}

impl Target {
    /// What a request of so many bytes came to that got no answer, with what has to be charged for it.
    pub fn unanswered(&self, no_answer: NoAnswer, sent: usize) -> Broken {
        let NoAnswer {
            error,
            may_be_billed,
        } = no_answer;
        let broken = if may_be_billed {
            let mut decoder = self.decoder(sent);
            decoder.fail(error.clone());
            decoder.end().err()
        } else {
            None
        };
        Broken {
            tries: 1,
            ..broken.unwrap_or_else(|| Broken::new(error))
        }
    }
}

/// The error of a connection.
pub(crate) fn away(error: &reqwest::Error) -> ModelError {
    ModelError::Away {
        transport: redact(&chain(error)).into_owned(),
    }
}

/// An error with its causes, each once.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text
}
