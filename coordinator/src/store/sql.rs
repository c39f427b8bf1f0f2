//! The store on SQLite and PostgreSQL: one text of SQL for both, one file per aggregate.
//!
//! The two databases differ in few places only, and [`Dialect`] holds them. Every write is one
//! transaction that first holds the tasks it is about ([`unit`]), decides in memory
//! ([`super::held`]) and writes the difference as sets ([`write`]); deliveries and reports of
//! many callers share transactions ([`batch`]). Moments come from the database's clock, fetched
//! once per transaction. SQLite has a single connection that writes, so its transactions come one
//! after the other; what only reads has connections of its own and waits for no writer.

mod acts;
pub(in crate::store) mod advisory;
mod agents;
mod attempts;
mod awaited;
mod batch;
mod claims;
mod clock;
pub(super) mod connect;
mod deferred;
mod deliveries;
mod dependencies;
mod dialect;
mod errors;
mod follow_ups;
mod lanes;
mod logs;
mod memory;
mod names;
mod outbox;
mod patience;
mod replicas;
mod reports;
mod retention;
mod returns;
mod rows;
mod rowset;
pub(in crate::store) mod schema;
mod spending;
mod stored;
mod sweeps;
mod tallies;
mod tasks;
mod transfer;
mod unit;
mod unreadable;
mod warm;
mod write;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use futures::FutureExt as _;
use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{
    Agent, AgentId, AgentState, AttemptNumber, Budgets, FollowUp, IssueNumber, Limit,
    RepositoryName, Reservation, Reserved, SessionId, Task, TaskAnalysis, TaskId, TaskState,
    Timestamp, Work,
};
use patchfleet_telemetry::Metrics;
use sqlx::AnyPool;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use batch::Batcher;
use clock::Clock;
use deliveries::Record;
use dialect::Dialect;
use memory::Memory;
use patience::Patience;
use reports::{Applied, Reports};
pub use transfer::Transferred;
use unreadable::Unreadable;
use warm::Warm;

use super::lock::FileLock;
use super::{
    Assignment, AttemptRecord, Cas, Claim, Commanded, Deferral, DeferredDelivery, Delivery,
    Judgement, LastTrigger, LiveAttempt, LiveFollowUp, LogPage, LostAttempt, NewPresence,
    OutboxEntry, QueuedTask, Recorded, Report, Sent, Store, StoreResult, TaskEvent, TaskFilter,
};
use crate::store::{
    Act, Acted, AtWork, Caps, IssueEnd, Look, Pause, Renewal, Retention, Retired, Room, Scope,
    ScopeSpending, SeenRepository, SentStatus, TakenAway, Terms,
};

/// Newly queued tasks that nobody has heard of yet.
const NEWS: usize = 4096;
/// Transactions for reports that are under way at once.
const LANES: usize = 2;

/// A connection of either database.
type Sql = sqlx::AnyConnection;

/// Where the tasks are kept.
#[derive(Debug, Clone)]
struct Database {
    pool: AnyPool,
    /// For what only reads; on PostgreSQL the same.
    readers: AnyPool,
    /// For what is one statement and may not wait.
    warm: Warm,
    dialect: Dialect,
    /// Changes with what any replica commits.
    changed: watch::Sender<u64>,
    /// Changes with what this process commits.
    committed: watch::Sender<u64>,
    /// Tells of tasks that this process queued.
    queued: broadcast::Sender<QueuedTask>,
    metrics: Metrics,
    /// How many tasks may be at work at once.
    caps: Caps,
    /// What may be spent on models.
    budgets: Budgets,
    /// Tasks that are asked for soon, as this process left them.
    memory: Memory,
    /// The database's clock, as this process knows it.
    clock: Clock,
    /// How long it may take.
    patience: Patience,
    /// Rows that could not be decoded lately.
    unreadable: Unreadable,
    /// Keeps other processes from a SQLite file, for as long as anything here may use it.
    _lock: Option<FileLock>,
}

impl Database {
    fn new(dialect: Dialect, (pool, readers): (AnyPool, AnyPool), patience: Patience) -> Self {
        Self {
            warm: Warm::new(pool.clone(), patience.clone()),
            patience,
            pool,
            readers,
            dialect,
            changed: watch::Sender::new(0),
            committed: watch::Sender::new(0),
            queued: broadcast::Sender::new(NEWS),
            metrics: Metrics::new(),
            caps: Caps::default(),
            budgets: Budgets::default(),
            memory: Memory::default(),
            clock: Clock::default(),
            unreadable: Unreadable::default(),
            _lock: None,
        }
    }

    /// Wakes the loops of this process, and those of the others.
    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
        self.committed.send_modify(|count| *count += 1);
    }

    /// The database's clock, in microseconds since 1970.
    async fn now(&self) -> StoreResult<i64> {
        let text = format!("SELECT {}", self.dialect.now());
        let now = sqlx::query_scalar(sqlx::AssertSqlSafe(text));
        Ok(now.fetch_one(&self.readers).await?)
    }
}

/// The store.
#[derive(Debug, Clone)]
pub struct SqlStore {
    database: Arc<Database>,
    deliveries: Arc<Batcher<Record, Recorded>>,
    reports: Arc<[Batcher<Reports, Applied>; LANES]>,
    /// What keeps replicas in touch; ends with the store.
    replicas: Arc<Replicas>,
}

/// The tasks that keep replicas in touch.
#[derive(Debug, Default)]
struct Replicas {
    tasks: JoinSet<()>,
    /// Cancelled when one of them ends, however.
    ended: CancellationToken,
}

impl Replicas {
    fn start(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.ended.clone().drop_guard();
        self.tasks.spawn(async move {
            let _ended = ended;
            task.await;
        });
    }
}

impl SqlStore {
    /// Counts what becomes of tasks there.
    #[must_use]
    pub fn counted(self, metrics: Metrics) -> Self {
        self.with(|database| Database {
            metrics,
            ..database
        })
    }

    /// Has no more tasks at work at once than that. All replicas have to be told the same.
    #[must_use]
    pub fn limited(self, caps: Caps) -> Self {
        self.with(|database| Database { caps, ..database })
    }

    /// Allows no more to be spent on models than that. All replicas have to be told the same.
    #[must_use]
    pub fn budgeted(self, budgets: Budgets) -> Self {
        self.with(|database| Database {
            budgets,
            ..database
        })
    }

    fn with(self, change: impl FnOnce(Database) -> Database) -> Self {
        let database = change(self.database.as_ref().clone());
        Self {
            replicas: self.replicas,
            ..Self::on(database)
        }
    }

    /// Opens a SQLite file, made when it is not there, and brings its schema up to date. No other
    /// process may use it until the store is dropped.
    ///
    /// # Errors
    /// When another process has it, it can't be opened or its schema is not one that this version
    /// can bring up.
    pub async fn sqlite(path: &Path) -> StoreResult<Self> {
        let lock = FileLock::acquire(path, "coordinator").await?;
        Self::sqlite_locked(lock).await
    }

    /// As [`Self::sqlite`], under a lock that was acquired before.
    ///
    /// # Errors
    /// As [`Self::sqlite`].
    pub async fn sqlite_locked(lock: FileLock) -> StoreResult<Self> {
        let patience = Patience::default();
        let pools = connect::sqlite(lock.store(), &patience).await?;
        Ok(Self::on(Database {
            _lock: Some(lock),
            ..Database::new(Dialect::Sqlite, pools, patience)
        }))
    }

    /// Connects to PostgreSQL, shares the lock of the store there and brings its schema up to date.
    ///
    /// # Errors
    /// When it can't be reached, `patchfleet migrate` is copying it, or its schema is not one that
    /// this version can bring up.
    pub async fn postgres(url: &str, max_connections: u32) -> StoreResult<Self> {
        let patience = Patience::default();
        let listener = replicas::connect(url).await?;
        let pool = connect::postgres(url, max_connections, &patience).await?;
        let database = Database::new(Dialect::Postgres, (pool.clone(), pool), patience);
        let own = Uuid::now_v7();
        let changed = database.changed.clone();
        let committed = database.committed.subscribe();
        let mut replicas = Replicas::default();
        replicas.start(replicas::listen(listener, url.to_owned(), own, changed));
        let announcing = Arc::new(database.clone());
        replicas.start(replicas::announce(announcing, own, committed));
        Ok(Self {
            replicas: Arc::new(replicas),
            ..Self::on(database)
        })
    }

    /// Waits for the end of a task of the store's own, without which it does not do all its work:
    /// only a fault ends one. Says which.
    pub async fn worker_ended(&self) -> &'static str {
        let [first, second] = self.reports.as_ref();
        tokio::select! {
            () = self.deliveries.ended() => "what makes deliveries durable broke off",
            () = first.ended() => "what makes reports durable broke off",
            () = second.ended() => "what makes reports durable broke off",
            () = self.replicas.ended.cancelled() => "what keeps replicas in touch broke off",
        }
    }

    /// Connects to a PostgreSQL whose lock the caller has alone, and brings its schema up to date.
    pub(in crate::store) async fn postgres_locked(
        url: &str,
        max_connections: u32,
    ) -> StoreResult<Self> {
        let patience = Patience::default();
        let pool = connect::postgres(url, max_connections, &patience).await?;
        let database = Database::new(Dialect::Postgres, (pool.clone(), pool), patience);
        Ok(Self::on(database))
    }

    /// Ends all connections; what SQLite keeps beside the file is in it then.
    pub async fn close(self) {
        self.database.readers.close().await;
        self.database.pool.close().await;
    }

    /// For telling other replicas of commits in other ways than the database's own.
    pub fn hints(&self) -> Hints {
        Hints {
            committed: self.database.committed.subscribe(),
            changed: self.database.changed.clone(),
        }
    }

    /// Does an operation within its limit.
    async fn bound<T>(&self, operation: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        self.database.patience.bound(operation).await
    }

    fn on(database: Database) -> Self {
        let database = Arc::new(database);
        let deliveries = Batcher::start(Arc::clone(&database), |database, records| {
            deliveries::record_all(database, records).boxed()
        });
        let lane = |_| {
            Batcher::start(Arc::clone(&database), |database, all| {
                reports::apply_all(database, all).boxed()
            })
        };
        Self {
            deliveries: Arc::new(deliveries),
            reports: Arc::new(std::array::from_fn(lane)),
            replicas: Arc::default(),
            database,
        }
    }
}

/// What another way between replicas needs: what to tell, and whom to tell of what was heard.
#[derive(Debug, Clone)]
pub struct Hints {
    /// Changes with what this process commits.
    pub committed: watch::Receiver<u64>,
    changed: watch::Sender<u64>,
}

impl Hints {
    /// Another replica may have committed something.
    pub fn hint(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// A duration as the databases count it.
fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[async_trait]
impl Store for SqlStore {
    fn changed(&self) -> watch::Receiver<u64> {
        self.database.changed.subscribe()
    }

    fn newly_queued(&self) -> broadcast::Receiver<QueuedTask> {
        self.database.queued.subscribe()
    }

    async fn delivery_seen(&self, id: &str) -> StoreResult<bool> {
        self.bound(deliveries::seen(&self.database, id)).await
    }

    async fn record_delivery(&self, delivery: &Delivery, acts: &[Act]) -> StoreResult<Recorded> {
        let record = (delivery.clone(), acts.to_vec());
        self.deliveries.submit(record).await
    }

    async fn defer_delivery(&self, deferral: &Deferral) -> StoreResult<bool> {
        self.database
            .persistently(|| deferred::defer(&self.database, deferral))
            .await
    }

    async fn deferred_deliveries(&self) -> StoreResult<u64> {
        self.bound(deferred::waiting(&self.database)).await
    }

    async fn take_deferred(
        &self,
        limit: u32,
        hold: Duration,
    ) -> StoreResult<Vec<DeferredDelivery>> {
        self.bound(deferred::take(&self.database, limit, hold))
            .await
    }

    async fn settle_deferred(
        &self,
        deferred: &DeferredDelivery,
        judgement: &Judgement,
    ) -> StoreResult<Cas<Vec<Acted>>> {
        self.database
            .persistently(|| deferred::settle(&self.database, deferred, judgement))
            .await
    }

    async fn task(&self, id: TaskId) -> StoreResult<Option<Task>> {
        self.bound(tasks::by_id(&self.database, id)).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> StoreResult<Vec<Task>> {
        self.bound(tasks::list(&self.database, filter)).await
    }

    async fn claim_sweep(&self, every: Duration) -> StoreResult<bool> {
        self.bound(sweeps::claim(&self.database, every)).await
    }

    async fn swept_until(&self, part: &str) -> StoreResult<Option<Timestamp>> {
        self.bound(sweeps::until(&self.database, part)).await
    }

    async fn set_swept_until(&self, part: &str, at: Timestamp) -> StoreResult<()> {
        self.bound(sweeps::set_until(&self.database, part, at))
            .await
    }

    async fn repositories(&self) -> StoreResult<Vec<RepositoryName>> {
        self.bound(sweeps::repositories(&self.database)).await
    }

    async fn active_tasks(&self, repository: &RepositoryName) -> StoreResult<Vec<Task>> {
        self.bound(sweeps::active(&self.database, repository)).await
    }

    async fn closed_pull_requests(
        &self,
        repository: &RepositoryName,
        since: Timestamp,
    ) -> StoreResult<Vec<Task>> {
        self.bound(sweeps::closed_pulls(&self.database, repository, since))
            .await
    }

    async fn repository_names(&self, id: u64) -> StoreResult<Vec<RepositoryName>> {
        self.bound(names::known(&self.database, id)).await
    }

    async fn repository_seen(&self, seen: &SeenRepository) -> StoreResult<Vec<RepositoryName>> {
        self.database
            .persistently(|| names::seen(&self.database, seen))
            .await
    }

    async fn follow_issues(&self) -> StoreResult<()> {
        self.database
            .persistently(|| awaited::follow(&self.database))
            .await
    }

    async fn issues_due(
        &self,
        again: Duration,
        limit: u32,
    ) -> StoreResult<Vec<(RepositoryName, IssueNumber)>> {
        self.bound(awaited::due(&self.database, again, limit)).await
    }

    async fn issue_ended(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
        how: IssueEnd,
    ) -> StoreResult<usize> {
        self.database
            .persistently(|| awaited::ended(&self.database, (repository, issue), how))
            .await
    }

    async fn task_of_issue(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
    ) -> StoreResult<Option<Task>> {
        let filter = TaskFilter {
            repository: Some(repository.clone()),
            issue: Some(issue),
            limit: 1,
            ..TaskFilter::default()
        };
        self.bound(tasks::first(&self.database, &filter)).await
    }

    async fn last_triggered(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
    ) -> StoreResult<Option<LastTrigger>> {
        self.bound(tasks::last_triggered(&self.database, repository, issue))
            .await
    }

    async fn follow_ups(&self, task: TaskId) -> StoreResult<Vec<FollowUp>> {
        self.bound(follow_ups::of(&self.database, task)).await
    }

    async fn live_follow_ups(
        &self,
        since: Option<Timestamp>,
    ) -> StoreResult<(Timestamp, Vec<LiveFollowUp>)> {
        self.bound(follow_ups::of_live_attempts(&self.database, since))
            .await
    }

    async fn history(&self, task: TaskId, after: i64) -> StoreResult<Vec<TaskEvent>> {
        self.bound(tasks::history(&self.database, task, after))
            .await
    }

    async fn newest_history(&self, task: TaskId, limit: u32) -> StoreResult<Vec<TaskEvent>> {
        self.bound(tasks::newest_history(&self.database, task, limit))
            .await
    }

    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        self.bound(attempts::records(&self.database, task)).await
    }

    async fn logs(&self, task: TaskId, after: i64) -> StoreResult<LogPage> {
        self.bound(logs::page(&self.database, task, after)).await
    }

    async fn cancel(&self, task: TaskId, actor: &str) -> StoreResult<Commanded> {
        self.database
            .persistently(|| tasks::cancel(&self.database, task, actor))
            .await
    }

    async fn retry(&self, task: TaskId, actor: &str) -> StoreResult<Commanded> {
        self.database
            .persistently(|| tasks::retry(&self.database, task, actor))
            .await
    }

    async fn unanalyzed(&self, limit: u32) -> StoreResult<Vec<Task>> {
        self.bound(tasks::unanalyzed(&self.database, limit)).await
    }

    async fn analyzed_all(&self, analyses: &[(TaskId, TaskAnalysis)]) -> StoreResult<Vec<Cas>> {
        tasks::analyzed_all(&self.database, analyses).await
    }

    async fn refuse(&self, task: TaskId, failure: &Failure) -> StoreResult<Cas> {
        self.database
            .persistently(|| tasks::refuse(&self.database, task, failure))
            .await
    }

    async fn queued(&self, look: &Look) -> StoreResult<Vec<QueuedTask>> {
        self.bound(claims::queued(&self.database, look)).await
    }

    async fn room(&self) -> StoreResult<Room> {
        self.bound(lanes::room(&self.database)).await
    }

    async fn at_work(&self) -> StoreResult<Vec<AtWork>> {
        self.bound(async {
            let mut sql = self.database.readers.acquire().await?;
            lanes::at_work(&self.database, &mut sql).await
        })
        .await
    }

    async fn pause(&self, scope: &Scope, actor: &str, reason: Option<&str>) -> StoreResult<bool> {
        self.database
            .persistently(|| lanes::pause(&self.database, scope, (actor, reason)))
            .await
    }

    async fn resume(&self, scope: &Scope) -> StoreResult<bool> {
        self.database
            .persistently(|| lanes::resume(&self.database, scope))
            .await
    }

    async fn pauses(&self) -> StoreResult<Vec<Pause>> {
        self.bound(lanes::pauses(&self.database)).await
    }

    async fn claim_all(
        &self,
        claims: &[Claim],
        lease: Duration,
    ) -> StoreResult<Vec<Cas<Assignment>>> {
        claims::claim_all(&self.database, claims, lease).await
    }

    async fn set_aside(
        &self,
        task: TaskId,
        newest: AttemptNumber,
        unfit: &[(AgentId, String)],
    ) -> StoreResult<Cas> {
        self.database
            .persistently(|| returns::set_aside(&self.database, (task, newest), unfit))
            .await
    }

    async fn waiting_for_agents(&self, limit: u32) -> StoreResult<Vec<(Task, bool)>> {
        self.bound(returns::waiting(&self.database, limit)).await
    }

    async fn reserve(&self, work: Work, call: &Reservation) -> StoreResult<Cas<Reserved>> {
        self.database
            .persistently(|| spending::reserve(&self.database, work, call))
            .await
    }

    async fn allow(&self, task: TaskId, more: Limit, actor: &str) -> StoreResult<Commanded> {
        self.database
            .persistently(|| spending::allow(&self.database, task, more, actor))
            .await
    }

    async fn spending(&self) -> StoreResult<Vec<ScopeSpending>> {
        self.bound(spending::today(&self.database)).await
    }

    async fn due_for_budget(&self, limit: u32) -> StoreResult<Vec<TaskId>> {
        self.bound(spending::due(&self.database, limit)).await
    }

    async fn offer_again(&self, tasks: &[TaskId], why: &str) -> StoreResult<usize> {
        returns::offer_again(&self.database, tasks, why).await
    }

    async fn assignment(&self, work: Work) -> StoreResult<Option<Assignment>> {
        self.bound(claims::assignment(&self.database, work)).await
    }

    async fn report_all(&self, reports: &[Report]) -> StoreResult<Vec<Cas>> {
        let Some(first) = reports.first() else {
            return Ok(Vec::new());
        };
        let lane = first.work.task.as_uuid().as_bytes()[15];
        let lane = usize::from(lane) % LANES;
        self.reports[lane].submit(reports.to_vec()).await?
    }

    async fn renew(
        &self,
        agents: &[(AgentId, AgentState)],
        terms: Terms,
    ) -> StoreResult<Vec<Renewal>> {
        self.database
            .persistently(|| agents::renew(&self.database, agents, terms))
            .await
    }

    async fn taken_away(
        &self,
        since: Option<Timestamp>,
    ) -> StoreResult<(Timestamp, Vec<TakenAway>)> {
        self.bound(attempts::taken_away(&self.database, since))
            .await
    }

    async fn called_off(&self, agent: &AgentId, works: &[Work]) -> StoreResult<BTreeSet<Work>> {
        self.bound(attempts::called_off(&self.database, agent, works))
            .await
    }

    async fn holder(&self, work: Work) -> StoreResult<Option<AgentId>> {
        self.bound(attempts::holder(&self.database, work)).await
    }

    async fn live_attempts(&self, agent: &AgentId) -> StoreResult<Vec<LiveAttempt>> {
        self.bound(attempts::live(&self.database, agent)).await
    }

    async fn lose(&self, work: Work, why: &str) -> StoreResult<Cas<TaskState>> {
        self.database
            .persistently(|| attempts::lose(&self.database, work, why))
            .await
    }

    async fn expire(&self) -> StoreResult<Vec<LostAttempt>> {
        attempts::expire(&self.database).await
    }

    async fn register_agent(&self, agent: &Agent, presence: NewPresence) -> StoreResult<Cas> {
        self.bound(agents::register(&self.database, agent, presence))
            .await
    }

    async fn agent_left(
        &self,
        agent: &AgentId,
        session: SessionId,
        grace: Option<Duration>,
    ) -> StoreResult<()> {
        self.database
            .persistently(|| agents::leave(&self.database, agent, (session, grace)))
            .await
    }

    async fn agents(&self) -> StoreResult<Vec<Agent>> {
        self.bound(agents::all(&self.database)).await
    }

    async fn take_calm_outbox(
        &self,
        limit: u32,
        hold: Duration,
        lull: Duration,
    ) -> StoreResult<Vec<OutboxEntry>> {
        self.bound(outbox::take(&self.database, limit, (hold, lull)))
            .await
    }

    async fn settle_outbox(&self, entry: &OutboxEntry, sent: &Sent) -> StoreResult<()> {
        self.bound(outbox::settle(&self.database, entry, sent))
            .await
    }

    async fn outbox_pending(&self) -> StoreResult<u64> {
        self.bound(outbox::pending(&self.database)).await
    }

    async fn sent_status(&self, task: TaskId) -> StoreResult<SentStatus> {
        self.bound(outbox::sent_status(&self.database, task)).await
    }

    async fn tally(&self, lag: Duration) -> StoreResult<bool> {
        self.database
            .persistently(|| tallies::add_up(&self.database, lag))
            .await
    }

    async fn tallies(&self) -> StoreResult<BTreeMap<TaskState, i64>> {
        self.bound(tallies::by_state(&self.database)).await
    }

    async fn retire(&self, retention: Retention) -> StoreResult<Retired> {
        self.database
            .persistently(|| retention::retire(&self.database, retention))
            .await
    }

    async fn ping(&self) -> StoreResult<()> {
        self.bound(async {
            let one = sqlx::query("SELECT 1");
            one.execute(&self.database.readers).await?;
            Ok(())
        })
        .await
    }
}
