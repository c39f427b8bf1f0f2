//! What people, the analysis, the scheduler and the leases do to a task.

use std::time::Duration;

use patchfleet_domain::outcome::PullRequestRef;
use patchfleet_domain::{
    AgentId, AttemptNumber, FailureKind, RepositoryName, Returns, TaskState, Work,
};

use super::{Attempt, ClosedEarly, Held, later, may_reopen};
use crate::store::rules::{self, Closed, Course};
use crate::store::{Acted, Cas, Commanded, StoreResult};

/// A pull request that GitHub says is closed.
#[derive(Debug, Clone, Copy)]
pub(in crate::store) struct ClosedPull<'a> {
    pub(in crate::store) repository: &'a RepositoryName,
    pub(in crate::store) number: u64,
    /// Its head branch.
    pub(in crate::store) head: &'a str,
    pub(in crate::store) how: Closed,
    pub(in crate::store) actor: &'a str,
}

impl Held {
    /// Gives the task to an agent, if it is queued and `newest` is still its newest attempt.
    pub(in crate::store) fn claim(
        &mut self,
        newest: AttemptNumber,
        agent: &AgentId,
        lease: Duration,
    ) -> StoreResult<Cas<Work>> {
        if self.task.state != TaskState::Queued || self.task.attempt != newest {
            return Ok(Cas::Stale);
        }
        let number = newest.next();
        self.task.attempt = number;
        let last = self.attempt.take();
        self.attempt = Some(Attempt {
            number,
            agent: agent.clone(),
            lease_until: later(self.now, lease),
            last_seq: 0,
            log_volume: 0,
            history_volume: last.map_or(0, |last| last.history_volume),
            end: None,
            tests_before: None,
            tests_after: None,
        });
        let course = Course::through(&[TaskState::Assigned]);
        self.follow(&course, (agent.as_str(), &format!("attempt {number}")))?;
        Ok(Cas::Applied(Work {
            task: self.task.id,
            attempt: number,
        }))
    }

    /// Ends a live attempt whose agent is gone.
    pub(in crate::store) fn lose(&mut self, work: Work, why: &str) -> StoreResult<Cas<TaskState>> {
        if !self.is_live(work) {
            return Ok(Cas::Stale);
        }
        if self.task.state == TaskState::Assigned {
            let why = format!("lost before it was accepted: {why}");
            self.give_back("lost", None, ("coordinator", &why))?;
            return Ok(Cas::Applied(self.task.state));
        }
        self.task.failures += 1;
        let failures = self.task.failures;
        let course = rules::after_loss(failures, self.task.max_attempts);
        let last = course.states.last() == Some(&TaskState::Failed);
        let failure = last.then(|| rules::lost(why, failures));
        self.end_attempt("lost", failure.clone());
        self.task.failure = failure.or(self.task.failure.take());
        let detail = format!("the agent was lost: {why}");
        self.follow(&course, ("coordinator", &detail))?;
        Ok(Cas::Applied(self.task.state))
    }

    /// As [`Self::lose`], if the attempt's lease is over: it may have been renewed since
    /// somebody saw that.
    pub(in crate::store) fn expire(&mut self, work: Work) -> StoreResult<Cas<TaskState>> {
        let now = self.now;
        let over = |attempt: &Attempt| attempt.end.is_none() && attempt.lease_until <= now;
        if self.attempt.as_ref().is_some_and(over) {
            self.lose(work, "its lease ran out")
        } else {
            Ok(Cas::Stale)
        }
    }

    /// Calls the task off; its live attempt ends with it.
    pub(in crate::store) fn cancel(&mut self, actor: &str) -> StoreResult<Commanded> {
        if self.task.state.transition(TaskState::Cancelled).is_err() {
            return Ok(Commanded::NotAllowed(self.task.state));
        }
        if self.task.state.has_live_attempt() {
            self.end_attempt("cancelled", None);
        }
        let course = Course::through(&[TaskState::Cancelled]);
        self.follow(&course, (actor, "cancelled"))?;
        Ok(Commanded::Done(self.task.state))
    }

    /// Puts the task back if it failed, or if it waits for an agent to take it. One that failed for what
    /// its repository says is analyzed anew: that decides who gets it. The caller sees to it that its
    /// issue has no other active task.
    pub(in crate::store) fn retry(&mut self, actor: &str) -> StoreResult<Commanded> {
        if self.offer_again((actor, "retried"))? == Cas::Applied(()) {
            return Ok(Commanded::Done(self.task.state));
        }
        if self.task.state != TaskState::Failed {
            return Ok(Commanded::NotAllowed(self.task.state));
        }
        self.task.returns = Returns::default();
        self.task.failures = 0;
        let failure = self.task.failure.take();
        if failure.as_ref().is_some_and(|it| it.discard_checkpoints) {
            self.discard_checkpoints();
        }
        let next = match failure.map(|failure| failure.kind) {
            Some(FailureKind::BadRepositoryConfiguration) => TaskState::Analyzing,
            _ => TaskState::Queued,
        };
        // If there was a pull request, its end is what failed; the next attempt opens its own.
        self.task.pull_request = None;
        self.closed = None;
        self.follow(&Course::through(&[next]), (actor, "retried"))?;
        Ok(Commanded::Done(self.task.state))
    }

    /// The end of the task's pull request: decides a review, and is remembered for the attempt
    /// that has not reported it yet.
    pub(in crate::store) fn close_pull_request(
        &mut self,
        pull: &ClosedPull<'_>,
    ) -> StoreResult<Acted> {
        let reported = self.task.pull_request.as_ref().map(|known| known.number);
        if reported.is_some_and(|number| number != pull.number) {
            return Ok(Acted::Nothing);
        }
        if self.task.state == TaskState::Review {
            let course = self.settle_review(pull);
            let detail = format!("pull request #{} {}", pull.number, pull.how.as_str());
            self.follow(&course, (pull.actor, &detail))?;
        } else if may_reopen(&self.task) && pull.how == Closed::Merged {
            // It was opened again before, and nobody said so here.
            let course = self.settle_review(pull);
            self.task.failure = None;
            let states: Vec<_> = std::iter::once(TaskState::Review)
                .chain(course.states)
                .collect();
            let detail = format!("pull request #{} merged", pull.number);
            self.follow(&Course::through(&states), (pull.actor, &detail))?;
        } else if self.task.state.has_live_attempt()
            || self.task.state == TaskState::Queued
            || self.waits_for_agent()
            || self.waits_for_budget()
        {
            self.closed = Some(ClosedEarly {
                number: Some(pull.number),
                how: pull.how,
            });
        } else {
            return Ok(Acted::Nothing);
        }
        Ok(Acted::Changed(self.task.id, self.task.state))
    }

    /// The task's pull request was closed and is open again: it is in review as before, and what an
    /// attempt has not reported yet is forgotten to be closed.
    pub(in crate::store) fn reopen_pull_request(
        &mut self,
        number: u64,
        actor: &str,
    ) -> StoreResult<Acted> {
        let reported = self.task.pull_request.as_ref().map(|known| known.number);
        if may_reopen(&self.task) && reported == Some(number) {
            self.task.failure = None;
            let detail = format!("pull request #{number} opened again");
            self.follow(&Course::through(&[TaskState::Review]), (actor, &detail))?;
        } else if self
            .closed
            .is_some_and(|closed| closed.number == Some(number))
        {
            self.closed = None;
        } else {
            return Ok(Acted::Nothing);
        }
        Ok(Acted::Changed(self.task.id, self.task.state))
    }

    fn settle_review(&mut self, pull: &ClosedPull<'_>) -> Course {
        let merged = pull.how == Closed::Merged;
        if let Some(pull_request) = &mut self.task.pull_request {
            *pull_request = PullRequestRef {
                merged,
                ..pull_request.clone()
            };
        }
        let end = if merged {
            TaskState::Completed
        } else {
            self.task.failure = Some(rules::closed_unmerged(pull.number, pull.actor));
            TaskState::Failed
        };
        Course::through(&[end])
    }
}
