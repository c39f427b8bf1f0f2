//! Refusals by the coordinator that no new try mends: what they mean to an operator, and when to
//! stop trying.

use std::time::Duration;

use patchfleet_domain::AgentId;
use patchfleet_proto::FREE_WITHIN;
use tokio::time::Instant;
use tonic::{Code, Status};
use url::Url;

use super::millis;

/// How much longer to try than the coordinator says that another process with this id may be
/// silent: its look at silence, and one of our pauses, come on top of that.
const RIVAL_SLACK: Duration = Duration::from_secs(5);
/// How long the coordinator's silence is taken to be when it does not say.
const RIVAL_SILENCE: Duration = Duration::from_mins(1);
/// How long an agent that was admitted before tries on: the coordinator may be in the middle of a
/// change of its key or of its version, and the agent has work.
const CHANGE_PATIENCE: Duration = Duration::from_mins(1);

/// Another process has this agent's id, and the coordinator takes one of them only.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "another process with the id `{id}` is connected to the coordinator at {coordinator}; end that \
     process, or give this agent an `id` of its own"
)]
pub struct IdTaken {
    pub(super) id: AgentId,
    pub(super) coordinator: Url,
}

/// The coordinator does not admit this agent: its key, its version or what it says of itself is
/// wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the coordinator at {coordinator} does not admit the agent `{id}`: {reason}")]
pub struct NotAdmitted {
    pub(super) id: AgentId,
    pub(super) coordinator: Url,
    pub(super) reason: String,
}

/// What follows from how a stream was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be admitted later.
    TryAgain,
    /// Another process has the id, and had the time to end.
    IdTaken,
    /// For this reason it will not be admitted until an operator changes something.
    NotAdmitted(String),
}

/// The refusals of one kind in a row.
#[derive(Debug, Default)]
pub(super) struct Refusals {
    first: Option<(Code, Instant)>,
}

impl Refusals {
    /// Forgets them: the agent was admitted.
    pub(super) const fn admitted(&mut self) {
        self.first = None;
    }

    /// Takes in how a stream was refused; `before` is true of an agent that was admitted before.
    pub(super) fn judge(&mut self, status: Option<&Status>, before: bool) -> Verdict {
        let Some((status, patience, last)) = status.and_then(|status| lasting(status, before))
        else {
            self.first = None;
            return Verdict::TryAgain;
        };
        let code = status.code();
        // Another kind of refusal begins anew.
        let first = self.first.filter(|(first, _)| *first == code);
        let (_, since) = *self.first.insert(first.unwrap_or((code, Instant::now())));
        let left = patience.saturating_sub(since.elapsed());
        if left.is_zero() {
            return last;
        }
        tracing::warn!(
            reason = status.message(),
            "the coordinator refuses this agent; trying again for {left:?}"
        );
        Verdict::TryAgain
    }
}

/// A refusal that does not pass by itself: for how long to try on nevertheless, and what it means.
fn lasting(status: &Status, before: bool) -> Option<(&Status, Duration, Verdict)> {
    let patience = if before {
        CHANGE_PATIENCE
    } else {
        Duration::ZERO
    };
    let said = status.message();
    match status.code() {
        // Often the other process is about to end: an agent that was started anew meets the one
        // before it, or what the coordinator has not noticed the end of yet.
        Code::AlreadyExists => {
            let silence = millis(status, FREE_WITHIN).unwrap_or(RIVAL_SILENCE);
            Some((status, silence + RIVAL_SLACK, Verdict::IdTaken))
        }
        Code::Unauthenticated | Code::PermissionDenied => {
            let reason = format!(
                "its key is wrong ({said}); `agents.coordinator.key` and the coordinator's \
                 `coordinator.fleet.key` have to be the same"
            );
            Some((status, patience, Verdict::NotAdmitted(reason)))
        }
        // Another version of the protocol, or a field that the coordinator does not take.
        Code::FailedPrecondition | Code::InvalidArgument => {
            let verdict = Verdict::NotAdmitted(said.to_owned());
            Some((status, patience, verdict))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id_taken() -> Status {
        let mut status = Status::already_exists("another process");
        let within = tonic::metadata::MetadataValue::from(30_000);
        status.metadata_mut().insert(FREE_WITHIN, within);
        status
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_agent_that_is_not_admitted_gives_up_at_once_and_says_why() {
        let mut refusals = Refusals::default();
        let wrong_key = Status::unauthenticated("authentication failed");
        let Verdict::NotAdmitted(reason) = refusals.judge(Some(&wrong_key), false) else {
            panic!("a wrong key stays wrong");
        };
        assert!(reason.contains("`coordinator.fleet.key`"), "{reason}");
        let old = Status::failed_precondition("run the same release of both");
        let verdict = Verdict::NotAdmitted("run the same release of both".to_owned());
        assert_eq!(refusals.judge(Some(&old), false), verdict);
        let away = Status::unavailable("the database is unavailable");
        assert_eq!(refusals.judge(Some(&away), false), Verdict::TryAgain);
        assert_eq!(refusals.judge(None, false), Verdict::TryAgain);
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_was_admitted_outlasts_a_change_of_the_coordinator() {
        let mut refusals = Refusals::default();
        let wrong_key = Status::unauthenticated("authentication failed");
        assert_eq!(refusals.judge(Some(&wrong_key), true), Verdict::TryAgain);
        tokio::time::advance(CHANGE_PATIENCE / 2).await;
        assert_eq!(refusals.judge(Some(&wrong_key), true), Verdict::TryAgain);
        refusals.admitted();
        tokio::time::advance(CHANGE_PATIENCE / 2).await;
        assert_eq!(refusals.judge(Some(&wrong_key), true), Verdict::TryAgain);
        tokio::time::advance(CHANGE_PATIENCE).await;
        let verdict = refusals.judge(Some(&wrong_key), true);
        assert!(matches!(verdict, Verdict::NotAdmitted(_)), "{verdict:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn another_process_with_the_id_gets_the_time_to_end() {
        let mut refusals = Refusals::default();
        assert_eq!(refusals.judge(Some(&id_taken()), false), Verdict::TryAgain);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(refusals.judge(Some(&id_taken()), false), Verdict::TryAgain);
        tokio::time::advance(RIVAL_SLACK).await;
        assert_eq!(refusals.judge(Some(&id_taken()), false), Verdict::IdTaken);
    }
}
