//! The store on SQLite and PostgreSQL: one text of SQL for both, one file per aggregate.
//!
//! The two databases differ in three places only, and [`Dialect`] holds them. Every write is one
//! transaction that first locks the task it is about; moments come from the database's clock,
//! fetched once per transaction. SQLite has a single connection that writes, so its transactions
//! come one after the other; what only reads has connections of its own and waits for no writer.

mod agents;
mod attempts;
mod claims;
mod deliveries;
mod outbox;
mod reports;
mod rows;
mod tasks;
mod transaction;

use std::fs::File;
use std::io;
use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_domain::{
    Agent, AgentId, AgentState, IssueNumber, RepositoryName, Task, TaskAnalysis, TaskId, TaskState,
    Work,
};
use patchfleet_telemetry::Metrics;
use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::migrate::Migrator;
use sqlx::{AnyPool, ConnectOptions as _, Executor as _};
use tokio::sync::watch;

use super::{
    Assignment, AttemptRecord, Cas, Commanded, Delivery, LiveAttempt, LostAttempt, OutboxEntry,
    QueuedTask, Recorded, Report, Sent, Store, StoreError, StoreResult, TaskEvent, TaskFilter,
};
use crate::store::Act;

static SQLITE_MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");
static POSTGRES_MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// What every connection to PostgreSQL begins with: how long a statement may take before it is
/// given up, and a name for `pg_stat_activity`, unless the address has one.
const POSTGRES_SESSION: [&str; 2] = [
    "SET statement_timeout = '15s'",
    "SELECT set_config('application_name', 'patchfleet', false) \
     WHERE current_setting('application_name') = ''",
];
/// What every connection to SQLite begins with.
const SQLITE_SESSION: [&str; 4] = [
    "PRAGMA busy_timeout = 5000",
    "PRAGMA journal_mode = WAL",
    "PRAGMA synchronous = FULL",
    "PRAGMA foreign_keys = ON",
];
/// What a connection that only reads begins with.
const SQLITE_READER: [&str; 2] = ["PRAGMA busy_timeout = 5000", "PRAGMA query_only = ON"];
/// How many of them there are.
const SQLITE_READERS: u32 = 4;

/// Where the two databases differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Dialect {
    Sqlite,
    Postgres,
}

impl Dialect {
    /// The database's clock, in microseconds since 1970.
    const fn now(self) -> &'static str {
        match self {
            Self::Sqlite => "SELECT CAST(unixepoch('subsec') * 1000000 AS INTEGER)",
            Self::Postgres => "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint",
        }
    }

    /// Begins a transaction that is going to write. SQLite takes its one lock at once: a
    /// transaction that read before it may otherwise be refused when it comes to write.
    const fn begin(self) -> &'static str {
        match self {
            Self::Sqlite => "BEGIN IMMEDIATE",
            Self::Postgres => "BEGIN",
        }
    }

    /// Has those who would make a task of `$1`, an issue, active go one after the other.
    const fn lock_issue(self) -> Option<&'static str> {
        match self {
            Self::Sqlite => None,
            Self::Postgres => Some("SELECT pg_advisory_xact_lock(hashtextextended($1, 0)) IS NULL"),
        }
    }

    /// Makes a row of a SELECT one's own until the transaction ends.
    const fn lock(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE",
        }
    }

    /// The same, leaving out what somebody else has.
    const fn lock_free(self) -> &'static str {
        match self {
            Self::Sqlite => "",
            Self::Postgres => " FOR UPDATE SKIP LOCKED",
        }
    }
}

/// The store.
#[derive(Debug, Clone)]
pub struct SqlStore {
    pool: AnyPool,
    /// For what only reads; on PostgreSQL the same.
    readers: AnyPool,
    dialect: Dialect,
    changed: watch::Sender<u64>,
    metrics: Metrics,
}

impl SqlStore {
    /// Counts what becomes of tasks there.
    #[must_use]
    pub fn counted(self, metrics: Metrics) -> Self {
        Self { metrics, ..self }
    }

    /// Opens a SQLite file, made when it is not there, and brings its schema up to date.
    ///
    /// # Errors
    /// When the file can't be opened or its schema is not one that this version can bring up.
    pub async fn sqlite(path: &Path) -> StoreResult<Self> {
        let url = sqlite_url(path)?;
        let writer = AnyPoolOptions::new().max_connections(1).min_connections(1);
        let writer = connect(&url, writer, &SQLITE_SESSION).await?;
        let alone = sqlite_migration_lock(path).await?;
        migrate(&SQLITE_MIGRATIONS, &writer).await?;
        drop(alone);
        let readers = AnyPoolOptions::new().max_connections(SQLITE_READERS);
        let readers = connect(&url, readers, &SQLITE_READER).await?;
        Ok(Self::new(Dialect::Sqlite, writer, readers))
    }

    /// Connects to PostgreSQL and brings its schema up to date, under a lock of its own.
    ///
    /// # Errors
    /// When it can't be reached or its schema is not one that this version can bring up.
    pub async fn postgres(url: &str, max_connections: u32) -> StoreResult<Self> {
        let pool = AnyPoolOptions::new()
            .max_connections(max_connections)
            .acquire_timeout(Duration::from_secs(10));
        let pool = connect(url, pool, &POSTGRES_SESSION).await?;
        migrate(&POSTGRES_MIGRATIONS, &pool).await?;
        Ok(Self::new(Dialect::Postgres, pool.clone(), pool))
    }

    fn new(dialect: Dialect, pool: AnyPool, readers: AnyPool) -> Self {
        Self {
            pool,
            readers,
            dialect,
            changed: watch::Sender::new(0),
            metrics: Metrics::new(),
        }
    }

    /// Wakes the loops of this process.
    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }
}

/// A file's address; what has a meaning in an address is a plain character in a file's name.
fn sqlite_url(path: &Path) -> StoreResult<String> {
    let path = path.to_str().ok_or_else(|| {
        StoreError::Unavailable(format!("the file's name {} is not UTF-8", path.display()))
    })?;
    let path = path
        .replace('%', "%25")
        .replace('?', "%3F")
        .replace('#', "%23")
        .replace(' ', "%20");
    Ok(format!("sqlite:{path}?mode=rwc"))
}

/// Has processes that open one file migrate it one after the other, until the lock's file is
/// closed: sqlx takes a lock for that on PostgreSQL, and none on SQLite.
async fn sqlite_migration_lock(path: &Path) -> StoreResult<File> {
    let mut name = path.as_os_str().to_owned();
    name.push("-migration");
    let locked = tokio::task::spawn_blocking(move || {
        let file = File::create(name)?;
        file.lock()?;
        Ok(file)
    });
    locked
        .await
        .map_err(io::Error::other)
        .flatten()
        .map_err(|error| StoreError::Unavailable(format!("its migration's lock: {error}")))
}

async fn connect(
    url: &str,
    pool: AnyPoolOptions,
    session: &'static [&'static str],
) -> StoreResult<AnyPool> {
    sqlx::any::install_default_drivers();
    let options = AnyConnectOptions::from_str(url)
        .map_err(|error| StoreError::Unavailable(format!("the database's address: {error}")))?
        .log_statements(tracing::log::LevelFilter::Trace);
    let pool = pool.after_connect(move |connection, _| {
        Box::pin(async move {
            for statement in session {
                connection.execute(*statement).await?;
            }
            Ok(())
        })
    });
    Ok(pool.connect_with(options).await?)
}

async fn migrate(migrations: &Migrator, pool: &AnyPool) -> StoreResult<()> {
    migrations.run(pool).await.map_err(|error| match error {
        sqlx::migrate::MigrateError::Execute(error) => error.into(),
        other => StoreError::Corrupt(format!("its schema: {other}")),
    })
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::ColumnDecode { .. }
            | sqlx::Error::ColumnNotFound(_)
            | sqlx::Error::Decode(_)
            | sqlx::Error::RowNotFound => Self::Corrupt(error.to_string()),
            other => Self::Unavailable(other.to_string()),
        }
    }
}

#[async_trait]
impl Store for SqlStore {
    fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    async fn delivery_seen(&self, id: &str) -> StoreResult<bool> {
        deliveries::seen(self, id).await
    }

    async fn record_delivery(&self, delivery: &Delivery, acts: &[Act]) -> StoreResult<Recorded> {
        deliveries::record(self, delivery, acts).await
    }

    async fn task(&self, id: TaskId) -> StoreResult<Option<Task>> {
        tasks::by_id(self, id).await
    }

    async fn tasks(&self, filter: &TaskFilter) -> StoreResult<Vec<Task>> {
        tasks::list(self, filter).await
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
        Ok(tasks::list(self, &filter).await?.pop())
    }

    async fn history(&self, task: TaskId, after: i64) -> StoreResult<Vec<TaskEvent>> {
        tasks::history(self, task, after).await
    }

    async fn attempts(&self, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
        attempts::records(self, task).await
    }

    async fn logs(&self, task: TaskId) -> StoreResult<Vec<String>> {
        tasks::logs(self, task).await
    }

    async fn cancel(&self, task: TaskId, actor: &str) -> StoreResult<Commanded> {
        tasks::cancel(self, task, actor).await
    }

    async fn retry(&self, task: TaskId, actor: &str) -> StoreResult<Commanded> {
        tasks::retry(self, task, actor).await
    }

    async fn unanalyzed(&self, limit: u32) -> StoreResult<Vec<Task>> {
        tasks::unanalyzed(self, limit).await
    }

    async fn analyzed(&self, task: TaskId, analysis: &TaskAnalysis) -> StoreResult<Cas> {
        tasks::analyzed(self, task, analysis).await
    }

    async fn queued(&self, limit: u32) -> StoreResult<Vec<QueuedTask>> {
        claims::queued(self, limit).await
    }

    async fn claim(
        &self,
        task: &QueuedTask,
        agent: &AgentId,
        lease: Duration,
    ) -> StoreResult<Cas<Assignment>> {
        claims::claim(self, task, agent, lease).await
    }

    async fn note(&self, work: Work, text: &str) -> StoreResult<Cas> {
        reports::note(self, work, text).await
    }

    async fn assignment(&self, work: Work) -> StoreResult<Option<Assignment>> {
        claims::assignment(self, work).await
    }

    async fn report(&self, report: &Report) -> StoreResult<Cas> {
        reports::apply(self, report).await
    }

    async fn renew(&self, agent: &AgentId, lease: Duration) -> StoreResult<Vec<Work>> {
        attempts::renew(self, agent, lease).await
    }

    async fn live_attempts(&self, agent: &AgentId) -> StoreResult<Vec<LiveAttempt>> {
        attempts::live(self, agent).await
    }

    async fn lose(&self, work: Work, why: &str) -> StoreResult<Cas<TaskState>> {
        attempts::lose(self, work, why).await
    }

    async fn expire(&self) -> StoreResult<Vec<LostAttempt>> {
        attempts::expire(self).await
    }

    async fn register_agent(&self, agent: &Agent) -> StoreResult<()> {
        agents::register(self, agent).await
    }

    async fn set_agent_state(&self, agent: &AgentId, state: AgentState) -> StoreResult<()> {
        agents::set_state(self, agent, state).await
    }

    async fn agents(&self) -> StoreResult<Vec<Agent>> {
        agents::all(self).await
    }

    async fn take_outbox(&self, limit: u32, hold: Duration) -> StoreResult<Vec<OutboxEntry>> {
        outbox::take(self, limit, hold).await
    }

    async fn settle_outbox(&self, entry: &OutboxEntry, sent: &Sent) -> StoreResult<()> {
        outbox::settle(self, entry, sent).await
    }

    async fn outbox_pending(&self) -> StoreResult<u64> {
        outbox::pending(self).await
    }

    async fn status_comment(&self, task: TaskId) -> StoreResult<Option<u64>> {
        outbox::status_comment(self, task).await
    }

    async fn ping(&self) -> StoreResult<()> {
        sqlx::query("SELECT 1").execute(&self.readers).await?;
        Ok(())
    }
}
