//! What an agent's reports do to its task: each applied once, in order, by its live attempt only.

use patchfleet_domain::outcome::{Failure, Outcome};
use patchfleet_domain::{Phase, Returns, TaskState, Work};

use super::{Attempt, Held};
use crate::store::rules::{self, Closed, Course};
use crate::store::{Cas, Checkpoint, Report, StoreError, StoreResult, WorkEvent};

/// The outcome of an attempt that its agent gave back, as it ended.
const RETURNED: &str = "returned";

impl Held {
    /// Applies a report, unless it was applied before; then it is as good as applied.
    ///
    /// # Errors
    /// When what is stored does not allow what the report says, or can't hold it.
    pub(in crate::store) fn report(&mut self, report: &Report) -> StoreResult<Cas> {
        let work = report.work;
        let is_its = |attempt: &&mut Attempt| attempt.number == work.attempt;
        let live = self.is_live(work);
        let Some(attempt) = self.attempt.as_mut().filter(is_its) else {
            return Ok(Cas::Stale);
        };
        if report.seq <= attempt.last_seq {
            return Ok(Cas::Applied(()));
        }
        // An assignment is accepted or refused, once, before anything else is said about it.
        let answers = matches!(
            report.event,
            WorkEvent::Accepted | WorkEvent::Refused { .. }
        );
        if !live || answers != (self.task.state == TaskState::Assigned) {
            return Ok(Cas::Stale);
        }
        attempt.last_seq = report.seq;
        let actor = attempt.agent.to_string();
        self.apply(work, &report.event, &actor)?;
        Ok(Cas::Applied(()))
    }

    fn apply(&mut self, work: Work, event: &WorkEvent, actor: &str) -> StoreResult<()> {
        match event {
            WorkEvent::Accepted => self.move_to(TaskState::InProgress, (actor, "accepted")),
            WorkEvent::Refused { reason } => {
                self.give_back("refused", None, (actor, &format!("refused: {reason}")))
            }
            WorkEvent::Progress { phase, detail } => self.progress(*phase, (actor, detail)),
            WorkEvent::Log { lines, dropped } => {
                self.log(lines, *dropped);
                Ok(())
            }
            WorkEvent::Checkpoint(checkpoint) => {
                self.keep_checkpoint(checkpoint, actor);
                Ok(())
            }
            WorkEvent::Usage(usage) => {
                let text = serde_json::to_string(usage)
                    .map_err(|error| StoreError::Corrupt(format!("a usage: {error}")))?;
                self.record("usage", (actor, &text));
                self.task.spent.add(usage);
                self.changes.usages.push((work, usage.clone()));
                Ok(())
            }
            WorkEvent::Finished(outcome) => self.finish(outcome, actor),
        }
    }

    fn move_to(&mut self, to: TaskState, told: (&str, &str)) -> StoreResult<()> {
        self.follow(&Course::through(&[to]), told)
    }

    /// A phase begins: written to the history, and the state follows it.
    fn progress(&mut self, phase: Phase, (actor, detail): (&str, &str)) -> StoreResult<()> {
        let next = phase.task_state();
        let next = next.filter(|to| *to != self.task.state);
        if let Some(to) = next.filter(|to| self.task.state.transition(*to).is_ok())
            && self.may_move()
        {
            self.move_to(to, (actor, phase.as_str()))?;
        }
        self.record("phase", (actor, &format!("{phase}: {detail}")));
        Ok(())
    }

    /// Keeps a node's output, so that a later attempt does not pay for it again. Where the history is
    /// full it will: an agent that loops could fill the database with outputs as well.
    fn keep_checkpoint(&mut self, checkpoint: &Checkpoint, actor: &str) {
        let detail = format!("{} visit {}", checkpoint.node, checkpoint.visit);
        // It made progress: what came back before says nothing any more.
        self.task.returns = Returns::default();
        if self.record("checkpoint", (actor, &detail)) {
            self.changes.checkpoints.push(checkpoint.clone());
        }
    }

    fn finish(&mut self, outcome: &Outcome, actor: &str) -> StoreResult<()> {
        let word = outcome.as_str();
        if let Outcome::Failed(failure) = outcome
            && failure.kind.is_budget()
        {
            return self.stop_for_budget(failure, actor);
        }
        let (course, failure) = match outcome {
            Outcome::PullRequest { .. } | Outcome::Answer { .. } => (self.succeed(outcome), None),
            // It says nothing against the task, which goes on elsewhere.
            Outcome::Failed(failure) if failure.kind.is_return() => {
                let told = told(outcome);
                return self.give_back(word, Some(failure.clone()), (actor, &told));
            }
            Outcome::Cancelled { by_operator: false } => {
                // `cancelled` is what nobody wants any more; the task goes on.
                return self.give_back(RETURNED, None, (actor, &told(outcome)));
            }
            Outcome::Cancelled { by_operator: true } => {
                (Course::through(&[TaskState::Cancelled]), None)
            }
            Outcome::Failed(failure) => (self.fail(failure), Some(failure)),
        };
        if failure.is_none() {
            self.task.returns = Returns::default();
        }
        self.end_attempt(word, failure.cloned());
        let told = match outcome {
            Outcome::Cancelled { .. } => {
                format!("cancelled at the agent `{actor}` by an operator")
            }
            _ => told(outcome),
        };
        self.follow(&course, (actor, &told))
    }

    fn succeed(&mut self, outcome: &Outcome) -> Course {
        let mut decided = None;
        self.task.failure = None;
        match outcome {
            Outcome::PullRequest {
                pull_request,
                summary,
                tests_before,
                tests_after,
            } => {
                let mut known = pull_request.as_ref().clone();
                decided = self.closed.and_then(|closed| closed.of_pull(known.number));
                known.merged = decided == Some(Closed::Merged);
                if decided == Some(Closed::Unmerged) {
                    self.task.failure = Some(rules::closed_unmerged(known.number, "a person"));
                }
                self.task.pull_request = Some(known);
                self.task.summary = Some(summary.clone());
                if let Some(attempt) = &mut self.attempt {
                    attempt.tests_before = tests_before.as_deref().cloned();
                    attempt.tests_after = tests_after.as_deref().cloned();
                }
            }
            Outcome::Answer { summary } => self.task.summary = Some(summary.clone()),
            Outcome::Failed(_) | Outcome::Cancelled { .. } => {}
        }
        rules::after_success(&self.task, outcome, decided)
    }

    fn fail(&mut self, failure: &Failure) -> Course {
        self.task.failures += 1;
        self.task.failure = Some(failure.clone());
        if failure.discard_checkpoints {
            self.discard_checkpoints();
        }
        let course = rules::after_failure(
            self.task.failures,
            self.task.max_attempts,
            failure.retryable,
        );
        self.prefer_others(failure, course.pause);
        course
    }
}

/// The outcome as a line of history.
fn told(outcome: &Outcome) -> String {
    match outcome {
        Outcome::PullRequest { pull_request, .. } => {
            format!("pull request #{}", pull_request.number)
        }
        Outcome::Answer { .. } => "answered".to_owned(),
        Outcome::Failed(failure) => format!("{}: {}", failure.kind, failure.message),
        Outcome::Cancelled { .. } => "the agent stopped".to_owned(),
    }
}
