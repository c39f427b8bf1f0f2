//! SQLite files that no coordinator works on.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::str::FromStr as _;

use sqlx::any::AnyConnectOptions;
use sqlx::error::DatabaseError;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Executor as _};
use tokio::time::Instant;

use super::ArchiveError;
use super::swap::with_suffix;
use crate::store::lock::{PATIENCE, PAUSE};
use crate::store::sql::connect::sqlite_url;
use crate::store::sql::schema::{SQLITE_MIGRATIONS, failed};

/// How a file is opened.
#[derive(Debug, Clone, Copy)]
enum Mode {
    /// As one that nobody changes: without what lies beside it, without a lock.
    Immutable,
    /// For looking at it with its log, of which nothing is played into it.
    Read,
    /// For changes; one that is not there is not made.
    Write,
}

/// SQLite writes a copy in one read transaction (`VACUUM INTO`, <https://sqlite.org/lang_vacuum.html>).
pub(super) async fn copy_database(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    let mut connection = open(from, Mode::Write).await?;
    let name = to.to_string_lossy().into_owned();
    sqlx::query("VACUUM INTO $1")
        .bind(name)
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

/// Takes the store out of WAL mode, which only somebody who has it alone can: what its log holds is
/// in the file then. A store that is not there or is damaged is left as it lies there, with its log:
/// it can't be in use, as its lock is ours. Waits for two seconds at most.
///
/// # Errors
/// [`ArchiveError::InUse`] when somebody works with it without its lock, which an earlier version
/// does; [`ArchiveError::Present`] and [`ArchiveError::File`] when it can't be opened for another
/// reason.
pub(in crate::store) async fn unused(store: &Path) -> Result<(), ArchiveError> {
    // The system's own reason, which SQLite does not tell.
    match OpenOptions::new().read(true).write(true).open(store) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(ArchiveError::file(store)(error)),
        Ok(_) => {}
    }
    let until = Instant::now() + PATIENCE;
    loop {
        match leave_wal_if_whole(store).await {
            Ok(Left::Now) => return Ok(()),
            Ok(Left::Damaged(why)) => {
                tracing::warn!(why, "the present store is damaged");
                return Ok(());
            }
            Ok(Left::InUse) if Instant::now() >= until => return Err(in_use(store)),
            Ok(Left::InUse) => tokio::time::sleep(PAUSE).await,
            Err(error) => {
                return Err(ArchiveError::Present {
                    file: store.to_owned(),
                    error: error.into(),
                });
            }
        }
    }
}

/// What came of taking a store out of WAL mode.
enum Left {
    Now,
    InUse,
    Damaged(String),
}

/// A log that is another file's, or a damaged file's, must not be played into it: what is lost may be
/// found there yet. A look that changes nothing comes first, where there is a log.
async fn leave_wal_if_whole(store: &Path) -> Result<Left, sqlx::Error> {
    let logged = fs::metadata(with_suffix(store, "-wal"));
    if logged.is_ok_and(|log| log.len() > 0) {
        match quick_check(store).await {
            Ok(whole) if whole == "ok" => {}
            Ok(why) => return Ok(Left::Damaged(why)),
            Err(error) => return meaning(error),
        }
    }
    match leave_wal(store).await {
        Ok(true) => Ok(Left::Now),
        Ok(false) => Ok(Left::InUse),
        Err(error) => meaning(error),
    }
}

/// What a database's refusal says of a store.
fn meaning(error: sqlx::Error) -> Result<Left, sqlx::Error> {
    let code = error.as_database_error().and_then(DatabaseError::code);
    // The lower eight bits are a class (sqlite.org/rescode.html).
    match code
        .and_then(|code| code.parse().ok())
        .map(|code: u32| code & 0xff)
    {
        // SQLITE_BUSY, SQLITE_LOCKED.
        Some(5 | 6) => Ok(Left::InUse),
        // SQLITE_CORRUPT, SQLITE_NOTADB.
        Some(11 | 26) => Ok(Left::Damaged(error.to_string())),
        _ => Err(error),
    }
}

async fn quick_check(store: &Path) -> Result<String, sqlx::Error> {
    let mut connection = open(store, Mode::Read).await?;
    let whole = sqlx::query_scalar("PRAGMA quick_check(1)")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(whole)
}

/// Says whether the store is out of WAL mode.
async fn leave_wal(store: &Path) -> Result<bool, sqlx::Error> {
    let mut connection = open(store, Mode::Write).await?;
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode = DELETE")
        .fetch_one(&mut connection)
        .await?;
    connection.close().await?;
    Ok(mode == "delete")
}

fn in_use(store: &Path) -> ArchiveError {
    let store = store.display();
    ArchiveError::InUse(format!(
        "{store} is in use by another program (`fuser {store}` names it)"
    ))
}

/// Checks that the file is a whole store that this version knows; says how many tasks it has. It is
/// called `name` in the error.
pub(super) async fn inspect(file: &Path, name: &Path) -> Result<u64, ArchiveError> {
    let unfit = |why: String| ArchiveError::Unfit {
        file: name.to_owned(),
        why,
    };
    let refused = |error: sqlx::Error| unfit(error.to_string());
    let mut connection = open(file, Mode::Immutable).await.map_err(refused)?;
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await
        .map_err(refused)?;
    if whole != "ok" {
        return Err(unfit(whole));
    }
    let versions: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations")
        .fetch_all(&mut connection)
        .await
        .map_err(refused)?;
    let unknown = versions
        .iter()
        .find(|version| !SQLITE_MIGRATIONS.version_exists(**version));
    if let Some(version) = unknown {
        let why = format!("a newer version of Patchfleet wrote it (its schema has step {version})");
        return Err(unfit(why));
    }
    let tasks = tasks(&mut connection).await.map_err(refused)?;
    connection.close().await?;
    Ok(tasks)
}

/// Brings the schema of a copy up to date and leaves nothing beside it; says how many tasks it has.
pub(super) async fn upgrade(copy: &Path, backup: &Path) -> Result<u64, ArchiveError> {
    if !leave_wal(copy).await? {
        return Err(in_use(copy));
    }
    let mut connection = open(copy, Mode::Write).await?;
    let upgraded = SQLITE_MIGRATIONS.run(&mut connection).await;
    upgraded.map_err(|error| ArchiveError::Upgrade {
        file: backup.to_owned(),
        error: failed(error),
    })?;
    let tasks = tasks(&mut connection).await?;
    connection.close().await?;
    Ok(tasks)
}

async fn tasks(connection: &mut AnyConnection) -> Result<u64, sqlx::Error> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM tasks")
        .fetch_one(connection)
        .await?;
    Ok(u64::try_from(count).unwrap_or_default())
}

async fn open(file: &Path, mode: Mode) -> Result<AnyConnection, sqlx::Error> {
    sqlx::any::install_default_drivers();
    let url = sqlite_url(file).map_err(|error| sqlx::Error::Configuration(error.into()))?;
    let url = match mode {
        Mode::Immutable => url.replace("mode=rwc", "mode=ro&immutable=true"),
        Mode::Read => url.replace("mode=rwc", "mode=ro"),
        Mode::Write => url.replace("mode=rwc", "mode=rw"),
    };
    let options = AnyConnectOptions::from_str(&url)?;
    let options = options.log_statements(tracing::log::LevelFilter::Trace);
    let mut connection = AnyConnection::connect_with(&options).await?;
    connection.execute("PRAGMA busy_timeout = 1000").await?;
    Ok(connection)
}
