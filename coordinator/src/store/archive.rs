//! Backup and restore of a SQLite store. PostgreSQL has its own tools (`docs/OPERATIONS.md`).
//!
//! A backup is one file, which is only ever read. What is to be restored is made beside the store
//! from its bytes: checked, brought up to date and put on the disk there. Only then is it renamed to
//! the store, which has its other name by then, so that whatever happens in between, the store is
//! wholly the old one or wholly the new one (`archive/swap.rs`).

mod file;
mod swap;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub(super) use file::unused;

use super::lock::{self, FileLock, LockError};
use super::{Address, StoreError};

/// Why a store could not be kept or brought back. The store is what it was then.
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
        /// The backup.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The backup is of an earlier version, and can't be brought up to date.
    #[error("{file} is of an earlier version, and a copy can't be brought up to date: {error}")]
    Upgrade {
        /// The backup.
        file: PathBuf,
        /// What the database says.
        error: StoreError,
    },
    /// Another program works with the store.
    #[error("{0}: stop the coordinator first, or wait until that has ended")]
    InUse(String),
    /// A file can't be read or written.
    #[error("{file}: {error}")]
    File {
        /// The file or folder.
        file: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The lock can't be acquired.
    #[error(transparent)]
    Lock(LockError),
    /// The present store can't be opened, which does not mean that it is lost.
    #[error(
        "the present store {file} can't be looked at: {error}; \
         when it is lost, move it and what lies beside it away, and restore again"
    )]
    Present {
        /// The store.
        file: PathBuf,
        /// What the database says.
        error: StoreError,
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

impl From<LockError> for ArchiveError {
    fn from(error: LockError) -> Self {
        match error {
            LockError::Held { .. } => Self::InUse(error.to_string()),
            LockError::File { .. } => Self::Lock(error),
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
    /// Where the files are that were the store before, its own first.
    pub kept: Vec<PathBuf>,
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
        return Err(missing(from));
    }
    let draft = swap::Draft::empty(to)?;
    file::copy_database(from, draft.path()).await?;
    let tasks = file::inspect(draft.path(), to).await?;
    swap::run(&swap::naming(draft.path(), to))?;
    let bytes = fs::metadata(to).map_err(ArchiveError::file(to))?.len();
    Ok(Backup {
        file: to.to_owned(),
        bytes,
        tasks,
    })
}

/// Puts a backup in the place of the store, which is kept beside it under another name.
///
/// # Errors
/// [`ArchiveError`]; the store is as it was then.
pub async fn restore(store: &Address, from: &Path) -> Result<Restored, ArchiveError> {
    let store = sqlite(store)?;
    if !from.is_file() {
        return Err(missing(from));
    }
    let lock = FileLock::acquire(store, "patchfleet restore").await?;
    let store = lock.store();
    one_file(from)?;
    unused(store).await?;
    let draft = swap::Draft::copy_of(from, store)?;
    file::inspect(draft.path(), from).await?;
    let tasks = file::upgrade(draft.path(), from).await?;
    let plan = swap::replacing(draft.path(), store)?;
    swap::run(&plan)?;
    Ok(Restored {
        tasks,
        kept: swap::kept(&plan),
    })
}

/// Refuses a backup beside which a log lies that is not in it. Whose it is nobody knows; SQLite would
/// play it into the file.
fn one_file(backup: &Path) -> Result<(), ArchiveError> {
    let backup = lock::resolve(backup).map_err(ArchiveError::file(backup))?;
    for suffix in ["-wal", "-journal"] {
        let beside = swap::with_suffix(&backup, suffix);
        match fs::symlink_metadata(&beside) {
            Ok(found) if found.len() > 0 => {
                let beside = beside.display();
                let why = format!(
                    "a backup is one file, and {beside} lies beside it, with changes that are not in \
                     it; `patchfleet backup` makes one file of a store and its log, and without them \
                     it is a backup when {beside} is moved away"
                );
                return Err(ArchiveError::Unfit { file: backup, why });
            }
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(ArchiveError::file(&beside)(error));
            }
            _ => {}
        }
    }
    Ok(())
}

fn missing(file: &Path) -> ArchiveError {
    ArchiveError::file(file)(io::ErrorKind::NotFound.into())
}

fn sqlite(store: &Address) -> Result<&Path, ArchiveError> {
    match store {
        Address::Sqlite(path) => Ok(path),
        Address::Postgres(_) => Err(ArchiveError::Postgres),
    }
}

#[cfg(test)]
mod tests;
