//! Ends of an issue's active task that GitHub knows of and the store does not yet.
//!
//! Whoever triggers an issue while a task of it is active gets nothing beside that task: the store
//! keeps the trigger as one that the task handled, so that neither the delivery when it comes again nor
//! a sweep takes it for a new one. But deliveries are late, reordered or lost. If the task was over on
//! GitHub by then, since its pull request or its issue had been closed, the trigger is for the next
//! task: the end is taken in first, in the same transaction.

use patchfleet_domain::{IssueNumber, Task, TaskState};
use patchfleet_github::{GitHubError, OpenState};

use super::IntakeError;
use super::decide::Deciding;
use super::key::BIRTH;
use super::sweep::SKEW;
use crate::store::{Act, LastTrigger};
use crate::webhook::event::IssueEvent;

impl Deciding<'_> {
    /// The end of the issue's active task that came before the event on GitHub, if there was one.
    pub(super) async fn end_before(&self, event: &IssueEvent) -> Result<Option<Act>, IntakeError> {
        let newest = self.newest(&event.repository, event.issue.number).await?;
        let Some(task) = newest.filter(|task| task.state.is_active()) else {
            return Ok(None);
        };
        match &task.pull_request {
            Some(pull) if task.state == TaskState::Review => {
                self.end_of_review(event, &task, pull.number).await
            }
            _ => self.closing_before(event, &task).await,
        }
    }

    /// The closing of the task's pull request, if the event came after it.
    async fn end_of_review(
        &self,
        event: &IssueEvent,
        task: &Task,
        number: u64,
    ) -> Result<Option<Act>, IntakeError> {
        let (github, repository) = (&self.intake.github, &event.repository);
        let asking = async {
            let pull = github.pull_request(&repository.name, number).await?;
            if pull.state != OpenState::Closed {
                return Ok(None);
            }
            let shown = github.issue(&repository.name, IssueNumber(number)).await?;
            let until = event.issue.updated_at;
            let is_before = shown.closed_at.is_some_and(|at| at <= until);
            Ok(is_before.then_some((pull.merged, shown.closed_by)))
        };
        let closed = match self.github(asking).await {
            Ok(closed) => closed,
            Err(GitHubError::NotFound) => None,
            Err(error) => return Err(error.into()),
        };
        Ok(closed.map(|(merged, actor)| Act::PullRequestClosed {
            repository: repository.name.clone(),
            number,
            head: task.branch.clone(),
            merged,
            actor: actor.unwrap_or_else(|| "ghost".to_owned()),
        }))
    }

    /// The issue is open again, so that its closing says nothing unless it came after the task's own
    /// trigger.
    async fn closing_before(
        &self,
        event: &IssueEvent,
        task: &Task,
    ) -> Result<Option<Act>, IntakeError> {
        let (repository, number) = (&event.repository.name, event.issue.number);
        let triggered = self.intake.store.last_triggered(repository, number);
        let since = match self.store(triggered).await? {
            Some(LastTrigger::Act(at)) => at,
            Some(LastTrigger::Made(at)) => at + SKEW,
            None => return Ok(None),
        };
        let until = event.issue.updated_at;
        if until <= since + BIRTH {
            // One more event of the act that the task came of.
            return Ok(None);
        }
        let happened = self.intake.github.issue_events(repository, number);
        let happened = match self.github(happened).await {
            Ok(happened) => happened,
            Err(GitHubError::NotFound) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let closing = happened
            .into_iter()
            .filter(|it| it.event == "closed" && it.created_at > since && it.created_at <= until)
            .max_by_key(|it| it.id);
        let Some(closing) = closing else {
            return Ok(None);
        };
        if task.state.has_live_attempt() && self.is_merged(&event.repository, task).await? {
            return Ok(None);
        }
        Ok(Some(Act::CancelIssue {
            repository: repository.clone(),
            issue: number,
            actor: closing.actor,
        }))
    }

    /// True when the issue's newest task was triggered after the issue was closed: the delivery is late.
    pub(super) async fn is_triggered_since(
        &self,
        closed: &IssueEvent,
    ) -> Result<bool, IntakeError> {
        let (repository, number) = (&closed.repository.name, closed.issue.number);
        let last = self.intake.store.last_triggered(repository, number);
        let last = self.store(last).await?;
        Ok(matches!(last, Some(LastTrigger::Act(at)) if at > closed.issue.updated_at))
    }
}
