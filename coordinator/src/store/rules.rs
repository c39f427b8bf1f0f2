//! What follows from what: the store's decisions without the SQL. Pure.

use std::time::Duration;

use patchfleet_domain::outcome::{Failure, FailureKind, Outcome};
use patchfleet_domain::{Task, TaskState};

/// The longest pause before a task is tried again that failed or came back.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);
/// After so many returns in a row a task waits.
pub(super) const MOST_RETURNS: u32 = 10;
/// So many returns in a row delay nobody but the agents that they came from: another agent may
/// take the task at once.
const FREE_RETURNS: u32 = 3;
/// How long a task waits that no agent takes, before it is offered again by itself.
pub(super) const RETURN_WAIT: Duration = Duration::from_mins(10);

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
    Course {
        states: vec![Failed, Queued],
        pause: backoff(failures),
    }
}

/// Exponential backoff after so many of something in a row: one second, doubling.
fn backoff(count: u32) -> Duration {
    Duration::from_secs(1 << count.saturating_sub(1).min(5)).min(LONGEST_PAUSE)
}

/// The way of an assignment that came back without work, as one of `count` in a row: into the
/// queue, where the first ones wait for nobody, and after too many of them out of it.
pub(super) fn after_return(count: u32) -> Course {
    use TaskState::{Queued, Waiting};
    if count >= MOST_RETURNS {
        return Course {
            states: vec![Queued, Waiting],
            pause: RETURN_WAIT,
        };
    }
    Course {
        states: vec![Queued],
        pause: match count.saturating_sub(FREE_RETURNS) {
            0 => Duration::ZERO,
            more => backoff(more),
        },
    }
}

/// How long the agent that it came back from is not offered the task again.
pub(super) fn rest_after_return(count: u32) -> Duration {
    backoff(count)
}

/// The way of an accepted attempt whose agent is gone.
pub(super) fn after_loss(failures: u32, max_attempts: u32) -> Course {
    use TaskState::{Failed, Queued};
    if failures < max_attempts {
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
    use TaskState::{Assigned, Failed, InProgress, Queued, Testing, Waiting};

    #[test]
    fn every_course_keeps_to_the_table() {
        for start in [InProgress, Testing] {
            for retryable in [true, false] {
                for failures in 0..5 {
                    walk(start, &after_failure(failures, 3, retryable));
                    walk(start, &after_loss(failures, 3));
                }
            }
        }
        for start in [Assigned, InProgress, Testing] {
            for count in 1..20 {
                walk(start, &after_return(count));
            }
        }
    }

    #[test]
    fn the_agent_that_gave_a_task_back_rests_longer_than_the_others_wait() {
        let rests = |count| rest_after_return(count).as_secs();
        assert_eq!([1, 2, 3, 4, 5, 6, 9].map(rests), [1, 2, 4, 8, 16, 30, 30]);
        let waits = |count| after_return(count).pause.as_secs();
        assert_eq!([1, 2, 3, 4, 5, 9].map(waits), [0, 0, 0, 1, 2, 30]);
        for count in 1..MOST_RETURNS {
            assert_eq!(after_return(count).states, [Queued]);
            assert!(after_return(count).pause <= rest_after_return(count));
        }
        let last = after_return(MOST_RETURNS);
        assert_eq!(
            (last.states, last.pause),
            (vec![Queued, Waiting], RETURN_WAIT)
        );
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
        assert_eq!(after_loss(2, 3).states, [Queued]);
        assert_eq!(after_loss(3, 3).states, [Failed]);
    }
}
