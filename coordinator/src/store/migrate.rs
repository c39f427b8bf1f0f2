//! A whole store moves from one kind of database to the other, while nobody works with either.

use std::path::Path;

use anyhow::{Context as _, bail};
use secrecy::ExposeSecret as _;
use tokio::time::Instant;

use super::archive::{ArchiveError, unused};
use super::lock::{FileLock, PATIENCE, PAUSE};
use super::sql::advisory::{Alone, Attempt};
use super::{Address, SqlStore, Transferred};

/// Connections to a server.
const CONNECTIONS: u32 = 4;
/// What the locks' holder is called.
const HOLDER: &str = "patchfleet migrate";

/// The lock of a store on PostgreSQL, alone: no coordinator works with it, and none can start.
#[derive(Debug)]
pub struct Exclusive(Alone);

impl Exclusive {
    /// Acquires the lock when there is no other session. Waits for two seconds at most, which is
    /// for processes that are just ending.
    ///
    /// # Errors
    /// [`ArchiveError::InUse`] when others are there; [`ArchiveError::Store`].
    pub async fn acquire(url: &str) -> Result<Self, ArchiveError> {
        let until = Instant::now() + PATIENCE;
        loop {
            match Alone::attempt(url).await? {
                Attempt::Locked(lock) => return Ok(Self(lock)),
                Attempt::Held(others) if Instant::now() >= until => {
                    let used = format!("the database is in use by {others}");
                    return Err(ArchiveError::InUse(used));
                }
                Attempt::Held(_) => tokio::time::sleep(PAUSE).await,
            }
        }
    }

    /// Releases the locks of both stores.
    ///
    /// # Errors
    /// When the database is gone, and the lock with it.
    pub async fn release(self) -> Result<(), ArchiveError> {
        Ok(self.0.release().await?)
    }
}

/// Copies everything from one store into an empty one of the other kind, or nothing. Coordinators of
/// both are kept out meanwhile.
///
/// # Errors
/// When somebody works with one of them, the new one is not empty, or a database refuses; the error
/// says which.
pub async fn migrate(from: &Address, to: &Address) -> anyhow::Result<Transferred> {
    const OLD: &str = "the old database";
    const NEW: &str = "the new database";
    match (from, to) {
        (Address::Sqlite(_), Address::Sqlite(_)) => {
            bail!("both are SQLite: use `patchfleet backup` and `patchfleet restore`")
        }
        (Address::Postgres(_), Address::Postgres(_)) => {
            bail!("both are PostgreSQL: use `pg_dump` and `pg_restore`")
        }
        (Address::Sqlite(file), Address::Postgres(url)) => {
            if !file.exists() {
                bail!("{OLD}: {}: there is no such file", file.display());
            }
            let file = alone(file).await.context(OLD)?;
            let mut lock = Exclusive::acquire(url.expose_secret()).await.context(NEW)?;
            let old = SqlStore::sqlite_locked(file).await.context(OLD)?;
            let new = SqlStore::postgres_locked(url.expose_secret(), CONNECTIONS).await;
            copy(old, new.context(NEW)?, &mut lock).await
        }
        (Address::Postgres(url), Address::Sqlite(file)) => {
            let mut lock = Exclusive::acquire(url.expose_secret()).await.context(OLD)?;
            let file = alone(file).await.context(NEW)?;
            let old = SqlStore::postgres_locked(url.expose_secret(), CONNECTIONS).await;
            let new = SqlStore::sqlite_locked(file).await.context(NEW)?;
            copy(old.context(OLD)?, new, &mut lock).await
        }
    }
}

async fn alone(file: &Path) -> Result<FileLock, ArchiveError> {
    let lock = FileLock::acquire(file, HOLDER).await?;
    // An earlier version has no lock.
    unused(lock.store()).await?;
    Ok(lock)
}

async fn copy(old: SqlStore, new: SqlStore, lock: &mut Exclusive) -> anyhow::Result<Transferred> {
    let copied = old.transfer(&new, &mut lock.0).await;
    old.close().await;
    new.close().await;
    Ok(copied?)
}
