//! What a delivery is answered: 202 with what it led to, or a problem document.

use std::fmt;
use std::time::Duration;

use axum::http::StatusCode;
use patchfleet_domain::TaskId;
use serde::Serialize;

use crate::intake::{IntakeError, Taken};
use crate::problem::Problem;
use crate::store::{Acted, Delivery};

/// When to come back after what is nobody's fault but ours.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// The body of a 202.
#[derive(Debug, Serialize)]
pub(super) struct Accepted {
    delivery: String,
    outcome: &'static str,
    /// Why nothing was done, or not yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Tasks that were created, changed or found to be there already.
    tasks: Vec<TaskId>,
}

impl Accepted {
    pub(super) fn new(delivery: Delivery, taken: Taken) -> Self {
        let (outcome, reason, tasks) = match taken {
            Taken::Acted(acted) => ("acted", None, tasks(&acted)),
            Taken::Ignored(reason) => ("ignored", Some(reason), Vec::new()),
            Taken::Duplicate => ("duplicate", None, Vec::new()),
            Taken::Deferred(reason) => ("deferred", Some(reason), Vec::new()),
        };
        Self {
            delivery: delivery.id,
            outcome,
            reason,
            tasks,
        }
    }

    pub(super) const fn word(&self) -> &'static str {
        self.outcome
    }
}

fn tasks(acted: &[Acted]) -> Vec<TaskId> {
    let task = |acted: &Acted| match acted {
        Acted::Created(task)
        | Acted::Changed(task, _)
        | Acted::Noted(task)
        | Acted::Exists(task) => Some(*task),
        Acted::Nothing | Acted::Replied => None,
    };
    acted.iter().filter_map(task).collect()
}

/// Why a delivery is not taken.
#[derive(Debug)]
pub(super) enum Refused {
    TooLarge,
    TooSlow,
    Crowded,
    Unreadable,
    Signature,
    MissingHeader(&'static str),
    Malformed(String),
    Undecided(IntakeError),
}

impl From<IntakeError> for Refused {
    fn from(error: IntakeError) -> Self {
        Self::Undecided(error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooLarge => f.write_str("the body is larger than 25 MiB"),
            Self::TooSlow => f.write_str("the body did not arrive within 10 seconds"),
            Self::Crowded => f.write_str("too many deliveries arrive at once"),
            Self::Unreadable => f.write_str("the body could not be read to its end"),
            Self::Signature => f.write_str("X-Hub-Signature-256 is missing or wrong"),
            Self::MissingHeader(name) => write!(f, "the header {name} is missing or odd"),
            Self::Malformed(what) => f.write_str(what),
            Self::Undecided(error) => error.fmt(f),
        }
    }
}

impl Refused {
    pub(super) const fn word(&self) -> &'static str {
        match self {
            Self::TooLarge => "too_large",
            Self::TooSlow => "too_slow",
            Self::Crowded | Self::Undecided(IntakeError::Crowded) => "crowded",
            Self::Unreadable | Self::MissingHeader(_) | Self::Malformed(_) => "bad_request",
            Self::Signature => "bad_signature",
            Self::Undecided(_) => "unavailable",
        }
    }

    /// The answer. What went wrong inside stays inside.
    pub(super) fn problem(&self) -> Problem {
        let (status, advice) = match self {
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "GitHub does not send more."),
            Self::TooSlow => (StatusCode::REQUEST_TIMEOUT, "Send it again."),
            Self::Crowded => return undecided(&IntakeError::Crowded),
            Self::Signature => (
                StatusCode::UNAUTHORIZED,
                "Set the same secret at GitHub's webhook and in `coordinator.github.webhook_secrets`.",
            ),
            Self::Unreadable | Self::MissingHeader(_) | Self::Malformed(_) => {
                (StatusCode::BAD_REQUEST, "Send it as GitHub does.")
            }
            Self::Undecided(error) => return undecided(error),
        };
        let what = capitalized(&self.to_string());
        Problem::new(status, format!("{what}. {advice}"))
    }
}

fn undecided(error: &IntakeError) -> Problem {
    let detail = match error {
        IntakeError::GitHub(_) | IntakeError::Behind => {
            "GitHub can't be asked now whether this counts; nothing was stored. Redeliver it later."
        }
        IntakeError::Store(_) => {
            "The database is unavailable; nothing was stored. Redeliver it later."
        }
        IntakeError::InDoubt(_) => {
            "The database did not confirm that this is stored, which it may be. Redeliver it later; \
             it counts once."
        }
        IntakeError::Crowded => {
            "Too many deliveries arrive at once; nothing was stored. Redeliver it later."
        }
    };
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
}

fn capitalized(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| {
        first.to_uppercase().collect::<String>() + letters.as_str()
    })
}
