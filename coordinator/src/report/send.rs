//! Sending one entry of the outbox, so that sending it again does no more.

use std::time::Duration;

use patchfleet_domain::task::task_mark;
use patchfleet_domain::{Task, TaskId};
use patchfleet_github::{GitHub, GitHubError};
use patchfleet_telemetry::trace;
use tracing::{Instrument as _, field};

use super::render::{self, Told, status_label};
use crate::intake::LABEL_PREFIX;
use crate::store::{Effect, OutboxEntry, Reply, Sent, Store, StoreError};

/// First wait after an error that says nothing of when to come back; it doubles.
const BACKOFF: Duration = Duration::from_secs(2);
const MAX_BACKOFF: Duration = Duration::from_mins(5);
/// How often an answer that makes no sense is put up with.
const MAX_ODD_TRIES: u32 = 10;

/// Why an entry could not be sent now.
#[derive(Debug, thiserror::Error)]
pub(super) enum SendError {
    #[error(transparent)]
    GitHub(#[from] GitHubError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl SendError {
    /// What is to become of the entry.
    pub(super) fn fate(&self, tries: u32) -> Sent {
        let error = self.to_string();
        let backoff = backoff(tries);
        match self {
            Self::GitHub(GitHubError::RateLimited { retry_after }) => Sent::Again {
                after: *retry_after,
                error,
            },
            Self::GitHub(GitHubError::Unavailable { retry_after, .. }) => Sent::Again {
                after: retry_after.unwrap_or(backoff),
                error,
            },
            Self::GitHub(
                GitHubError::NotFound | GitHubError::Forbidden { .. } | GitHubError::Invalid { .. },
            ) => Sent::Dropped { error },
            Self::GitHub(GitHubError::Unexpected { .. }) if tries >= MAX_ODD_TRIES => {
                Sent::Dropped { error }
            }
            // Bad credentials are the operator's to mend; until then nothing is lost.
            Self::GitHub(GitHubError::Unauthorized | GitHubError::Unexpected { .. })
            | Self::Store(_) => Sent::Again {
                after: backoff,
                error,
            },
        }
    }
}

pub(super) fn backoff(tries: u32) -> Duration {
    let doubled = BACKOFF.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    doubled.min(MAX_BACKOFF)
}

/// What sending needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) github: &'a GitHub,
    pub(super) entry: &'a OutboxEntry,
}

impl Sender<'_> {
    /// Sends the entry; the comment's id, where it is to be kept.
    pub(super) async fn send(self) -> Result<Option<u64>, SendError> {
        match &self.entry.effect {
            Effect::Status { task } => self.status(*task).await,
            Effect::Reply(reply) => self.reply(reply).await.map(|()| None),
        }
    }

    async fn status(self, id: TaskId) -> Result<Option<u64>, SendError> {
        let Some(task) = self.store.task(id).await? else {
            return Ok(None);
        };
        let span = tracing::info_span!(
            target: trace::TARGET, "report", otel.kind = "client", task.id = %id,
            task.state = %task.state, trace_id = field::Empty
        );
        trace::follow(&span, task.traceparent.as_deref());
        let put = self.put_status(&task).instrument(span.clone()).await;
        put.map(Some)
            .inspect_err(|error| trace::failed(&span, error))
    }

    async fn put_status(self, task: &Task) -> Result<u64, SendError> {
        let body = self.told(task, render::status).await?;
        let comment = self.put_comment(task.id, &body).await?;
        self.put_label(task).await?;
        Ok(comment)
    }

    /// Edits the task's comment in place; one that is not known may be there nevertheless, when
    /// a process ended between GitHub's answer and the store.
    async fn put_comment(self, task: TaskId, body: &str) -> Result<u64, SendError> {
        let mark = task_mark(task);
        let known = match self.store.status_comment(task).await? {
            Some(comment) => Some(comment),
            None => self.find(&mark).await?,
        };
        let (repository, issue) = (&self.entry.repository, self.entry.issue);
        if let Some(comment) = known {
            match self.github.update_comment(repository, comment, body).await {
                Ok(()) => return Ok(comment),
                // Somebody deleted it; what it says is still to be said.
                Err(GitHubError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(other) = self.find(&mark).await? {
                self.github.update_comment(repository, other, body).await?;
                return Ok(other);
            }
        }
        Ok(self.github.create_comment(repository, issue, body).await?)
    }

    /// Our comment with that mark. Others can write marks, too; theirs don't count.
    async fn find(self, mark: &str) -> Result<Option<u64>, SendError> {
        let me = self.github.identity().await?;
        let comments = self
            .github
            .comments(&self.entry.repository, self.entry.issue)
            .await?;
        let mut ours = comments.into_iter().filter(|comment| me.is(&comment.user));
        Ok(ours
            .find(|comment| comment.body.starts_with(mark))
            .map(|comment| comment.id))
    }

    /// One label of ours, or none. A repository that has its labels to itself is no reason to
    /// say nothing.
    async fn put_label(self, task: &Task) -> Result<(), SendError> {
        let changed = self.change_labels(status_label(task.state)).await;
        match changed {
            Err(GitHubError::Forbidden { .. } | GitHubError::Invalid { .. }) => {
                tracing::warn!(task.id = %task.id, "GitHub does not let us set labels");
                Ok(())
            }
            other => Ok(other?),
        }
    }

    async fn change_labels(self, wanted: Option<&str>) -> Result<(), GitHubError> {
        let (repository, issue) = (&self.entry.repository, self.entry.issue);
        let present = self.github.labels(repository, issue).await?;
        let stale =
            |label: &&String| label.starts_with(LABEL_PREFIX) && wanted != Some(label.as_str());
        if let Some(wanted) = wanted.filter(|wanted| !present.iter().any(|one| one == wanted)) {
            self.github.add_labels(repository, issue, &[wanted]).await?;
        }
        for label in present.iter().filter(stale) {
            self.github.remove_label(repository, issue, label).await?;
        }
        Ok(())
    }

    async fn reply(self, reply: &Reply) -> Result<(), SendError> {
        let (entry, repository, issue) = (self.entry.id, &self.entry.repository, self.entry.issue);
        if self.find(&render::reply_mark(entry)).await?.is_some() {
            return Ok(());
        }
        let body = match reply {
            Reply::Problem { message } => render::problem(entry, message),
            Reply::Status => match self.store.task_of_issue(repository, issue).await? {
                Some(task) => {
                    self.told(&task, |told| render::answer(entry, Some(told)))
                        .await?
                }
                None => render::answer(entry, None),
            },
        };
        self.github.create_comment(repository, issue, &body).await?;
        Ok(())
    }

    async fn told(
        self,
        task: &Task,
        render: impl FnOnce(Told<'_>) -> String,
    ) -> Result<String, SendError> {
        let attempts = self.store.attempts(task.id).await?;
        let history = self.store.history(task.id, 0).await?;
        Ok(render(Told {
            task,
            attempts: &attempts,
            history: &history,
        }))
    }
}
