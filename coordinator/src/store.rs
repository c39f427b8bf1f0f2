//! The store's contract: operations of the domain, not rows.
//!
//! Each operation is one transaction. Each change of a task's state is compare-and-set on
//! (state, attempt), goes through [`TaskState::transition`], writes one row of history and one
//! outbox entry in the same transaction, and says with [`Cas`] whether it happened.
//! The database's clock decides about leases; callers pass durations, never moments.
//! A row that can't be decoded stops nobody but itself: lists skip it, and whoever asks for it gets
//! an error that names it.
//! Absent: policy. Who may trigger what is `intake`'s; who gets a task is `scheduler`'s.

mod address;
pub mod archive;
mod deferred;
mod deliveries;
mod examine;
mod held;
mod limits;
mod lock;
mod migrate;
mod outbox;
mod rules;
mod sql;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_domain::outcome::Failure;
pub use patchfleet_domain::report::{Checkpoint, Report, WorkEvent};
use patchfleet_domain::{
    Agent, AgentId, AgentState, AttemptNumber, BudgetScope, FollowUp, IssueNumber, Limit, Money,
    RepositoryName, Reservation, Reserved, SessionId, Task, TaskAnalysis, TaskId, TaskState,
    Timestamp, Work,
};
use serde::{Deserialize, Serialize};

/// Events of a history that are read at once.
pub const HISTORY_PAGE: u32 = 1000;

pub use address::{Address, InvalidAddress};
pub use deferred::{Deferral, DeferredDelivery, Judgement};
pub use deliveries::{
    Act, Acted, Delivery, LastTrigger, NewTask, Recorded, Reply, SemanticKey, command_id,
};
pub use examine::examine;
pub use limits::{AtWork, Caps, Pause, Room, Scope};
pub use lock::{FileLock, LockError};
pub use migrate::{Exclusive, migrate};
pub use outbox::{Effect, OutboxEntry, Sent, SentStatus};
pub use sql::{Hints, SqlStore, Transferred};
pub use work::{
    Assignment, AttemptRecord, Claim, LiveAttempt, LiveFollowUp, Look, LostAttempt, NewPresence,
    QueuedTask, Renewal, Rest, TakenAway, Terms,
};

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

/// A page of a log. The head of a log and its newest lines are kept; one line stands for those that
/// were left out between. Whoever reads on after [`Self::last`] gets each line once, and such a line
/// for what was removed before it was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LogPage {
    /// The attempt whose log it is, if it has lines.
    pub attempt: Option<AttemptNumber>,
    /// Lines in their order.
    pub lines: Vec<String>,
    /// Id of the last line; that which was asked for when there is none after it. A cursor.
    pub last: i64,
    /// There are lines after the last one already. A log within its bound is one page.
    pub more: bool,
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

/// What a scope has spent, with reservations that are open in full.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ScopeSpending {
    /// Whether it is a repository, a person or everything.
    pub scope: BudgetScope,
    /// The repository or the login; empty for everything.
    pub name: String,
    /// The day, in UTC.
    pub day: String,
    /// Money spent or reserved.
    pub usd: Money,
    /// Tokens of all classes, used or reserved.
    pub tokens: u64,
    /// The most that it may spend.
    pub limit: Limit,
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

/// How an issue ended on GitHub that tasks wait for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IssueEnd {
    /// Closed as done.
    Done,
    /// Closed as not planned, or a pull request that was not merged.
    GivenUp,
    /// There is no such issue any more, or never was: nothing to wait for.
    Gone,
}

impl IssueEnd {
    /// As it is said in histories.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "closed",
            Self::GivenUp => "closed as not planned",
            Self::Gone => "gone",
        }
    }
}

/// A repository as GitHub shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRepository {
    /// GitHub's id, which stays when the name changes.
    pub id: Option<u64>,
    /// Its name.
    pub name: RepositoryName,
    /// A name that it had before, where GitHub says so.
    pub was: Option<RepositoryName>,
    /// Where git clones from.
    pub clone_url: String,
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
    /// Stores the delivery and does its acts, in one transaction. Neither when an earlier delivery of
    /// its issue is deferred.
    async fn record_delivery(&self, delivery: &Delivery, acts: &[Act]) -> StoreResult<Recorded>;
    /// Stores a delivery that can't be judged yet; false when it was stored before.
    async fn defer_delivery(&self, deferral: &Deferral) -> StoreResult<bool>;
    /// How many deferred deliveries wait to be judged.
    async fn deferred_deliveries(&self) -> StoreResult<u64>;
    /// The first deferred delivery of each issue whose time has come, oldest first, taken for `hold` so
    /// that nobody else judges it meanwhile.
    async fn take_deferred(&self, limit: u32, hold: Duration)
    -> StoreResult<Vec<DeferredDelivery>>;
    /// Settles a deferred delivery that was taken: does its acts in the same transaction, puts it off
    /// or gives it up. [`Cas::Stale`] when somebody else has taken it since.
    async fn settle_deferred(
        &self,
        deferred: &DeferredDelivery,
        judgement: &Judgement,
    ) -> StoreResult<Cas<Vec<Acted>>>;

    /// True when the caller is to compare GitHub with the tasks: the last one began that long ago.
    async fn claim_sweep(&self, every: Duration) -> StoreResult<bool>;
    /// Until when that part of the comparison is complete, as [`Store::set_swept_until`] said.
    async fn swept_until(&self, part: &str) -> StoreResult<Option<Timestamp>>;
    /// Remembers until when a part of the comparison is complete.
    async fn set_swept_until(&self, part: &str, at: Timestamp) -> StoreResult<()>;
    /// The repositories that have tasks.
    async fn repositories(&self) -> StoreResult<Vec<RepositoryName>>;
    /// A repository's tasks about issues that are not over.
    async fn active_tasks(&self, repository: &RepositoryName) -> StoreResult<Vec<Task>>;

    /// A repository's tasks that failed because their pull request was closed, since that moment.
    async fn closed_pull_requests(
        &self,
        repository: &RepositoryName,
        since: Timestamp,
    ) -> StoreResult<Vec<Task>>;
    /// The names that a repository was seen by, the newest last, by GitHub's id.
    async fn repository_names(&self, id: u64) -> StoreResult<Vec<RepositoryName>>;
    /// Notes by which name GitHub shows a repository; what is stored under an earlier name of it
    /// follows. Returns all names that are known of it, this one last.
    async fn repository_seen(&self, seen: &SeenRepository) -> StoreResult<Vec<RepositoryName>>;

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
    /// The follow-ups of a task, which people added after it was asked for, in the order of their arrival.
    async fn follow_ups(&self, task: TaskId) -> StoreResult<Vec<FollowUp>>;
    /// The follow-ups of live attempts since the cursor that the last look returned, with an overlap before
    /// it; and the next cursor.
    async fn live_follow_ups(
        &self,
        since: Option<Timestamp>,
    ) -> StoreResult<(Timestamp, Vec<LiveFollowUp>)>;
    /// What the issue's newest task came of or, if it was triggered again while it was active, the newest
    /// of those triggers; also if the task was removed since.
    async fn last_triggered(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
    ) -> StoreResult<Option<LastTrigger>>;
    /// A page of a task's history, oldest first, after the event id `after` (0 for the first):
    /// [`HISTORY_PAGE`] events, or fewer when there are no more.
    async fn history(&self, task: TaskId, after: i64) -> StoreResult<Vec<TaskEvent>>;
    /// The newest events of a task's history, oldest first.
    async fn newest_history(&self, task: TaskId, limit: u32) -> StoreResult<Vec<TaskEvent>>;
    /// A task's attempts, oldest first.
    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>>;
    /// A page of the log of a task's newest attempt, oldest first, after the line with the id `after`
    /// (0 for the first). A log that is within its bound is one page.
    async fn logs(&self, task: TaskId, after: i64) -> StoreResult<LogPage>;
    /// Calls a task off: any state that is not final and not `failed` → `cancelled`.
    async fn cancel(&self, task: TaskId, actor: &str) -> StoreResult<Commanded>;
    /// Puts a failed task back to `queued` with its failures forgotten, or to `analyzing` when it failed
    /// for what its repository says; or one that waits for an agent to take it.
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
    /// Ends a task that can't be analyzed, for what its repository says: by way of `analyzing` to `failed`.
    /// Retried, it is analyzed anew.
    async fn refuse(&self, task: TaskId, failure: &Failure) -> StoreResult<Cas>;
    /// Has tasks that wait for an issue wait for the task that is at work on it by now, or go on when
    /// that one is over.
    async fn follow_issues(&self) -> StoreResult<()>;
    /// Issues that tasks wait for, that no task is at work on, and that were not due within `again`.
    async fn issues_due(
        &self,
        again: Duration,
        limit: u32,
    ) -> StoreResult<Vec<(RepositoryName, IssueNumber)>>;
    /// Lets go on, or stops, what waits for an issue that is over; how many tasks waited for it.
    async fn issue_ended(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
        how: IssueEnd,
    ) -> StoreResult<usize>;
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
    /// Takes a queued task whose newest attempt is still that one out of the queue, because all
    /// agents that could take it are unfit for these reasons: `queued → waiting`.
    async fn set_aside(
        &self,
        task: TaskId,
        newest: AttemptNumber,
        unfit: &[(AgentId, String)],
    ) -> StoreResult<Cas>;
    /// Tasks that wait because no agent takes them, those first whose time has come earliest; with
    /// whether it has come.
    async fn waiting_for_agents(&self, limit: u32) -> StoreResult<Vec<(Task, bool)>>;
    /// Allows a call of a model against the budgets of its task, or says whose budget is spent. Until its
    /// usage is reported it counts in full; asked again under the same name it is the same call.
    /// [`Cas::Stale`] when the attempt is not live.
    async fn reserve(&self, work: Work, call: &Reservation) -> StoreResult<Cas<Reserved>>;
    /// Lets a task spend more than its limit, in addition to what it was allowed before; one that waits
    /// for a budget is queued again.
    async fn allow(&self, task: TaskId, more: Limit, actor: &str) -> StoreResult<Commanded>;
    /// What was spent today by each scope whose budget is one for each day, the dearest first.
    async fn spending(&self) -> StoreResult<Vec<ScopeSpending>>;
    /// Tasks that wait for a budget whose day is over.
    async fn due_for_budget(&self, limit: u32) -> StoreResult<Vec<TaskId>>;
    /// Offers tasks that wait for an agent or a budget to agents again; says how many still waited.
    async fn offer_again(&self, tasks: &[TaskId], why: &str) -> StoreResult<usize>;
    /// The assignment of a live attempt again, for an agent that lost it on the way.
    async fn assignment(&self, work: Work) -> StoreResult<Option<Assignment>>;
    /// Applies reports in their order and in one transaction; old fences and ended attempts are
    /// [`Cas::Stale`]. Reports of one attempt have to come in the order of their numbers, and the
    /// next only when those before it are durable: one that was overtaken counts as said before.
    /// When one of their tasks can't be decoded none of them counts, and all may be said again.
    async fn report_all(&self, reports: &[Report]) -> StoreResult<Vec<Cas>>;
    /// Applies one report.
    async fn report(&self, report: &Report) -> StoreResult<Cas> {
        let applied = self.report_all(std::slice::from_ref(report)).await?;
        Ok(applied.into_iter().next().unwrap_or(Cas::Stale))
    }
    /// The agents gave a sign of life: for a lease from now they are present in those states, and
    /// their live attempts live on, if they were accepted and are not past the deadline; returns
    /// those that are live, whether accepted or not.
    async fn renew(
        &self,
        agents: &[(AgentId, AgentState)],
        terms: Terms,
    ) -> StoreResult<Vec<Renewal>>;
    /// Attempts that ended without their agents since the moment that the last look returned, and
    /// some of those before; and the moment of this one.
    async fn taken_away(
        &self,
        since: Option<Timestamp>,
    ) -> StoreResult<(Timestamp, Vec<TakenAway>)>;
    /// Those of an agent's attempts that ended because their task was cancelled, by a person or by
    /// the failure of a dependency: their agent is to hear `Cancel`, and of all others that they are
    /// stale.
    async fn called_off(&self, agent: &AgentId, works: &[Work]) -> StoreResult<BTreeSet<Work>>;
    /// Who has or had an attempt.
    async fn holder(&self, work: Work) -> StoreResult<Option<AgentId>>;
    /// The agent's live attempts.
    async fn live_attempts(&self, agent: &AgentId) -> StoreResult<Vec<LiveAttempt>>;
    /// Ends one live attempt whose holder is known to be gone: back to `queued`, or `failed`
    /// when attempts are spent. An attempt that was never accepted does not count as a failure.
    async fn lose(&self, work: Work, why: &str) -> StoreResult<Cas<TaskState>>;
    /// Ends every attempt whose lease ran out, as [`Store::lose`] does.
    async fn expire(&self) -> StoreResult<Vec<LostAttempt>>;

    /// Keeps what an agent said of itself when it registered, and that it is there, for `present`
    /// from now. [`Cas::Stale`] when another instance of it is there through another replica; a
    /// store that only one process uses knows of none.
    async fn register_agent(&self, agent: &Agent, presence: NewPresence) -> StoreResult<Cas>;
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
    /// `hold` so that no other publisher takes it meanwhile; for longer when it did not get through
    /// before.
    async fn take_outbox(&self, limit: u32, hold: Duration) -> StoreResult<Vec<OutboxEntry>> {
        self.take_calm_outbox(limit, hold, Duration::ZERO).await
    }
    /// The same but for what is about a task that was made less than `lull` ago and waits for an agent:
    /// that one accepts it needs no entry of its own then.
    async fn take_calm_outbox(
        &self,
        limit: u32,
        hold: Duration,
        lull: Duration,
    ) -> StoreResult<Vec<OutboxEntry>>;
    /// Says how sending went. `Done` for a status also settles older status entries of the task.
    async fn settle_outbox(&self, entry: &OutboxEntry, sent: &Sent) -> StoreResult<()>;
    /// How many entries are unsent.
    async fn outbox_pending(&self) -> StoreResult<u64>;
    /// What the issue was last told of the task's status.
    async fn sent_status(&self, task: TaskId) -> StoreResult<SentStatus>;
    /// The task's status comment, once there is one.
    async fn status_comment(&self, task: TaskId) -> StoreResult<Option<u64>> {
        Ok(self.sent_status(task).await?.comment)
    }

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
