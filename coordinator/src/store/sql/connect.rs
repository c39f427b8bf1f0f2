//! Connections to either database.

use std::path::Path;
use std::str::FromStr as _;
use std::time::Duration;

use sqlx::any::{AnyConnectOptions, AnyPoolOptions};
use sqlx::{AnyPool, ConnectOptions as _, Executor as _};

use super::patience::{Patience, ping};
use super::schema;
use crate::store::{StoreError, StoreResult};

/// What every connection to PostgreSQL begins with: how long a statement may take before it is
/// given up, and how long a transaction may wait for the next one, so that a process that stands
/// still keeps no task from others; a name for `pg_stat_activity`, unless the address has one; and
/// plans by index alone. Every statement of the store finds few rows by an index that is there for
/// it. A plan that was made while a table was small would scan it, and stay when it has grown.
const POSTGRES_SESSION: [&str; 7] = [
    "SET statement_timeout = '15s'",
    "SET idle_in_transaction_session_timeout = '10s'",
    "SET enable_seqscan = off",
    "SET enable_bitmapscan = off",
    "SET enable_hashjoin = off",
    "SET enable_mergejoin = off",
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

/// How long a caller waits for a connection: GitHub waits ten seconds for an answer.
const ACQUIRE_WITHIN: Duration = Duration::from_secs(5);
/// How long after its last use a connection is taken for one that is there.
pub(super) const TRUSTED: Duration = Duration::from_secs(1);

/// The one connection that writes a file, made when it is not there, and those that read it.
pub(super) async fn sqlite(path: &Path, patience: &Patience) -> StoreResult<(AnyPool, AnyPool)> {
    let url = sqlite_url(path)?;
    let pool = || patience.watch(AnyPoolOptions::new());
    let writer = pool().max_connections(1).min_connections(1);
    let writer = connect(&url, writer, &SQLITE_SESSION).await?;
    schema::migrate_sqlite(path, &writer).await?;
    let readers = pool().max_connections(SQLITE_READERS);
    let readers = connect(&url, readers, &SQLITE_READER).await?;
    Ok((writer, readers))
}

/// Connections to a PostgreSQL.
pub(super) async fn postgres(
    url: &str,
    max_connections: u32,
    patience: &Patience,
) -> StoreResult<AnyPool> {
    let pool = patience.watch(AnyPoolOptions::new());
    let pool = pool
        .max_connections(max_connections)
        .acquire_timeout(ACQUIRE_WITHIN);
    schema::migrate_postgres(url).await?;
    connect(url, pool, &POSTGRES_SESSION).await
}

/// A file's address; what has a meaning in an address is a plain character in a file's name.
pub(in crate::store) fn sqlite_url(path: &Path) -> StoreResult<String> {
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

/// Connections that begin with the statements of their session.
pub(super) async fn connect(
    url: &str,
    pool: AnyPoolOptions,
    session: &'static [&'static str],
) -> StoreResult<AnyPool> {
    sqlx::any::install_default_drivers();
    let options = AnyConnectOptions::from_str(url)
        .map_err(|error| StoreError::Unavailable(format!("the database's address: {error}")))?
        .log_statements(tracing::log::LevelFilter::Trace);
    // A connection that was used a moment ago is there, or else says so when it is used.
    let pool = pool.test_before_acquire(false);
    let pool = pool.before_acquire(|connection, known| {
        Box::pin(async move {
            if known.idle_for > TRUSTED {
                ping(connection).await?;
            }
            Ok(true)
        })
    });
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
