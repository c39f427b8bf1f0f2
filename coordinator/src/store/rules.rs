//! What follows from what: the store's decisions without the SQL. Pure.

use std::time::Duration;

use patchfleet_domain::outcome::{Failure, FailureKind, Outcome};
use patchfleet_domain::{Task, TaskState};

/// The longest pause before a failed task is tried again.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How a task goes on: the states it passes, in order, and when it may be claimed again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Course {
    /// Each may follow the one before by the table of transitions.
    pub(super) states: Vec<TaskState>,
    /// A pause before the task may be claimed, if it is queued again.
    pub(super) pause: Duration,
}

impl Course {
    /// Without a pause.
    pub(super) fn through(states: &[TaskState]) -> Self {
        Self {
            states: states.to_vec(),
            pause: Duration::ZERO,
        }
    }
}

/// The way of a successful attempt: to `review` through `testing` only, as the table has it, and
/// past it when the pull request was closed meanwhile.
pub(super) fn after_success(task: &Task, outcome: &Outcome, closed: Option<Closed>) -> Course {
    use TaskState::{Completed, Failed, InProgress, Review, Testing};
    let mut states = match (outcome, task.state) {
        (Outcome::PullRequest { .. }, Testing) => vec![Review],
        (Outcome::PullRequest { .. }, _) => vec![Testing, Review],
        (_, Testing) => vec![InProgress, Completed],
        (_, _) => vec![Completed],
    };
    if states.last() == Some(&Review) {
        match closed {
            Some(Closed::Merged) => states.push(Completed),
            Some(Closed::Unmerged) => states.push(Failed),
            None => {}
        }
    }
    Course::through(&states)
}

/// How a pull request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Closed {
    /// Merged.
    Merged,
    /// Closed without a merge.
    Unmerged,
}

impl Closed {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Merged => "merged",
            Self::Unmerged => "unmerged",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        [Self::Merged, Self::Unmerged]
            .into_iter()
            .find(|it| it.as_str() == text)
    }
}

/// The way of a failed attempt: `failed`, and from there back to `queued` while attempts are left
/// and another one may help. `failures` counts this one.
pub(super) fn after_failure(failures: u32, max_attempts: u32, retryable: bool) -> Course {
    use TaskState::{Failed, Queued};
    if !retryable || failures >= max_attempts {
        return Course::through(&[Failed]);
    }
    let pause = Duration::from_secs(1 << failures.saturating_sub(1).min(5)).min(LONGEST_PAUSE);
    Course {
        states: vec![Failed, Queued],
        pause,
    }
}

/// The way of an attempt whose agent is gone. One that was never accepted costs nothing.
pub(super) fn after_loss(state: TaskState, failures: u32, max_attempts: u32) -> Course {
    use TaskState::{Assigned, Failed, Queued};
    if state == Assigned || failures < max_attempts {
        Course::through(&[Queued])
    } else {
        Course::through(&[Failed])
    }
}

/// The failure that a lost attempt is told as, when it was the last.
pub(super) fn lost(why: &str, failures: u32) -> Failure {
    Failure {
        kind: FailureKind::AgentLost,
        message: format!("the agent was lost ({why}); {failures} attempts did not succeed"),
        retryable: false,
        discard_checkpoints: false,
    }
}

/// The failure that an unmerged pull request is told as.
pub(super) fn closed_unmerged(number: u64, actor: &str) -> Failure {
    Failure {
        kind: FailureKind::PullRequestClosed,
        message: format!("pull request #{number} was closed by {actor} without a merge"),
        retryable: false,
        // Whoever closed it did not want it; another try is to lead elsewhere.
        discard_checkpoints: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use TaskState::{Assigned, Failed, InProgress, Queued, Testing};

    #[test]
    fn every_course_keeps_to_the_table() {
        for start in [InProgress, Testing] {
            for retryable in [true, false] {
                for failures in 0..5 {
                    walk(start, &after_failure(failures, 3, retryable));
                    walk(start, &after_loss(start, failures, 3));
                }
            }
        }
        walk(Assigned, &after_loss(Assigned, 9, 3));
    }

    fn walk(start: TaskState, course: &Course) {
        course
            .states
            .iter()
            .fold(start, |state, next| state.transition(*next).unwrap());
    }

    #[test]
    fn attempts_are_spent_and_pauses_grow() {
        assert_eq!(after_failure(1, 3, true).pause, Duration::from_secs(1));
        assert_eq!(after_failure(2, 3, true).pause, Duration::from_secs(2));
        assert_eq!(after_failure(3, 3, true).states, [Failed]);
        assert_eq!(after_failure(1, 3, false).states, [Failed]);
        assert_eq!(after_loss(Assigned, 9, 3).states, [Queued]);
        assert_eq!(after_loss(InProgress, 3, 3).states, [Failed]);
    }
}
