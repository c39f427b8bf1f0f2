//! What is to be written to GitHub.

use std::time::Duration;

use patchfleet_domain::{IssueNumber, RepositoryName, TaskId, Timestamp};
use serde::{Deserialize, Serialize};

use super::Reply;

/// Something to be written to GitHub.
#[derive(Debug, Clone, PartialEq)]
pub struct OutboxEntry {
    /// Grows over the whole store; also the mark that makes a reply exactly-once in effect.
    pub id: i64,
    /// The repository.
    pub repository: RepositoryName,
    /// The issue.
    pub issue: IssueNumber,
    /// What to write.
    pub effect: Effect,
    /// How often it was tried, with this time.
    pub tries: u32,
    /// When it was first tried: nothing of it can have been on GitHub before.
    pub first_tried_at: Timestamp,
    /// How long that is ago, by the database's clock.
    pub trying_for: Duration,
    /// How long no other publisher takes it; longer with every try, for what takes its time.
    pub hold: Duration,
}

/// An effect on GitHub. Rendered from the store when it is sent, so that it tells the latest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "effect", rename_all = "snake_case")]
pub enum Effect {
    /// Bring the task's one status comment and the labels up to date.
    Status {
        /// The task.
        task: TaskId,
    },
    /// Answer a comment.
    Reply(Reply),
}

/// What is on an issue of a task's status.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SentStatus {
    /// GitHub's id of the comment, if there is one.
    pub comment: Option<u64>,
    /// The label, if one was set.
    pub label: Option<String>,
}

/// What became of a try to send an outbox entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Done; for a status the comment's id, to be edited next time.
    Done {
        /// GitHub's comment id.
        comment: Option<u64>,
    },
    /// A status that is on the issue now.
    Status(SentStatus),
    /// Try again after the delay; later entries of the same issue wait.
    Again {
        /// How long to wait.
        after: Duration,
        /// Why.
        error: String,
    },
    /// Not going to work (the issue is gone); dropped, with the reason kept, in the task's history
    /// too when it was about one.
    Dropped {
        /// Why.
        error: String,
    },
}
