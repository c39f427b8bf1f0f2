//! The repositories of this host, read and written in process by libgit2.
//!
//! No program is run: libgit2 knows no hook, no filter driver, no textual conversion and no file
//! system monitor. Only our own repositories are opened, where they are said to be and nowhere
//! above, and of configuration they have ours alone: system, user and XDG files count nothing. An
//! index is never taken from the folder, so no attribute or ignore rule comes from there either.
//!
//! What libgit2 does can't be interrupted, so a call is one short piece of work on a thread that
//! may block. A repository is opened for each call: that takes a fraction of a millisecond, and
//! nothing is shared between threads.

use std::ffi::OsStr;
use std::path::Path;

use git2::{
    Config, ConfigLevel, ErrorClass, ErrorCode, Index, ObjectType, Oid, RepositoryOpenFlags,
};

use super::{GitError, ObjectId, Repository, folder};

impl Repository {
    /// Does a piece of work on the opened repository.
    pub(super) async fn local<T: Send + 'static>(
        &self,
        what: &'static str,
        work: impl FnOnce(&git2::Repository) -> Result<T, GitError> + Send + 'static,
    ) -> Result<T, GitError> {
        if self.git.cancel.is_cancelled() {
            return Err(GitError::Interrupted);
        }
        let (dir, extent, lock) = (self.dir.clone(), self.extent, self.lock());
        let done = tokio::task::spawn_blocking(move || {
            let _lock = lock;
            folder::restore(&dir, extent).map_err(|error| GitError::host(what, error))?;
            let repository = open(&dir).map_err(|error| GitError::library(what, &error))?;
            work(&repository)
        });
        done.await
            .unwrap_or_else(|error| Err(GitError::host(what, error)))
    }
}

/// Opens a bare repository of ours.
pub(super) fn open(dir: &Path) -> Result<git2::Repository, git2::Error> {
    // Unlike `open_bare`, this checks to whom the folder belongs.
    let flags = RepositoryOpenFlags::BARE | RepositoryOpenFlags::NO_SEARCH;
    let repository = git2::Repository::open_ext(dir, flags, &[] as &[&OsStr])?;
    let mut config = Config::new()?;
    config.add_file(&dir.join("config"), ConfigLevel::Local, false)?;
    repository.set_config(&config)?;
    repository.set_index(&mut Index::new()?)?;
    Ok(repository)
}

impl GitError {
    /// An error of libgit2.
    pub(super) fn library(what: &str, error: &git2::Error) -> Self {
        let reason = patchfleet_guard::redact(error.message()).into_owned();
        let is_host = matches!(error.class(), ErrorClass::NoMemory)
            || matches!(error.code(), ErrorCode::Owner)
            || super::error::is_host(&reason);
        if is_host {
            Self::host(what, reason)
        } else {
            Self::other(what, reason)
        }
    }
}

impl ObjectId {
    pub(super) fn to_oid(&self) -> Result<Oid, GitError> {
        Oid::from_str(&self.0).map_err(|error| GitError::library("an object name", &error))
    }

    /// The name that a content has as a blob.
    pub fn of_blob(content: &[u8]) -> Option<Self> {
        let id = Oid::hash_object(ObjectType::Blob, content);
        id.ok().map(Into::into)
    }
}

impl From<Oid> for ObjectId {
    fn from(id: Oid) -> Self {
        Self(id.to_string())
    }
}

/// For `map_err`: what was being done when libgit2 failed.
pub(super) fn failed(what: &'static str) -> impl Fn(git2::Error) -> GitError {
    move |error| GitError::library(what, &error)
}
