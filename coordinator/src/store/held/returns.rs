//! Assignments that come back without work, and tasks that wait because no agent takes them.

use std::time::Duration;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{AgentId, AttemptNumber, Returned, Returns, TaskState, WaitReason};

use super::{Held, later};
use crate::store::rules::{self, Course};
use crate::store::{Cas, StoreResult};

/// Longest reason that is kept, in characters; agents say what they like.
const LONGEST_REASON: usize = 800;
/// Who says what is said here.
const ACTOR: &str = "coordinator";

impl Held {
    /// Ends a live attempt that says nothing about its task: back to the queue, uncounted and with
    /// exponential backoff, and after too many of them in a row the task waits where people see it.
    pub(super) fn give_back(
        &mut self,
        outcome: &str,
        failure: Option<Failure>,
        (actor, why): (&str, &str),
    ) -> StoreResult<()> {
        if let Some(attempt) = &self.attempt {
            let count = self.task.returns.count.saturating_add(1);
            self.task.returns.add(Returned {
                agent: attempt.agent.clone(),
                reason: why.chars().take(LONGEST_REASON).collect(),
                rests_until: later(self.now, rules::rest_after_return(count)),
            });
        }
        self.end_attempt(outcome, failure);
        let count = self.task.returns.count;
        self.follow(&rules::after_return(count), (actor, why))?;
        if self.task.state == TaskState::Waiting {
            self.note(
                "note",
                (
                    ACTOR,
                    &format!("{count} assignments in a row came back without work"),
                ),
            );
            self.wait_for_agent();
        }
        Ok(())
    }

    /// Remembers that an attempt failed at its agent, so that the next one is rather given to
    /// another: what one host can't do another may.
    pub(super) fn prefer_others(&mut self, failure: &Failure, pause: Duration) {
        self.task.returns = Returns::default();
        if let Some(attempt) = self.attempt.as_ref().filter(|_| failure.retryable) {
            self.task.returns.by.push(Returned {
                agent: attempt.agent.clone(),
                reason: failure.kind.to_string(),
                rests_until: later(self.now, pause),
            });
        }
    }

    /// Takes a task out of the queue because all agents that could take it are unfit, for the
    /// reasons that are given.
    pub(in crate::store) fn set_aside(
        &mut self,
        newest: AttemptNumber,
        unfit: &[(AgentId, String)],
    ) -> StoreResult<Cas> {
        if self.task.state != TaskState::Queued || self.task.attempt != newest {
            return Ok(Cas::Stale);
        }
        let returned = |(agent, reason): &(AgentId, String)| Returned {
            agent: agent.clone(),
            reason: reason.clone(),
            rests_until: self.now,
        };
        self.task.returns = Returns {
            count: 0,
            by: unfit.iter().map(returned).collect(),
            until: None,
        };
        let course = Course::through(&[TaskState::Waiting]);
        self.follow(
            &course,
            (ACTOR, "no agent that could take it is fit to work"),
        )?;
        self.not_before = Some(later(self.now, rules::RETURN_WAIT));
        self.wait_for_agent();
        Ok(Cas::Applied(()))
    }

    fn wait_for_agent(&mut self) {
        self.task.wait_reason = Some(WaitReason::Agent);
        self.task.returns.until = self.not_before;
    }

    /// True while the task waits because no agent takes it.
    pub(in crate::store) fn waits_for_agent(&self) -> bool {
        self.task.state == TaskState::Waiting && self.task.wait_reason == Some(WaitReason::Agent)
    }

    /// Offers the task to agents again, with the returns forgotten, if it waits for one or for a budget.
    pub(in crate::store) fn offer_again(&mut self, told: (&str, &str)) -> StoreResult<Cas> {
        if !self.waits_for_agent() && !self.waits_for_budget() {
            return Ok(Cas::Stale);
        }
        self.task.returns = Returns::default();
        self.follow(&Course::through(&[TaskState::Queued]), told)?;
        Ok(Cas::Applied(()))
    }
}
