//! What the stub answers, step by step.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use patchfleet_proto::v1;
use patchfleet_proto::v1::report::Event;

use super::attempts::Reconciled;

/// A kind of report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The assignment is accepted.
    Accept,
    /// The assignment is refused.
    Refuse,
    /// A phase began.
    Progress,
    /// Output.
    Log,
    /// A node finished.
    Checkpoint,
    /// A model was used.
    Usage,
    /// The attempt ended.
    Finished,
}

impl Step {
    /// The kind of a report; none when it says nothing.
    pub fn of(report: &v1::Report) -> Option<Self> {
        Some(match report.event.as_ref()? {
            Event::Accept(_) => Self::Accept,
            Event::Refuse(_) => Self::Refuse,
            Event::Progress(_) => Self::Progress,
            Event::Log(_) => Self::Log,
            Event::Checkpoint(_) => Self::Checkpoint,
            Event::Usage(_) => Self::Usage,
            Event::Finished(_) => Self::Finished,
        })
    }
}

/// How a report is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Answer {
    /// It is durable.
    #[default]
    Ack,
    /// Nothing is said.
    Silence,
    /// The attempt is not the agent's any more.
    Stale,
    /// The stream is cut before anything is said.
    Cut,
}

/// What becomes of the attempts that an agent wants to resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Resume {
    /// Those that are still the agent's are kept.
    #[default]
    Keep,
    /// All are dropped.
    Drop,
}

/// All answers of a stub.
#[derive(Debug, Clone, PartialEq)]
pub struct Answers {
    /// The key that agents have to show.
    pub key: String,
    /// `Welcome.lease_ttl_ms`.
    pub lease_ttl: Duration,
    /// `Welcome.heartbeat_interval_ms`.
    pub heartbeat_interval: Duration,
    /// Whether heartbeats are answered with `Renewed`.
    pub renew: bool,
    /// Streams that may be open at once.
    pub max_agents: usize,
    /// What becomes of the attempts in `Register.resume`.
    pub resume: Resume,
    /// How reports are answered; those that are not named are acknowledged.
    pub reports: BTreeMap<Step, Answer>,
    /// How the next ones are answered, before `reports` is asked.
    pub once: BTreeMap<Step, VecDeque<Answer>>,
    /// What a request for a credential gets: a token, or why there is none.
    pub credential: Result<v1::Token, String>,
    /// How many calls of models are allowed; the next one exceeds the task's budget.
    pub reservations: usize,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            key: "stub-fleet-key".to_owned(),
            lease_ttl: Duration::from_secs(30),
            heartbeat_interval: Duration::from_millis(200),
            renew: true,
            max_agents: 1000,
            resume: Resume::Keep,
            reports: BTreeMap::new(),
            once: BTreeMap::new(),
            credential: Err("the stub was given no token".to_owned()),
            reservations: usize::MAX,
        }
    }
}

impl Answers {
    /// The answer to a report of that kind; uses up what was asked for once.
    pub(super) fn next(&mut self, step: Step) -> Answer {
        let once = self.once.get_mut(&step).and_then(VecDeque::pop_front);
        once.unwrap_or_else(|| self.reports.get(&step).copied().unwrap_or_default())
    }

    /// The answer to a registration that keeps and drops those attempts.
    pub(super) fn welcome(&self, stream: usize, reconciled: &Reconciled) -> v1::Welcome {
        v1::Welcome {
            session: format!("stub-{stream}"),
            lease_ttl_ms: millis(self.lease_ttl),
            heartbeat_interval_ms: millis(self.heartbeat_interval),
            keep: reconciled.keep.clone(),
            drop: reconciled.drop.clone(),
        }
    }

    /// The token for a live attempt, or why there is none.
    pub(super) fn credential(&self, scope: v1::CredentialScope) -> Result<v1::Token, String> {
        if scope == v1::CredentialScope::Unspecified {
            return Err("field `credential_request.scope` is missing".to_owned());
        }
        self.credential.clone()
    }

    /// Whether a call of a model is allowed.
    pub(super) fn reservation(&mut self) -> v1::reservation::Answer {
        use v1::reservation::Answer;
        match self.reservations.checked_sub(1) {
            Some(left) => {
                self.reservations = left;
                Answer::Granted(v1::Granted {})
            }
            None => Answer::Exceeded(v1::BudgetExceeded {
                scope: "task".to_owned(),
                message: "the budget of this task is spent".to_owned(),
                tokens_left: Some(0),
                cost_micros_left: Some(0),
            }),
        }
    }

    /// How long an agent may say nothing.
    pub(super) fn silence(&self) -> Duration {
        self.lease_ttl.max(self.heartbeat_interval * 3)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
