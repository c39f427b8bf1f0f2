//! Tasks that come after others: what holds them back, and what the end of another does to them.

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{
    FailureKind, FailurePolicy, Task, TaskAnalysis, TaskId, TaskState, WaitReason,
};

use super::Held;
use crate::store::rules::Course;
use crate::store::{Cas, StoreResult};

/// Who says what is said here.
const ACTOR: &str = "coordinator";

/// An issue that has to be done first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) struct Prerequisite {
    /// Its number.
    pub(in crate::store) issue: u64,
    /// How it stands.
    pub(in crate::store) standing: Standing,
}

/// How an issue stands that has to be done first, by its newest task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Standing {
    /// It has no task; the issue itself is waited for.
    Undecided,
    /// Its task was called off, or its pull request is closed and may be opened again. The issue itself
    /// is waited for, unless a failure would be passed over.
    Stopped,
    /// That task is active, and is waited for.
    Active(TaskId),
    /// Its task is completed.
    Done,
    /// Its task failed.
    Failed,
}

impl Standing {
    /// How an issue stands whose newest task is that.
    pub(in crate::store) fn of(newest: Option<&Task>) -> Self {
        let Some(task) = newest else {
            return Self::Undecided;
        };
        match task.state {
            TaskState::Completed => Self::Done,
            TaskState::Cancelled => Self::Stopped,
            TaskState::Failed if may_reopen(task) => Self::Stopped,
            TaskState::Failed => Self::Failed,
            _ => Self::Active(task.id),
        }
    }
}

impl Prerequisite {
    /// The task, while there is one to wait for.
    pub(in crate::store) const fn active(&self) -> Option<TaskId> {
        match self.standing {
            Standing::Active(task) => Some(task),
            Standing::Undecided | Standing::Stopped | Standing::Done | Standing::Failed => None,
        }
    }

    fn is(&self, wanted: Standing) -> bool {
        self.standing == wanted
    }

    /// True when the issue itself is waited for.
    fn is_awaited(&self, policy: FailurePolicy) -> bool {
        match self.standing {
            Standing::Undecided => true,
            Standing::Stopped => policy == FailurePolicy::Cancel,
            Standing::Active(_) | Standing::Done | Standing::Failed => false,
        }
    }
}

/// True of a task that failed because its pull request was closed: nothing is decided by that, since
/// whoever closed a pull request may open it again.
pub(in crate::store) fn may_reopen(task: &Task) -> bool {
    let kind = task.failure.as_ref().map(|failure| failure.kind);
    task.state == TaskState::Failed && kind == Some(FailureKind::PullRequestClosed)
}

/// The end of something that tasks wait for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct Ended {
    /// How people know it.
    pub(in crate::store) name: String,
    /// How it ended, in a word or a few.
    pub(in crate::store) how: String,
    /// What waited for it may begin.
    pub(in crate::store) is_done: bool,
}

impl Ended {
    /// The end of a task.
    pub(in crate::store) fn of(task: &Task) -> Self {
        Self {
            name: name(task),
            how: task.state.to_string(),
            is_done: task.state == TaskState::Completed,
        }
    }
}

impl Held {
    /// Stores what was found out: by way of `analyzing` to `queued`, unless something has to be
    /// done `first`. A task that would wait for itself fails; `cycle` names the way.
    pub(in crate::store) fn analyzed(
        &mut self,
        analysis: &TaskAnalysis,
        first: &[Prerequisite],
        cycle: Option<&str>,
    ) -> StoreResult<Cas> {
        let reasons = analysis.reasons.join("; ");
        match self.task.state {
            TaskState::Pending => self.go(TaskState::Analyzing, &reasons)?,
            TaskState::Analyzing => {}
            _ => return Ok(Cas::Stale),
        }
        self.task.priority = analysis.priority;
        self.task.analysis = Some(analysis.clone());
        let policy = analysis.on_dependency_failure;
        let failed = first.iter().find(|it| it.is(Standing::Failed));
        let failed = failed.filter(|_| policy == FailurePolicy::Cancel);
        let waits = |it: &&Prerequisite| it.active().is_some() || it.is_awaited(policy);
        let waits_for: Vec<_> = first.iter().filter(waits).collect();
        if let Some(cycle) = cycle {
            self.stop_in_cycle(cycle)?;
        } else if let Some(failed) = failed {
            let why = format!("#{}, which has to be done first, failed", failed.issue);
            self.stop(TaskState::Cancelled, FailureKind::DependencyFailed, why)?;
        } else if waits_for.is_empty() {
            self.go(TaskState::Queued, &reasons)?;
        } else {
            let names: Vec<_> = waits_for
                .iter()
                .map(|it| format!("#{}", it.issue))
                .collect();
            self.go(TaskState::Waiting, &format!("for {}", names.join(", ")))?;
            self.task.wait_reason = Some(WaitReason::Dependency);
            self.changes.waits_for = waits_for.iter().filter_map(|it| it.active()).collect();
            let awaited = waits_for.iter().filter(|it| it.is_awaited(policy));
            self.changes.waits_for_issues = awaited.map(|it| it.issue).collect();
        }
        Ok(Cas::Applied(()))
    }

    /// Ends a task that can't be analyzed, because its repository says what can't be.
    pub(in crate::store) fn refuse(&mut self, failure: &Failure) -> StoreResult<Cas> {
        match self.task.state {
            TaskState::Pending => self.go(TaskState::Analyzing, "")?,
            TaskState::Analyzing => {}
            _ => return Ok(Cas::Stale),
        }
        self.go(TaskState::Failed, &failure.message)?;
        self.task.failure = Some(failure.clone());
        Ok(Cas::Applied(()))
    }

    /// True while the task waits for something that has to be done first.
    pub(in crate::store) fn waits_for_others(&self) -> bool {
        let waits = self.task.wait_reason == Some(WaitReason::Dependency);
        self.task.state == TaskState::Waiting && waits
    }

    /// An issue that this task waits for is worked on by a task now, which is waited for instead.
    pub(in crate::store) fn waits_for_task(
        &mut self,
        (issue, task): (u64, TaskId),
        cycle: Option<&str>,
    ) -> StoreResult<()> {
        if !self.waits_for_others() {
            return Ok(());
        }
        if let Some(cycle) = cycle {
            return self.stop_in_cycle(cycle);
        }
        self.changes.waits_for.push(task);
        self.note("note", (ACTOR, &format!("a task is at work on #{issue}")));
        Ok(())
    }

    /// The pull request of a task that this one waits for was closed; the issue is waited for.
    pub(in crate::store) fn waits_for_issue(&mut self, closed: &Task) {
        if !self.waits_for_others() {
            return;
        }
        let told = format!(
            "the pull request of {} is closed; it may be opened again",
            name(closed)
        );
        self.changes
            .waits_for_issues
            .extend(closed.issue.map(|issue| issue.0));
        self.note("note", (ACTOR, &told));
    }

    /// What this task waits for has ended, and `left` others have not.
    pub(in crate::store) fn released(&mut self, ended: &[Ended], left: usize) -> StoreResult<()> {
        if !self.waits_for_others() {
            return Ok(());
        }
        let policy = self.on_dependency_failure();
        let bad = ended.iter().find(|it| !it.is_done);
        if let Some(bad) = bad.filter(|_| policy == FailurePolicy::Cancel) {
            let why = format!("{}, which has to be done first, is {}", bad.name, bad.how);
            return self.stop(TaskState::Cancelled, FailureKind::DependencyFailed, why);
        }
        let told: Vec<_> = ended
            .iter()
            .map(|it| format!("{} is {}", it.name, it.how))
            .collect();
        let told = told.join(", ");
        if left == 0 {
            return self.go(TaskState::Queued, &told);
        }
        self.note("note", (ACTOR, &told));
        Ok(())
    }

    /// What becomes of this task when something that it waits for fails.
    pub(in crate::store) fn on_dependency_failure(&self) -> FailurePolicy {
        let analysis = self.task.analysis.as_ref();
        analysis.map_or_else(FailurePolicy::default, |it| it.on_dependency_failure)
    }

    fn stop_in_cycle(&mut self, cycle: &str) -> StoreResult<()> {
        let why = format!("it would wait for itself: {cycle}");
        self.stop(TaskState::Failed, FailureKind::DependencyCycle, why)
    }

    fn go(&mut self, to: TaskState, told: &str) -> StoreResult<()> {
        self.follow(&Course::through(&[to]), (ACTOR, told))
    }

    fn stop(&mut self, to: TaskState, kind: FailureKind, message: String) -> StoreResult<()> {
        self.go(to, &message)?;
        self.task.failure = Some(Failure {
            kind,
            message,
            retryable: false,
            discard_checkpoints: false,
        });
        Ok(())
    }
}

/// How people know a task.
pub(in crate::store) fn name(task: &Task) -> String {
    let issue = task.issue.map(|issue| format!("#{issue}"));
    issue.unwrap_or_else(|| format!("task {}", task.id))
}
