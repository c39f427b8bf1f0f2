//! The store's contract: operations of the domain, not rows.
//!
//! Each operation is one transaction. Each change of a task's state is compare-and-set on
//! (state, attempt), goes through [`TaskState::transition`], writes one row of history and one
//! outbox entry in the same transaction, and says with [`Cas`] whether it happened.
//! The database's clock decides about leases; callers pass durations, never moments.
//! Absent: policy. Who may trigger what is `intake`'s; who gets a task is `scheduler`'s.

mod address;
pub mod archive;
mod held;
mod limits;
mod rules;
mod sql;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_domain::agent::Requirement;
use patchfleet_domain::outcome::Failure;
pub use patchfleet_domain::report::{Checkpoint, Report, WorkEvent};
use patchfleet_domain::{
    Agent, AgentId, AgentState, AgentType, AttemptNumber, IssueNumber, Priority, RepositoryName,
    SessionId, Task, TaskAnalysis, TaskId, TaskKind, TaskRequest, TaskState, Timestamp, Work,
};
use serde::{Deserialize, Serialize};

pub use address::{Address, InvalidAddress};
pub use limits::{AtWork, Caps, Pause, Room, Scope};
pub use sql::{Hints, SqlStore, Transferred};

/// What can go wrong with a database, as callers need to tell it apart.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The database can't be reached or is overloaded; trying again may help.
    #[error("the database is unavailable: {0}")]
    Unavailable(String),
    /// Other transactions were in the way, again and again; trying again may help.
    #[error("the database is contended: {0}")]
    Contended(String),
    /// What is stored, or the schema, is not what this version expects.
    #[error("the database holds something unexpected: {0}")]
    Corrupt(String),
}

/// Result of a store operation.
pub type StoreResult<T> = Result<T, StoreError>;

/// Whether a compare-and-set happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[must_use = "a stale change did not happen"]
pub enum Cas<T = ()> {
    /// It happened.
    Applied(T),
    /// Somebody was faster, or the fence is old; nothing changed.
    Stale,
}

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
}

/// What makes N events of one act one task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SemanticKey {
    /// The kind of trigger: `label`, `comment`, `assignment`, `api`.
    pub trigger: String,
    /// The object that triggered: a comment's id; for a label the issue's id and the moment.
    pub object: String,
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
    /// Create a task, unless its key is known or its issue has an active task.
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
    /// Put the issue's newest task back to `queued`, if it failed.
    RetryIssue {
        /// The repository.
        repository: RepositoryName,
        /// The issue.
        issue: IssueNumber,
        /// Who asked.
        actor: String,
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
}

/// A task that waits for an agent, as the planner needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedTask {
    /// The task.
    pub id: TaskId,
    /// Its newest attempt so far; compared when it is claimed.
    pub attempt: AttemptNumber,
    /// How soon it is wanted.
    pub priority: Priority,
    /// Its repository.
    pub repository: RepositoryName,
    /// What it asks of an agent.
    pub requirement: Arc<Requirement>,
    /// How long it has been queued.
    pub waited: Duration,
}

/// A decision who gets a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The task.
    pub task: TaskId,
    /// Its newest attempt when that was decided.
    pub attempt: AttemptNumber,
    /// Who gets it.
    pub agent: AgentId,
    /// What the task's history should say about the choice.
    pub note: Option<String>,
}

impl Claim {
    /// That task for that agent, without a word about it.
    pub fn new(task: &QueuedTask, agent: &AgentId) -> Self {
        Self {
            task: task.id,
            attempt: task.attempt,
            agent: agent.clone(),
            note: None,
        }
    }
}

/// How much of the queue to show. A lane is what waits for one type of agent in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The types whose lanes are wanted; of the others only the first task is shown, which may suit
    /// somebody for its capabilities. All types when absent.
    pub types: Option<Vec<AgentType>>,
    /// Tasks of each lane at most.
    pub each: u32,
    /// Tasks in all at most.
    pub most: u32,
}

impl Look {
    /// All lanes alike.
    pub const fn all(each: u32, most: u32) -> Self {
        Self {
            types: None,
            each,
            most,
        }
    }
}

/// A claimed task with all that an agent needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Task and attempt.
    pub work: Work,
    /// The task, in state `assigned`.
    pub task: Task,
    /// When the lease ends.
    pub lease_until: Timestamp,
    /// What earlier attempts finished, in order of completion.
    pub checkpoints: Vec<Checkpoint>,
}

/// A lease that ran out, or whose holder is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostAttempt {
    /// Task and attempt.
    pub work: Work,
    /// Who had it.
    pub agent: AgentId,
    /// Where the task went: `queued`, or `failed` when attempts are spent.
    pub now: TaskState,
}

/// An attempt that ended without its agent, which is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenAway {
    /// Task and attempt.
    pub work: Work,
    /// Who had it.
    pub agent: AgentId,
    /// A person called the task off; otherwise the attempt was given up.
    pub called_off: bool,
}

/// An attempt's two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long it lives without a sign of life of its agent.
    pub lease: Duration,
    /// How long it may take altogether: an agent that lives may still hang.
    pub deadline: Duration,
}

/// How long what is over is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Tasks that are completed, failed or cancelled, with all that belongs to them.
    pub tasks: Duration,
    /// Deliveries: one that comes again later counts as new.
    pub deliveries: Duration,
}

/// What was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retired {
    /// Tasks.
    pub tasks: usize,
    /// Deliveries.
    pub deliveries: usize,
    /// Entries of the outbox that were sent.
    pub entries: usize,
}

impl Retired {
    /// Nothing is old enough.
    pub const fn is_nothing(&self) -> bool {
        self.tasks == 0 && self.deliveries == 0 && self.entries == 0
    }
}

/// An attempt that holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveAttempt {
    /// Task and attempt.
    pub work: Work,
    /// The state of the task: `assigned`, `in_progress` or `testing`.
    pub state: TaskState,
    /// The highest report applied.
    pub last_seq: u64,
}

/// An attempt, for histories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Its number.
    pub number: AttemptNumber,
    /// Who had it.
    pub agent: AgentId,
    /// When it was assigned.
    pub assigned_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended: an outcome's word, `refused`, `lost`, `cancelled`.
    pub outcome: Option<String>,
    /// How it failed, if it did.
    pub failure: Option<Failure>,
    /// The tests, as the outcome told them.
    pub tests_before: Option<patchfleet_domain::TestVerdict>,
    /// The tests after the change.
    pub tests_after: Option<patchfleet_domain::TestVerdict>,
}

/// One row of a task's history.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskEvent {
    /// Grows over the whole store; a cursor.
    pub id: i64,
    /// The task.
    pub task: TaskId,
    /// The attempt that was newest then.
    pub attempt: AttemptNumber,
    /// When.
    pub at: Timestamp,
    /// What: `created`, `state`, `phase`, `checkpoint`, `usage`, `note`.
    pub kind: String,
    /// State before, for `state`.
    pub from: Option<TaskState>,
    /// State after, for `state` and `created`.
    pub to: Option<TaskState>,
    /// Who: an agent's id, a login, `coordinator`.
    pub actor: String,
    /// A line for people; for `phase` the phase's word, a colon and the detail.
    pub detail: String,
}

/// Which tasks to list.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TaskFilter {
    /// In any of these states; empty means all.
    pub states: Vec<TaskState>,
    /// Of this repository.
    pub repository: Option<RepositoryName>,
    /// Of this issue.
    pub issue: Option<IssueNumber>,
    /// Before (older than) this id; the cursor.
    pub before: Option<TaskId>,
    /// At most this many; 0 means 50, more than 500 means 500.
    pub limit: u32,
}

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
    /// How often it was tried.
    pub tries: u32,
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

/// What became of a try to send an outbox entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Sent {
    /// Done; for a status the comment's id, to be edited next time.
    Done {
        /// GitHub's comment id.
        comment: Option<u64>,
    },
    /// Try again after the delay; later entries of the same issue wait.
    Again {
        /// How long to wait.
        after: Duration,
        /// Why.
        error: String,
    },
    /// Never going to work (the issue is gone); dropped, with the reason kept.
    Dropped {
        /// Why.
        error: String,
    },
}

/// How a person's command on a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Commanded {
    /// Done; the task is now in that state.
    Done(TaskState),
    /// There is no such task.
    NotFound,
    /// The state does not allow it.
    NotAllowed(TaskState),
    /// The issue has another active task: that one.
    Conflict(TaskId),
}

/// The store. [`SqlStore`] keeps it on SQLite and on PostgreSQL; one suite holds both to it.
#[async_trait]
pub trait Store: Send + Sync + std::fmt::Debug {
    /// Changes after each commit of this process that left something to do: a task to analyze or
    /// to assign, an attempt called off, an entry in the outbox. Loops poll behind it.
    fn changed(&self) -> tokio::sync::watch::Receiver<u64>;

    /// Tasks that this process queued, right after the commit, so that their way to an agent needs
    /// no look at the queue. Whoever reads slowly loses the oldest, and finds them in the queue.
    fn newly_queued(&self) -> tokio::sync::broadcast::Receiver<QueuedTask>;

    /// True when the delivery was recorded before. A quick look that saves asking GitHub.
    async fn delivery_seen(&self, id: &str) -> StoreResult<bool>;
    /// Stores the delivery and does its acts, in one transaction.
    async fn record_delivery(&self, delivery: &Delivery, acts: &[Act]) -> StoreResult<Recorded>;

    /// True when the caller is to compare GitHub with the tasks: the last one began that long ago.
    async fn claim_sweep(&self, every: Duration) -> StoreResult<bool>;
    /// The repositories that have tasks.
    async fn repositories(&self) -> StoreResult<Vec<RepositoryName>>;
    /// A repository's tasks about issues that are not over.
    async fn active_tasks(&self, repository: &RepositoryName) -> StoreResult<Vec<Task>>;

    /// One task.
    async fn task(&self, id: TaskId) -> StoreResult<Option<Task>>;
    /// Tasks, newest first.
    async fn tasks(&self, filter: &TaskFilter) -> StoreResult<Vec<Task>>;
    /// The issue's newest task.
    async fn task_of_issue(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
    ) -> StoreResult<Option<Task>>;
    /// A task's history, oldest first, after the event id `after` (0 for all).
    async fn history(&self, task: TaskId, after: i64) -> StoreResult<Vec<TaskEvent>>;
    /// A task's attempts, oldest first.
    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>>;
    /// A task's log lines, oldest first, of its newest attempt.
    async fn logs(&self, task: TaskId) -> StoreResult<Vec<String>>;
    /// Calls a task off: any state that is not final and not `failed` → `cancelled`.
    async fn cancel(&self, task: TaskId, actor: &str) -> StoreResult<Commanded>;
    /// Puts a failed task back to `queued` with its failures forgotten.
    async fn retry(&self, task: TaskId, actor: &str) -> StoreResult<Commanded>;

    /// Tasks in `pending` or `analyzing` (left there by a crash), oldest first.
    async fn unanalyzed(&self, limit: u32) -> StoreResult<Vec<Task>>;
    /// Stores analyses: `pending → analyzing → queued`, or from `analyzing`; says of each whether
    /// it counted.
    async fn analyzed_all(&self, analyses: &[(TaskId, TaskAnalysis)]) -> StoreResult<Vec<Cas>>;
    /// Stores one analysis.
    async fn analyzed(&self, task: TaskId, analysis: &TaskAnalysis) -> StoreResult<Cas> {
        let done = self.analyzed_all(&[(task, analysis.clone())]).await?;
        Ok(done.into_iter().next().unwrap_or(Cas::Stale))
    }
    /// Tasks in `queued` whose retry delay is over: of each lane those that come first by aged
    /// priority (one point for each 10 minutes waited), then by age.
    async fn queued(&self, look: &Look) -> StoreResult<Vec<QueuedTask>>;
    /// What limits and pauses leave to be given to agents.
    async fn room(&self) -> StoreResult<Room>;
    /// How many tasks are at work in each lane that has some.
    async fn at_work(&self) -> StoreResult<Vec<AtWork>>;
    /// Gives nothing of that part of the queue to agents until it is resumed; false when it was
    /// paused before.
    async fn pause(&self, scope: &Scope, actor: &str, reason: Option<&str>) -> StoreResult<bool>;
    /// Ends a pause; false when there was none.
    async fn resume(&self, scope: &Scope) -> StoreResult<bool>;
    /// What is paused.
    async fn pauses(&self) -> StoreResult<Vec<Pause>>;
    /// Gives queued tasks to agents: `queued → assigned`, a new attempt with a lease; says of each
    /// whether it was won. What is paused or over a limit is not, whoever claims at the same time.
    async fn claim_all(
        &self,
        claims: &[Claim],
        lease: Duration,
    ) -> StoreResult<Vec<Cas<Assignment>>>;
    /// Gives one queued task to an agent.
    async fn claim(
        &self,
        task: &QueuedTask,
        agent: &AgentId,
        lease: Duration,
    ) -> StoreResult<Cas<Assignment>> {
        let won = self.claim_all(&[Claim::new(task, agent)], lease).await?;
        Ok(won.into_iter().next().unwrap_or(Cas::Stale))
    }
    /// The assignment of a live attempt again, for an agent that lost it on the way.
    async fn assignment(&self, work: Work) -> StoreResult<Option<Assignment>>;
    /// Applies reports in their order and in one transaction; old fences and ended attempts are
    /// [`Cas::Stale`]. Reports of one attempt have to come in the order of their numbers, and the
    /// next only when those before it are durable: one that was overtaken counts as said before.
    async fn report_all(&self, reports: &[Report]) -> StoreResult<Vec<Cas>>;
    /// Applies one report.
    async fn report(&self, report: &Report) -> StoreResult<Cas> {
        let applied = self.report_all(std::slice::from_ref(report)).await?;
        Ok(applied.into_iter().next().unwrap_or(Cas::Stale))
    }
    /// The agents gave a sign of life: for a lease from now they are present in those states, and
    /// their live attempts live on, if they were accepted and are not past the deadline; returns
    /// those that are live.
    async fn renew(
        &self,
        agents: &[(AgentId, AgentState)],
        terms: Terms,
    ) -> StoreResult<Vec<(AgentId, Work)>>;
    /// Attempts that ended without their agents since the moment that the last look returned, and
    /// some of those before; and the moment of this one.
    async fn taken_away(
        &self,
        since: Option<Timestamp>,
    ) -> StoreResult<(Timestamp, Vec<TakenAway>)>;
    /// The agent's live attempts.
    async fn live_attempts(&self, agent: &AgentId) -> StoreResult<Vec<LiveAttempt>>;
    /// Ends one live attempt whose holder is known to be gone: back to `queued`, or `failed`
    /// when attempts are spent. An attempt that was never accepted does not count as a failure.
    async fn lose(&self, work: Work, why: &str) -> StoreResult<Cas<TaskState>>;
    /// Ends every attempt whose lease ran out, as [`Store::lose`] does.
    async fn expire(&self) -> StoreResult<Vec<LostAttempt>>;

    /// Keeps what an agent said of itself when it registered, and that it is there, for `present`
    /// from now.
    async fn register_agent(
        &self,
        agent: &Agent,
        session: SessionId,
        present: Duration,
    ) -> StoreResult<()>;
    /// That session of the agent ended. Unless it has a newer one, it is offline, and its leases
    /// end after `grace` at the latest, if there is one.
    async fn agent_left(
        &self,
        agent: &AgentId,
        session: SessionId,
        grace: Option<Duration>,
    ) -> StoreResult<()>;
    /// All known agents, by id. One that gave no sign of life lately is `offline`.
    async fn agents(&self) -> StoreResult<Vec<Agent>>;

    /// The first unsent entry of each issue whose time has come, oldest first, taken for
    /// `hold` so that no other publisher takes it meanwhile.
    async fn take_outbox(&self, limit: u32, hold: Duration) -> StoreResult<Vec<OutboxEntry>>;
    /// Says how sending went. `Done` for a status also settles older status entries of the task.
    async fn settle_outbox(&self, entry: &OutboxEntry, sent: &Sent) -> StoreResult<()>;
    /// How many entries are unsent.
    async fn outbox_pending(&self) -> StoreResult<u64>;
    /// The task's status comment, once there is one.
    async fn status_comment(&self, task: TaskId) -> StoreResult<Option<u64>>;

    /// Brings the number of tasks in each state up to what was so `lag` ago, a step at a time;
    /// true when there is another one. A change that became durable later than `lag` after it was
    /// made would be missed.
    async fn tally(&self, lag: Duration) -> StoreResult<bool>;
    /// The number of tasks in each state, as far as [`Store::tally`] brought it.
    async fn tallies(&self) -> StoreResult<BTreeMap<TaskState, i64>>;
    /// Removes some of what is over for longer than that; active tasks stay, however old.
    async fn retire(&self, retention: Retention) -> StoreResult<Retired>;

    /// True when the database answers.
    async fn ping(&self) -> StoreResult<()>;
}
