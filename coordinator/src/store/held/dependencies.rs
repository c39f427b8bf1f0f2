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
    /// Its newest task and where that stands, if it has one.
    pub(in crate::store) task: Option<(TaskId, TaskState)>,
}

impl Prerequisite {
    /// The task, while there is one to wait for.
    pub(in crate::store) fn active(&self) -> Option<TaskId> {
        let (task, state) = self.task?;
        state.is_active().then_some(task)
    }

    /// There is nothing to wait for, although it is not known to be done.
    fn is_gone(&self) -> bool {
        self.task.is_none() || self.is(TaskState::Cancelled)
    }

    fn is(&self, wanted: TaskState) -> bool {
        self.task.is_some_and(|(_, state)| state == wanted)
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
        for none in first.iter().filter(|it| it.is_gone()) {
            let told = format!("#{} has no task to wait for", none.issue);
            self.note("note", (ACTOR, &told));
        }
        let failed = first.iter().find(|it| it.is(TaskState::Failed));
        let failed = failed.filter(|_| analysis.on_dependency_failure == FailurePolicy::Cancel);
        let waits_for: Vec<_> = first.iter().filter(|it| it.active().is_some()).collect();
        if let Some(cycle) = cycle {
            let why = format!("it would wait for itself: {cycle}");
            self.stop(TaskState::Failed, FailureKind::DependencyCycle, why)?;
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
        }
        Ok(Cas::Applied(()))
    }

    /// Tasks that this one waits for have ended, and `left` others have not.
    pub(in crate::store) fn released(&mut self, ended: &[Task], left: usize) -> StoreResult<()> {
        let waits = self.task.wait_reason == Some(WaitReason::Dependency);
        if self.task.state != TaskState::Waiting || !waits {
            return Ok(());
        }
        let analysis = self.task.analysis.as_ref();
        let policy = analysis.map_or_else(FailurePolicy::default, |it| it.on_dependency_failure);
        let bad = ended.iter().find(|it| it.state != TaskState::Completed);
        if let Some(bad) = bad.filter(|_| policy == FailurePolicy::Cancel) {
            let why = format!(
                "{}, which has to be done first, is {}",
                name(bad),
                bad.state
            );
            return self.stop(TaskState::Cancelled, FailureKind::DependencyFailed, why);
        }
        let told: Vec<_> = ended
            .iter()
            .map(|it| format!("{} is {}", name(it), it.state))
            .collect();
        let told = told.join(", ");
        if left == 0 {
            return self.go(TaskState::Queued, &told);
        }
        self.note("note", (ACTOR, &told));
        Ok(())
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
