//! A task that a transaction holds: what happens to it is decided here, in memory, and written
//! in one go when the transaction ends. Pure.
//!
//! [`Held`] is the task with its newest attempt; [`Changes`] is what the transaction will add
//! beside them. Every change of state goes through [`Held::follow`], which checks it against the
//! table of transitions and tells it in the history, so no caller can forget either.

mod budget;
mod commands;
mod dependencies;
mod history;
mod log;
mod report;
mod returns;

use std::mem;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta};
use patchfleet_domain::outcome::{Failure, TestVerdict};
use patchfleet_domain::{
    AgentId, AgentType, AttemptNumber, Returns, Spent, Task, TaskId, TaskKind, TaskState,
    Timestamp, Usage, Work,
};

use super::rules::{Closed, Course};
use super::work::rests;
use super::{Checkpoint, NewTask, QueuedTask, StoreError, StoreResult};

pub(super) use commands::ClosedPull;
pub(super) use dependencies::{Ended, Prerequisite, Standing, may_reopen, name};
pub(super) use log::{LogCut, LogLine};

/// A task that nobody else changes until the transaction ends.
#[derive(Debug)]
pub(super) struct Held {
    pub(super) task: Task,
    /// The newest attempt, once there is one.
    pub(super) attempt: Option<Attempt>,
    /// A pull request on the task's branch was closed before the task reported it.
    pub(super) closed: Option<ClosedEarly>,
    /// The database's clock when the transaction began.
    pub(super) now: Timestamp,
    /// When the task may be claimed, if it is to be queued.
    pub(super) not_before: Option<Timestamp>,
    /// What is to be added beside the task.
    pub(super) changes: Changes,
}

/// An attempt as far as deciding needs it, and what is to be written of it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Attempt {
    pub(super) number: AttemptNumber,
    pub(super) agent: AgentId,
    pub(super) lease_until: Timestamp,
    /// The highest report applied.
    pub(super) last_seq: u64,
    /// Volume of everything that was ever added to its log, in bytes.
    pub(super) log_volume: u64,
    /// Volume of everything that agents were ever to write to the task's history, in bytes; it goes on
    /// from attempt to attempt.
    pub(super) history_volume: u64,
    /// How it ended; an attempt that had ended when it was read tells no details.
    pub(super) end: Option<End>,
    pub(super) tests_before: Option<TestVerdict>,
    pub(super) tests_after: Option<TestVerdict>,
}

/// An attempt's end.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct End {
    /// An outcome's word, `refused`, `lost`, `cancelled`.
    pub(super) outcome: String,
    /// How it failed, if it did.
    pub(super) failure: Option<Failure>,
}

/// What is remembered of a pull request that was closed before its task reported it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ClosedEarly {
    /// Its number.
    pub(super) number: Option<u64>,
    /// How it ended.
    pub(super) how: Closed,
}

impl ClosedEarly {
    /// How the pull request `number` ended, if it is the one: an earlier attempt may have opened
    /// another one on the same branch.
    fn of_pull(self, number: u64) -> Option<Closed> {
        let same = self.number.is_none_or(|closed| closed == number);
        same.then_some(self.how)
    }
}

/// Rows that a transaction adds beside a task and its attempt, in the order of their making.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) events: Vec<Event>,
    pub(super) logs: Vec<LogLine>,
    /// What of the log has to make room for its newest lines.
    pub(super) log_cut: Option<LogCut>,
    /// Outputs of nodes, to be kept after [`Self::discards_checkpoints`] was done.
    pub(super) checkpoints: Vec<Checkpoint>,
    /// What was kept before is to be forgotten.
    pub(super) discards_checkpoints: bool,
    /// What models used, to be settled with the budgets.
    pub(super) usages: Vec<(Work, Usage)>,
    /// Tasks that have to end first.
    pub(super) waits_for: Vec<TaskId>,
    /// Issues that have to be done first and that no task is at work on.
    pub(super) waits_for_issues: Vec<u64>,
    /// The status comment and the labels are to be brought up to date.
    pub(super) tells: bool,
    /// The loops of this process are to look at it.
    pub(super) wakes: bool,
    /// The states that it came into.
    pub(super) moves: Vec<Move>,
}

/// A row of history.
#[derive(Debug)]
pub(super) struct Event {
    pub(super) attempt: AttemptNumber,
    pub(super) kind: &'static str,
    pub(super) from: Option<TaskState>,
    pub(super) to: Option<TaskState>,
    pub(super) actor: String,
    pub(super) detail: String,
}

/// A task came into a state; counted once that is durable.
#[derive(Debug)]
pub(super) struct Move {
    pub(super) to: TaskState,
    pub(super) kind: TaskKind,
    pub(super) agent_type: Option<AgentType>,
    /// Since the task was taken in.
    pub(super) after: TimeDelta,
}

impl Held {
    /// A task as it was read.
    pub(super) fn new(task: Task, closed: Option<ClosedEarly>, now: Timestamp) -> Self {
        Self {
            task,
            attempt: None,
            closed,
            now,
            not_before: None,
            changes: Changes::default(),
        }
    }

    /// A task that was just inserted, in `pending`.
    pub(super) fn created(new: &NewTask, now: Timestamp) -> Self {
        let task = Task {
            id: new.id,
            kind: new.kind,
            state: TaskState::Pending,
            wait_reason: None,
            attempt: AttemptNumber(0),
            failures: 0,
            max_attempts: new.max_attempts,
            priority: new.priority,
            repository: new.repository.clone(),
            issue: new.issue,
            branch: new.branch.clone(),
            request: new.request.clone(),
            analysis: None,
            pull_request: None,
            failure: None,
            summary: None,
            returns: Returns::default(),
            spent: Spent::default(),
            traceparent: new.traceparent.clone(),
            created_at: now,
            updated_at: now,
        };
        let mut held = Self::new(task, None, now);
        let actor = &new.request.triggered_by;
        let detail = format!("{} by {actor}", new.key.trigger);
        held.enter(None, "created", (actor, &detail));
        held.changes.tells = true;
        held
    }

    /// True when that attempt is the task's and has its lease.
    pub(super) fn is_live(&self, work: Work) -> bool {
        self.task.attempt == work.attempt && self.task.state.has_live_attempt()
    }

    /// The task as the planner needs it, if it may be claimed at once.
    pub(super) fn claimable(&self) -> Option<QueuedTask> {
        let task = &self.task;
        let may =
            task.state == TaskState::Queued && self.not_before.is_some_and(|at| at <= self.now);
        let analysis = task.analysis.as_ref().filter(|_| may)?;
        Some(QueuedTask {
            id: task.id,
            attempt: task.attempt,
            priority: task.priority,
            repository: task.repository.clone(),
            requirement: Arc::new(analysis.requirement.clone()),
            waited: Duration::ZERO,
            rests: rests(&task.returns, self.now),
        })
    }

    /// What is to be written, taken out.
    pub(super) fn take_changes(&mut self) -> Changes {
        mem::take(&mut self.changes)
    }

    /// Sends the task along a course.
    ///
    /// # Errors
    /// When the table of transitions does not have a step of it: what is stored is then not what
    /// this version expects.
    pub(super) fn follow(&mut self, course: &Course, told: (&str, &str)) -> StoreResult<()> {
        let before = self.task.state;
        for &to in &course.states {
            let from = self.task.state;
            self.task.state = from
                .transition(to)
                .map_err(|error| StoreError::Corrupt(format!("task {}: {error}", self.task.id)))?;
            self.task.wait_reason = None;
            self.task.updated_at = self.now;
            self.enter(Some(from), "state", told);
        }
        if course.states.contains(&TaskState::Queued) {
            self.not_before = Some(later(self.now, course.pause));
        }
        self.changes.wakes = true;
        self.changes.tells |= !is_same_to_people(before, self.task.state);
        Ok(())
    }

    fn enter(&mut self, from: Option<TaskState>, kind: &'static str, told: (&str, &str)) {
        let to = self.task.state;
        let analysis = self.task.analysis.as_ref();
        self.changes.moves.push(Move {
            to,
            kind: self.task.kind,
            agent_type: analysis.map(|it| it.requirement.agent_type.clone()),
            after: self.now - self.task.created_at,
        });
        self.event(kind, (from, Some(to)), told);
    }

    /// Ends the live attempt with a word, and with the failure that was its own.
    fn end_attempt(&mut self, outcome: &str, failure: Option<Failure>) {
        if let Some(attempt) = &mut self.attempt {
            attempt.end.get_or_insert(End {
                outcome: outcome.to_owned(),
                failure,
            });
        }
    }

    /// Forgets what led to a failure.
    fn discard_checkpoints(&mut self) {
        self.changes.checkpoints.clear();
        self.changes.discards_checkpoints = true;
    }
}

/// True of changes of state that cost no request on GitHub, where the label stays the same and nobody is
/// asked for anything: an offer to an agent and its coming back, and each round of drafting and testing.
/// Whatever is told next tells of them as well.
const fn is_same_to_people(before: TaskState, after: TaskState) -> bool {
    use TaskState::{Assigned, InProgress, Queued, Testing};
    matches!(
        (before, after),
        (Queued | Assigned, Queued | Assigned) | (InProgress | Testing, InProgress | Testing)
    )
}

/// A moment after another; the last one there is, rather than one that can't be told.
fn later(from: Timestamp, by: Duration) -> Timestamp {
    TimeDelta::from_std(by)
        .ok()
        .and_then(|by| from.checked_add_signed(by))
        .unwrap_or(DateTime::<chrono::Utc>::MAX_UTC)
}
