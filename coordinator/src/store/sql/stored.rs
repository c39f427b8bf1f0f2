//! What is known to be stored of a task that is held, so that only the difference is written.

use patchfleet_domain::outcome::{Failure, PullRequestRef};
use patchfleet_domain::{
    AttemptNumber, Priority, Returns, Spent, TaskAnalysis, TaskState, Timestamp, WaitReason,
};

use crate::store::held::{Attempt, ClosedEarly, Held};

/// What of a held task is in the store, as far as it may change: the difference is written.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) standing: Standing,
    pub(super) findings: Findings,
    pub(super) attempt: Option<Attempt>,
    /// Of the task's row, where it is known.
    pub(super) version: Option<Version>,
    /// It was not read, but is what this process wrote last.
    pub(super) is_assumed: bool,
    /// This transaction inserted its row.
    pub(super) is_new: bool,
    /// The task was active when this transaction held it first.
    pub(super) was_active: bool,
}

/// What tells one version of a row from the next.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub(super) struct Version(pub(super) String);

/// What changes of a task with its state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    pub(super) state: TaskState,
    pub(super) attempt: AttemptNumber,
    wait_reason: Option<WaitReason>,
    failures: u32,
    priority: Priority,
    updated_at: Timestamp,
}

/// What is long and changes once or twice in a task's life.
#[derive(Debug, PartialEq)]
pub(super) struct Findings {
    analysis: Option<TaskAnalysis>,
    pull_request: Option<PullRequestRef>,
    failure: Option<Failure>,
    summary: Option<String>,
    returns: Returns,
    spent: Spent,
    closed: Option<ClosedEarly>,
}

impl Standing {
    pub(super) fn of(held: &Held) -> Self {
        let task = &held.task;
        Self {
            state: task.state,
            attempt: task.attempt,
            wait_reason: task.wait_reason,
            failures: task.failures,
            priority: task.priority,
            updated_at: task.updated_at,
        }
    }
}

impl Findings {
    fn of(held: &Held) -> Self {
        let task = &held.task;
        Self {
            analysis: task.analysis.clone(),
            pull_request: task.pull_request.clone(),
            failure: task.failure.clone(),
            summary: task.summary.clone(),
            returns: task.returns.clone(),
            spent: task.spent,
            closed: held.closed,
        }
    }

    /// True when the task still has the same.
    pub(super) fn are_of(&self, held: &Held) -> bool {
        let task = &held.task;
        self.analysis == task.analysis
            && self.pull_request == task.pull_request
            && self.failure == task.failure
            && self.summary == task.summary
            && self.returns == task.returns
            && self.spent == task.spent
            && self.closed == held.closed
    }
}

impl Stored {
    pub(super) fn of(held: &Held, version: Option<Version>) -> Self {
        Self {
            standing: Standing::of(held),
            findings: Findings::of(held),
            attempt: held.attempt.clone(),
            version,
            is_assumed: false,
            is_new: false,
            was_active: held.task.state.is_active(),
        }
    }
}
