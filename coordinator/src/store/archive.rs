//! Backup and restore of a SQLite store. PostgreSQL has its own tools (`docs/OPERATIONS.md`).

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::str::FromStr as _;

use secrecy::ExposeSecret as _;
use serde::Serialize;
use sqlx::any::AnyConnectOptions;
use sqlx::{AnyConnection, ConnectOptions as _, Connection as _, Executor as _};

use super::sql::connect::sqlite_url;
use super::sql::schema::SQLITE_MIGRATIONS;
use super::{Address, StoreError};

/// Why a store could not be kept or brought back. Nothing was changed then.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// The store is on PostgreSQL.
    #[error(
        "this store is on PostgreSQL: use `pg_dump` and `pg_restore`, or its continuous archiving; \
         docs/OPERATIONS.md says how"
    )]
    Postgres,
    /// There is a file already.
    #[error("{0} is there already: choose another name, or remove it")]
    Exists(PathBuf),
    /// The file is no backup of a store that this version knows.
    #[error("{file} is not a backup that can be restored: {why}")]
    Unfit {
        /// The file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The store is open elsewhere.
    #[error("{0} is in use: stop the coordinator first")]
    InUse(String),
    /// A file can't be read or written.
    #[error("{file}: {error}")]
    File {
        /// The file.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The database refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl ArchiveError {
    fn file(file: &Path) -> impl FnOnce(io::Error) -> Self + use<'_> {
        move |error| Self::File {
            file: file.to_owned(),
            error,
        }
    }
}

impl From<sqlx::Error> for ArchiveError {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

/// A backup that was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Backup {
    /// Where it is.
    pub file: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Tasks in it.
    pub tasks: u64,
}

/// A store that was brought back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Restored {
    /// Tasks in it.
    pub tasks: u64,
    /// Where the store is that was there before, if there was one.
    pub kept: Option<PathBuf>,
}

/// Writes the store as it is at one moment to a new file, also while a coordinator works on it.
/// The file is whole and on the disk when it has its name.
///
/// # Errors
/// [`ArchiveError`]; what there is of the file then is removed.
pub async fn backup(store: &Address, to: &Path) -> Result<Backup, ArchiveError> {
    let from = sqlite(store)?;
    if to.exists() {
        return Err(ArchiveError::Exists(to.to_owned()));
    }
    if !from.exists() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        return Err(ArchiveError::file(from)(missing));
    }
    let partial = with_suffix(to, ".partial");
    remove(&partial)?;
    let copied = copy_into(from, &partial).await;
    let checked = match copied {
        Ok(()) => inspect(&partial).await,
        Err(error) => Err(error),
    };
    let tasks = checked.inspect_err(|_| drop(remove(&partial)))?;
    put(&partial, to)?;
    let bytes = fs::metadata(to).map_err(ArchiveError::file(to))?.len();
    Ok(Backup {
        file: to.to_owned(),
        bytes,
        tasks,
    })
}

/// SQLite writes a copy in one read transaction (`VACUUM INTO`, <https://sqlite.org/lang_vacuum.html>).
async fn copy_into(from: &Path, to: &Path) -> Result<(), ArchiveError> {
    let mut connection = connect(from).await?;
    let name = to.to_string_lossy().into_owned();
    sqlx::query("VACUUM INTO $1")
        .bind(name)
        .execute(&mut connection)
        .await?;
    connection.close().await?;
    Ok(())
}

/// Puts a backup in the place of the store, which is kept beside it under another name.
///
/// # Errors
/// [`ArchiveError`]; the store is as it was then.
pub async fn restore(store: &Address, from: &Path) -> Result<Restored, ArchiveError> {
    let to = sqlite(store)?;
    if !from.is_file() {
        let missing = io::Error::from(io::ErrorKind::NotFound);
        return Err(ArchiveError::file(from)(missing));
    }
    let tasks = inspect(from).await?;
    let partial = with_suffix(to, ".partial");
    fs::copy(from, &partial).map_err(ArchiveError::file(&partial))?;
    if to.exists() {
        match unused(store).await {
            // What can't be opened is replaced, which is what a backup is for.
            Ok(()) | Err(ArchiveError::Store(_)) => {}
            Err(error) => {
                remove(&partial)?;
                return Err(error);
            }
        }
    }
    let kept = put_aside(to)?;
    put(&partial, to)?;
    // Brings an older backup up to date, and shows that it can be opened.
    store.visit().await?;
    Ok(Restored { tasks, kept })
}

/// Renames the store and the files that SQLite keeps beside it. A log of the old store must not lie
/// beside the new one: SQLite would play it back into it.
fn put_aside(store: &Path) -> Result<Option<PathBuf>, ArchiveError> {
    let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
    let aside = with_suffix(store, &format!(".before-restore-{stamp}"));
    let mut kept = None;
    for beside in ["", "-wal", "-shm", "-journal"] {
        let (from, to) = (with_suffix(store, beside), with_suffix(&aside, beside));
        match fs::rename(&from, &to) {
            Ok(()) => kept = kept.or(Some(to)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(ArchiveError::file(&from)(error)),
        }
    }
    Ok(kept)
}

/// Says whether nobody works with the store.
///
/// # Errors
/// [`ArchiveError::InUse`] when somebody does.
pub async fn unused(store: &Address) -> Result<(), ArchiveError> {
    match store {
        Address::Sqlite(path) if path.exists() => close_all(path).await,
        Address::Sqlite(_) => Ok(()),
        Address::Postgres(url) => no_sessions(url.expose_secret()).await,
    }
}

/// Any session may be a coordinator's: a pooler, or the address, gives it another name.
async fn no_sessions(url: &str) -> Result<(), ArchiveError> {
    sqlx::any::install_default_drivers();
    let mut connection = AnyConnection::connect(url).await?;
    let sessions: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM pg_stat_activity WHERE datname = current_database() \
         AND pid <> pg_backend_pid() AND usesysid IS NOT NULL",
    )
    .fetch_one(&mut connection)
    .await?;
    connection.close().await?;
    if sessions > 0 {
        return Err(ArchiveError::InUse(format!(
            "the database ({sessions} other sessions; pg_stat_activity lists them)"
        )));
    }
    Ok(())
}

/// Takes the store out of WAL mode, which only somebody who has it alone can: what its log holds is
/// in the file then, and nobody goes on writing to a file that has lost its name.
async fn close_all(store: &Path) -> Result<(), ArchiveError> {
    let in_use = || ArchiveError::InUse(store.display().to_string());
    let mut connection = connect(store).await?;
    let mode: Result<String, _> = sqlx::query_scalar("PRAGMA journal_mode = DELETE")
        .fetch_one(&mut connection)
        .await;
    connection.close().await?;
    match mode {
        Ok(mode) if mode == "delete" => Ok(()),
        Ok(_) => Err(in_use()),
        Err(error) if error.to_string().contains("locked") => Err(in_use()),
        Err(error) => Err(error.into()),
    }
}

/// Checks that the file is a whole store that this version knows; says how many tasks it has.
async fn inspect(file: &Path) -> Result<u64, ArchiveError> {
    let unfit = |why: String| ArchiveError::Unfit {
        file: file.to_owned(),
        why,
    };
    let told = |error: sqlx::Error| unfit(error.to_string());
    let mut connection = connect(file).await?;
    let whole: String = sqlx::query_scalar("PRAGMA integrity_check(1)")
        .fetch_one(&mut connection)
        .await
        .map_err(told)?;
    if whole != "ok" {
        return Err(unfit(whole));
    }
    let versions: Vec<i64> = sqlx::query_scalar("SELECT version FROM _sqlx_migrations")
        .fetch_all(&mut connection)
        .await
        .map_err(told)?;
    let unknown = versions
        .iter()
        .find(|version| !SQLITE_MIGRATIONS.version_exists(**version));
    if let Some(version) = unknown {
        let why = format!("a newer version of Patchfleet wrote it (its schema has step {version})");
        return Err(unfit(why));
    }
    let tasks: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM tasks")
        .fetch_one(&mut connection)
        .await
        .map_err(told)?;
    connection.close().await?;
    Ok(u64::try_from(tasks).unwrap_or_default())
}

fn sqlite(store: &Address) -> Result<&Path, ArchiveError> {
    match store {
        Address::Sqlite(path) => Ok(path),
        Address::Postgres(_) => Err(ArchiveError::Postgres),
    }
}

async fn connect(file: &Path) -> Result<AnyConnection, ArchiveError> {
    sqlx::any::install_default_drivers();
    let options = AnyConnectOptions::from_str(&sqlite_url(file)?)?;
    let options = options.log_statements(tracing::log::LevelFilter::Trace);
    let mut connection = AnyConnection::connect_with(&options).await?;
    connection.execute("PRAGMA busy_timeout = 2000").await?;
    Ok(connection)
}

fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

fn remove(file: &Path) -> Result<(), ArchiveError> {
    match fs::remove_file(file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ArchiveError::file(file)(error))
        }
        _ => Ok(()),
    }
}

/// Gives a written file its name, once it is on the disk.
fn put(partial: &Path, file: &Path) -> Result<(), ArchiveError> {
    let synced = File::open(partial).and_then(|it| it.sync_all());
    synced.map_err(ArchiveError::file(partial))?;
    fs::rename(partial, file).map_err(ArchiveError::file(file))?;
    let folder = match file.parent() {
        Some(folder) if folder != Path::new("") => folder,
        _ => Path::new("."),
    };
    let synced = File::open(folder).and_then(|it| it.sync_all());
    synced.map_err(ArchiveError::file(folder))
}
