//! Bare mirrors in `shared/cache/<owner>/<name>.git`: what was fetched once is not fetched again.
//!
//! One fetch per mirror at a time. Nothing is ever collected in a mirror, because workspaces
//! borrow its objects. A mirror that can't be used is cloned anew and takes the old one's place.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use patchfleet_domain::RepositoryName;
use uuid::Uuid;

use crate::git::{Git, GitError, Remote, Repository};

/// What a mirror has of its remote.
const REFSPECS: &[&str] = &["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

type Locks = BTreeMap<RepositoryName, Arc<tokio::sync::Mutex<()>>>;

/// The mirrors of one agent.
#[derive(Debug, Clone)]
pub struct Mirrors {
    cache: PathBuf,
    locks: Arc<Mutex<Locks>>,
}

impl Mirrors {
    /// Mirrors below a folder.
    pub fn new(cache: PathBuf) -> Self {
        Self {
            cache,
            locks: Arc::default(),
        }
    }

    /// Brings a mirror up to date, cloning it when there is none or it can't be used.
    ///
    /// # Errors
    /// When the remote can't be read or does not answer.
    pub async fn refresh(
        &self,
        git: &Git,
        name: &RepositoryName,
        remote: &Remote,
    ) -> Result<Repository, GitError> {
        let lock = self.lock(name);
        let _held = lock.lock().await;
        let mirror = git.repository(self.path(name));
        if !mirror.dir().exists() {
            return self.clone_anew(git, name, remote).await;
        }
        match mirror.fetch(remote, REFSPECS, true).await {
            Ok(()) => Ok(mirror),
            Err(GitError::Other { what, reason }) => {
                tracing::warn!(%name, what, reason, "the mirror is broken and is cloned anew");
                self.clone_anew(git, name, remote).await
            }
            Err(error) => Err(error),
        }
    }

    /// Clones a mirror anew, whatever is there.
    ///
    /// # Errors
    /// When the remote can't be read or does not answer.
    pub async fn replace(
        &self,
        git: &Git,
        name: &RepositoryName,
        remote: &Remote,
    ) -> Result<Repository, GitError> {
        let lock = self.lock(name);
        let _held = lock.lock().await;
        self.clone_anew(git, name, remote).await
    }

    async fn clone_anew(
        &self,
        git: &Git,
        name: &RepositoryName,
        remote: &Remote,
    ) -> Result<Repository, GitError> {
        let place = self.path(name);
        let fresh = self.cache.join(format!(".new-{}", Uuid::now_v7()));
        if let Err(error) = git.clone_bare(remote, &fresh).await {
            let _ = tokio::fs::remove_dir_all(&fresh).await;
            return Err(error);
        }
        put(&fresh, &place)
            .await
            .map_err(|error| GitError::other("writing the mirror", error.to_string()))?;
        Ok(git.repository(place))
    }

    /// The repositories that have a mirror.
    pub async fn names(&self) -> BTreeSet<RepositoryName> {
        let mut names = BTreeSet::new();
        for owner in folders(&self.cache).await {
            for mirror in folders(&self.cache.join(&owner)).await {
                let name = mirror.strip_suffix(".git");
                names.extend(name.and_then(|name| format!("{owner}/{name}").parse().ok()));
            }
        }
        names
    }

    fn path(&self, name: &RepositoryName) -> PathBuf {
        let folder = format!("{}.git", name.name());
        self.cache.join(name.owner()).join(folder)
    }

    fn lock(&self, name: &RepositoryName) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(name.clone()).or_default())
    }
}

/// Puts a fresh mirror in its place. Folders can't be exchanged in one step, so a crash in
/// between leaves none, and the next use clones again.
async fn put(fresh: &Path, place: &Path) -> io::Result<()> {
    if let Some(owner) = place.parent() {
        tokio::fs::create_dir_all(owner).await?;
    }
    let old = fresh.with_extension("old");
    match tokio::fs::rename(place, &old).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => tokio::fs::rename(fresh, place).await?,
    }
    let _ = tokio::fs::remove_dir_all(&old).await;
    Ok(())
}

async fn folders(parent: &Path) -> Vec<String> {
    let mut names = Vec::new();
    let Ok(mut entries) = tokio::fs::read_dir(parent).await else {
        return names;
    };
    while let Ok(Some(entry)) = entries.next_entry().await {
        names.extend(entry.file_name().into_string());
    }
    names
}
