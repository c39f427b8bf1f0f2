//! Comments that are no commands: what somebody who may give commands says before the issue's task is in
//! review, or after it failed, is added to the request.
//! Absent: comments on pull requests, which ask for another round of the work.

use patchfleet_domain::FollowUp;
use patchfleet_guard::strip_hidden_markdown;

use super::decide::Deciding;
use super::sweep::SKEW;
use super::{Decision, IntakeError};
use crate::store::Act;
use crate::webhook::event::CommentEvent;

impl Deciding<'_> {
    /// Decides what a comment without a command leads to. Most belong to no task that takes follow-ups,
    /// which the store can say without a request to GitHub.
    pub(super) async fn follow_up(
        &self,
        delivery: Option<&str>,
        event: &CommentEvent,
    ) -> Result<Decision, IntakeError> {
        let text = strip_hidden_markdown(&event.comment.body).text;
        let text = text.trim();
        if text.is_empty() || !self.takes_follow_up(event).await? {
            return Ok(Decision::Ignore("no command"));
        }
        if self.is_known(delivery).await? {
            return Ok(Decision::Known);
        }
        if self.was_acted_on(event).await? {
            return Ok(Decision::Ignore("the comment was acted on before"));
        }
        if !self.may(&event.repository, &event.sender).await? {
            return Ok(Decision::Ignore("the actor may not add to a task"));
        }
        let act = Act::FollowUp {
            repository: event.repository.name.clone(),
            issue: event.issue.number,
            follow_up: FollowUp {
                comment: event.comment.id,
                author: event.sender.clone(),
                text: text.to_owned(),
            },
        };
        Ok(Decision::one(Act::Command {
            repository: event.repository.name.clone(),
            comment: event.comment.id,
            act: act.into(),
            otherwise: None,
        }))
    }

    /// True when an attempt of the issue's task can still take the comment in, and the task was there when
    /// it was written: a delivery may come late, or again. A pull request is no issue of a task, and comes
    /// when the work is done.
    async fn takes_follow_up(&self, event: &CommentEvent) -> Result<bool, IntakeError> {
        if event.issue.is_pull_request {
            return Ok(false);
        }
        let task = self.newest(&event.repository, event.issue.number).await?;
        let written_at = event.issue.updated_at;
        Ok(task.is_some_and(|task| {
            task.state.takes_follow_ups() && written_at + SKEW >= task.created_at
        }))
    }
}
