//! Sending one entry of the outbox, so that sending it again does no more.

use std::time::Duration;

use chrono::TimeDelta;
use patchfleet_domain::task::task_mark;
use patchfleet_domain::{Task, TaskId, Timestamp, is_same_label};
use patchfleet_github::{GitHub, GitHubError, refuses_for_now};
use patchfleet_telemetry::trace;
use tracing::{Instrument as _, field};

use super::render::{self, Told, status_label};
use super::timeline::NEWEST_EVENTS;
use crate::budget::Budget;
use crate::intake::is_own_label;
use crate::store::{Effect, OutboxEntry, Reply, Sent, SentStatus, Store, StoreError, StoreResult};

/// First wait after an error that says nothing of when to come back; it doubles.
const BACKOFF: Duration = Duration::from_secs(2);
const MAX_BACKOFF: Duration = Duration::from_mins(5);
/// Longest wait after a refusal that somebody has to take back: an App that is suspended, a
/// permission that is not granted yet, a locked issue.
const MAX_REFUSED_BACKOFF: Duration = Duration::from_mins(30);
/// How long an entry is tried that GitHub refuses or that does not get through.
const GIVE_UP_AFTER: Duration = Duration::from_hours(24);
/// How far GitHub's clock and the database's may be apart.
const SKEW: TimeDelta = TimeDelta::minutes(10);
/// How often an answer that makes no sense is put up with.
const MAX_ODD_TRIES: u32 = 10;
/// Less than it takes until an entry is given up whose comment may be there: so many tries.
const YOUNG: TimeDelta = TimeDelta::minutes(5);

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
    pub(super) fn fate(&self, entry: &OutboxEntry) -> Sent {
        let error = self.to_string();
        let tries = entry.tries;
        let backoff = backoff(tries, MAX_BACKOFF);
        match self {
            Self::GitHub(GitHubError::RateLimited { retry_after }) => Sent::Again {
                after: *retry_after,
                error,
            },
            Self::GitHub(GitHubError::Unavailable { retry_after, .. }) => Sent::Again {
                after: retry_after.unwrap_or(backoff),
                error,
            },
            Self::GitHub(GitHubError::NotFound | GitHubError::Forbidden { .. }) => {
                for_a_day(entry, MAX_REFUSED_BACKOFF, error)
            }
            Self::GitHub(GitHubError::Invalid { .. }) => Sent::Dropped { error },
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

/// What is to become of an entry that was not sent in time.
pub(super) fn late(entry: &OutboxEntry, limit: Duration) -> Sent {
    for_a_day(
        entry,
        MAX_BACKOFF,
        format!("GitHub did not take it within {limit:?}"),
    )
}

/// Again, unless it was tried for a day: those behind it wait.
fn for_a_day(entry: &OutboxEntry, longest: Duration, error: String) -> Sent {
    if entry.trying_for >= GIVE_UP_AFTER {
        return Sent::Dropped { error };
    }
    let after = backoff(entry.tries, longest);
    Sent::Again { after, error }
}

/// GitHub's words for a conversation that only collaborators may go on with, or nobody; not for a
/// repository that is locked while it moves to another server.
fn is_locked(error: &SendError) -> bool {
    let SendError::GitHub(
        GitHubError::Forbidden { message } | GitHubError::Invalid { message, .. },
    ) = error
    else {
        return false;
    };
    let message = message.to_lowercase();
    message.contains("locked") && !message.contains("migration")
}

fn backoff(tries: u32, longest: Duration) -> Duration {
    let doubled = BACKOFF.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
    doubled.min(longest)
}

/// What sending needs.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sender<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) github: &'a GitHub,
    pub(super) entry: &'a OutboxEntry,
    /// The time that the store may take.
    pub(super) budget: &'a Budget,
}

impl Sender<'_> {
    /// Asks the store, which answers in time or is what is late.
    async fn ask<T>(self, asking: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let answer = self.budget.ask(asking).await;
        answer.unwrap_or_else(|spent| Err(StoreError::Unavailable(spent.to_string())))
    }

    /// Sends the entry.
    pub(super) async fn send(self) -> Result<Sent, SendError> {
        match &self.entry.effect {
            Effect::Status { task } => self.status(*task).await,
            Effect::Reply(reply) => match self.reply(reply).await {
                Ok(()) => Ok(Sent::Done { comment: None }),
                // The labels need not wait behind an answer that the conversation does not take.
                Err(error) if is_locked(&error) => Ok(Sent::Dropped {
                    error: error.to_string(),
                }),
                Err(error) => Err(error),
            },
        }
    }

    async fn status(self, id: TaskId) -> Result<Sent, SendError> {
        let Some(task) = self.ask(self.store.task(id)).await? else {
            return Ok(Sent::Done { comment: None });
        };
        let span = tracing::info_span!(
            target: trace::TARGET, "report", otel.kind = "client", task.id = %id,
            task.state = %task.state, trace_id = field::Empty
        );
        trace::follow(&span, task.traceparent.as_deref());
        let put = self.put_status(&task).instrument(span.clone()).await;
        let put = put.inspect_err(|error| trace::failed(&span, error));
        Ok(Sent::Status(put?))
    }

    /// Comment and label. Where a conversation is locked the label says alone how the task stands.
    async fn put_status(self, task: &Task) -> Result<SentStatus, SendError> {
        let body = self.told(task, render::status).await?;
        let before = self.ask(self.store.sent_status(task.id)).await?;
        let comment = match self.put_comment(task, before.comment, &body).await {
            Err(error) if is_locked(&error) => {
                tracing::warn!(task.id = %task.id, %error, "the status can't be told in a comment");
                None
            }
            put => Some(put?),
        };
        let wanted = status_label(task.state);
        let is_there = wanted.is_some() && before.label.as_deref() == wanted;
        let label = if is_there || self.put_label(task, wanted).await? {
            wanted
        } else {
            None
        };
        let label = label.map(str::to_owned);
        Ok(SentStatus { comment, label })
    }

    /// Edits the task's comment in place; one that is not known may be there nevertheless, when
    /// a process ended between GitHub's answer and the store.
    async fn put_comment(
        self,
        task: &Task,
        known: Option<u64>,
        body: &str,
    ) -> Result<u64, SendError> {
        let mark = task_mark(task.id);
        let known = match known {
            Some(comment) => Some(comment),
            None if self.is_first_word_of(task) => None,
            None => self.find(&mark, task.created_at).await?,
        };
        let (repository, issue) = (&self.entry.repository, self.entry.issue);
        if let Some(comment) = known {
            match self.github.update_comment(repository, comment, body).await {
                Ok(()) => return Ok(comment),
                // Somebody deleted it; what it says is still to be said.
                Err(GitHubError::NotFound) => {}
                Err(error) => return Err(error.into()),
            }
            if let Some(other) = self.find(&mark, task.created_at).await? {
                self.github.update_comment(repository, other, body).await?;
                return Ok(other);
            }
        }
        Ok(self.github.create_comment(repository, issue, body).await?)
    }

    /// True when nobody can have told anything of the task before: nothing of this entry was tried, and
    /// the task is younger than any entry that was given up.
    fn is_first_word_of(self, task: &Task) -> bool {
        self.entry.tries == 1 && self.entry.first_tried_at < task.created_at + YOUNG
    }

    /// Our comment with that mark, which was not there before a moment: what is older on a long
    /// issue is not read. Others can write marks, too; theirs don't count.
    async fn find(self, mark: &str, not_before: Timestamp) -> Result<Option<u64>, SendError> {
        let me = self.github.identity().await?;
        let comments = self
            .github
            .comments(
                &self.entry.repository,
                self.entry.issue,
                Some(not_before - SKEW),
            )
            .await?;
        let mut ours = comments.into_iter().filter(|comment| me.is(&comment.user));
        Ok(ours
            .find(|comment| comment.body.starts_with(mark))
            .map(|comment| comment.id))
    }

    /// One label of ours, or none; false when GitHub does not let us. A repository that has its labels
    /// to itself is no reason to say nothing.
    async fn put_label(self, task: &Task, wanted: Option<&str>) -> Result<bool, SendError> {
        match self.change_labels(wanted).await {
            Err(GitHubError::Forbidden { message }) if refuses_for_now(&message) => {
                Err(GitHubError::Forbidden { message }.into())
            }
            Err(GitHubError::Forbidden { .. } | GitHubError::Invalid { .. }) => {
                tracing::warn!(task.id = %task.id, "GitHub does not let us set labels");
                Ok(false)
            }
            other => Ok(other.map(|()| true)?),
        }
    }

    async fn change_labels(self, wanted: Option<&str>) -> Result<(), GitHubError> {
        let (repository, issue) = (&self.entry.repository, self.entry.issue);
        let present = match wanted {
            // One that is there stays, and the answer lists them all.
            Some(wanted) => self.github.add_labels(repository, issue, &[wanted]).await?,
            None => self.github.labels(repository, issue).await?,
        };
        let is_wanted = |label: &str| wanted.is_some_and(|wanted| is_same_label(label, wanted));
        let stale = |label: &&String| is_own_label(label) && !is_wanted(label);
        for label in present.iter().filter(stale) {
            self.github.remove_label(repository, issue, label).await?;
        }
        Ok(())
    }

    async fn reply(self, reply: &Reply) -> Result<(), SendError> {
        let (entry, repository, issue) = (self.entry.id, &self.entry.repository, self.entry.issue);
        // The first time, nothing can be there yet.
        if self.entry.tries > 1 {
            let mark = render::reply_mark(entry);
            if self.find(&mark, self.entry.first_tried_at).await?.is_some() {
                return Ok(());
            }
        }
        let body = match reply {
            Reply::Problem { message } => render::problem(entry, message),
            Reply::Status => match self
                .ask(self.store.task_of_issue(repository, issue))
                .await?
            {
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
        let attempts = self.ask(self.store.attempts(task.id)).await?;
        let newest = self.store.newest_history(task.id, NEWEST_EVENTS);
        let history = self.ask(newest).await?;
        Ok(render(Told {
            task,
            attempts: &attempts,
            history: &history,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(tries: u32, trying_for: Duration) -> OutboxEntry {
        OutboxEntry {
            id: 1,
            repository: "acme/orders".parse().unwrap(),
            issue: patchfleet_domain::IssueNumber(4),
            effect: Effect::Reply(Reply::Status),
            tries,
            first_tried_at: Timestamp::UNIX_EPOCH,
            trying_for,
            hold: Duration::from_secs(10),
        }
    }

    /// When it is tried again, or that it is dropped.
    fn again(sent: Sent) -> Option<Duration> {
        match sent {
            Sent::Again { after, .. } => Some(after),
            Sent::Dropped { .. } => None,
            Sent::Done { .. } | Sent::Status(_) => panic!("nothing was done"),
        }
    }

    #[test]
    fn what_may_pass_is_tried_for_a_day_and_what_is_ours_to_mend_for_ever() {
        let minutes = |count: u64| Duration::from_secs(count * 60);
        let (young, old) = (entry(20, minutes(1439)), entry(20, minutes(1440)));
        let refused = [
            GitHubError::NotFound,
            GitHubError::Forbidden {
                message: "This installation has been suspended".to_owned(),
            },
        ];
        for error in refused {
            let error = SendError::GitHub(error);
            assert_eq!(again(error.fate(&entry(1, Duration::ZERO))), Some(BACKOFF));
            assert_eq!(again(error.fate(&young)), Some(minutes(30)), "{error}");
            assert_eq!(again(error.fate(&old)), None, "{error}");
        }
        let limit = Duration::from_secs(80);
        assert_eq!(again(late(&young, limit)), Some(minutes(5)));
        assert_eq!(again(late(&old, limit)), None);
        let patient = [
            GitHubError::Unauthorized,
            GitHubError::Unavailable {
                message: "502".to_owned(),
                retry_after: None,
            },
            GitHubError::RateLimited {
                retry_after: minutes(5),
            },
        ];
        for error in patient {
            let fate = SendError::GitHub(error).fate(&old);
            assert_eq!(again(fate), Some(minutes(5)));
        }
    }
}
