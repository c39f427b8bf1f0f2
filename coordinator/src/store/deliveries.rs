//! What deliveries ask the store for, and what became of it.

use patchfleet_domain::{
    FollowUp, IssueNumber, Limit, Priority, RepositoryName, TaskId, TaskKind, TaskRequest,
    TaskState, Timestamp,
};
use serde::{Deserialize, Serialize};

/// A webhook delivery, as far as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// GitHub's `X-GitHub-Delivery`.
    pub id: String,
    /// GitHub's `X-GitHub-Event`.
    pub event: String,
    /// The payload's `action`, where it has one.
    pub action: Option<String>,
    /// The repository, where it has one.
    pub repository: Option<RepositoryName>,
    /// The issue whose earlier deliveries are to be judged before this one; none where the order does
    /// not matter.
    pub issue: Option<IssueNumber>,
}

/// What makes N events of one act one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemanticKey {
    /// The kind of trigger: `label`, `comment`, `assignment`, `api`.
    pub trigger: String,
    /// The object that triggered: a comment's id; for a label the issue's id and the moment.
    pub object: String,
}

impl SemanticKey {
    /// The key of an act on an issue that has no id of its own, only a moment.
    pub fn of_act(trigger: &str, issue_id: u64, at: Timestamp) -> Self {
        Self {
            trigger: trigger.to_owned(),
            object: format!("{issue_id}@{}", at.timestamp()),
        }
    }

    /// The moment in an object that [`Self::of_act`] made.
    pub(super) fn moment_in(object: &str) -> Option<Timestamp> {
        let (_, seconds) = object.split_once('@')?;
        Timestamp::from_timestamp(seconds.parse().ok()?, 0)
    }
}

/// What an issue's newest task came of, or handled last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastTrigger {
    /// An act on the issue at that moment, the newest of all, by GitHub's clock.
    Act(Timestamp),
    /// Something without a moment, such as a comment; the task was made then, by our clock.
    Made(Timestamp),
}

/// A task to be created in `pending`.
#[derive(Debug, Clone, PartialEq)]
pub struct NewTask {
    /// Its id.
    pub id: TaskId,
    /// What sort of work.
    pub kind: TaskKind,
    /// The owner repository.
    pub repository: RepositoryName,
    /// The issue.
    pub issue: Option<IssueNumber>,
    /// The trigger, unique within repository and issue.
    pub key: SemanticKey,
    /// The branch for the change.
    pub branch: String,
    /// How soon it is wanted.
    pub priority: Priority,
    /// What is asked for.
    pub request: TaskRequest,
    /// How many failed attempts it may have.
    pub max_attempts: u32,
    /// The trace that it belongs to, if there is one.
    pub traceparent: Option<String>,
}

/// What a delivery leads to. All acts of a delivery are one transaction with it.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Create a task, unless its key is known or its issue has an active task. That one has handled the
    /// trigger then, if it is an act on the issue.
    Create(Box<NewTask>),
    /// Call off the issue's active task.
    CancelIssue {
        /// The repository.
        repository: RepositoryName,
        /// The issue.
        issue: IssueNumber,
        /// Who asked.
        actor: String,
    },
    /// Call off the issue's active task because there is no such issue any more.
    IssueGone {
        /// The repository.
        repository: RepositoryName,
        /// The issue.
        issue: IssueNumber,
    },
    /// Put the issue's newest task back to `queued`, if it failed.
    RetryIssue {
        /// The repository.
        repository: RepositoryName,
        /// The issue.
        issue: IssueNumber,
        /// Who asked.
        actor: String,
    },
    /// Lets the issue's newest task spend more on models than its limit.
    AllowSpending {
        /// Where.
        repository: RepositoryName,
        /// Which issue.
        issue: IssueNumber,
        /// Who allows it.
        actor: String,
        /// How much more.
        more: Limit,
    },
    /// A pull request was closed. Matched to a task by number, or by head branch while the task
    /// has not reported its pull request yet (then it is remembered and applied on `finish`).
    PullRequestClosed {
        /// The repository.
        repository: RepositoryName,
        /// The pull request.
        number: u64,
        /// Its head branch.
        head: String,
        /// Merged, or just closed.
        merged: bool,
        /// Who closed it.
        actor: String,
    },
    /// A pull request that was closed is open again: its task goes on in review, unless the issue has
    /// another active one by now.
    PullRequestReopened {
        /// The repository.
        repository: RepositoryName,
        /// The pull request.
        number: u64,
        /// Its head branch.
        head: String,
        /// Who opened it again.
        actor: String,
    },
    /// Call off all active tasks of a repository, which is gone.
    CancelRepository {
        /// The repository.
        repository: RepositoryName,
        /// Who did it.
        actor: String,
        /// Why, for the history.
        why: String,
    },
    /// Do what a comment's command asks for, once, however often the comment is delivered. A
    /// command is never passed over in silence: when its act changes nothing, `otherwise` is done.
    Command {
        /// The repository.
        repository: RepositoryName,
        /// The comment's id, unique over all of GitHub.
        comment: u64,
        /// What is asked for.
        act: Box<Act>,
        /// What to do instead, if that can't be done any more.
        otherwise: Option<Box<Act>>,
    },
    /// Add what a person says to the issue's newest task, if an attempt of it can still take it in.
    FollowUp {
        /// The repository.
        repository: RepositoryName,
        /// The issue.
        issue: IssueNumber,
        /// The comment.
        follow_up: FollowUp,
    },
    /// Answer an addressed comment.
    Reply {
        /// The repository.
        repository: RepositoryName,
        /// The issue.
        issue: IssueNumber,
        /// What the answer is about.
        reply: Reply,
    },
}

/// Under which id the deliveries remember that a comment's command was done.
pub fn command_id(comment: u64) -> String {
    format!("comment-{comment}")
}

/// An answer to a comment; rendered by `report` when it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reply", rename_all = "snake_case")]
pub enum Reply {
    /// Where the issue's newest task stands.
    Status,
    /// The command could not be understood or done.
    Problem {
        /// Why, and what to do; Markdown.
        message: String,
    },
}

/// What an act did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Acted {
    /// The task was created.
    Created(TaskId),
    /// The task changed to that state.
    Changed(TaskId, TaskState),
    /// The task has something more to it; its state is the same.
    Noted(TaskId),
    /// A task with this key exists, or the issue has an active one: that one.
    Exists(TaskId),
    /// There was nothing to act on.
    Nothing,
    /// A reply was enqueued.
    Replied,
}

/// What became of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recorded {
    /// First time: its acts were done, in order.
    New(Vec<Acted>),
    /// This delivery id was recorded before; nothing was done.
    Duplicate,
    /// An earlier delivery of the issue is deferred; nothing was stored.
    Behind,
}
