//! Bare mirrors in `shared/cache/<owner>/<name>.git/<version>`: what was fetched once is not
//! fetched again.
//!
//! One fetch per mirror at a time, also beside another process of this agent, as when it is being
//! replaced. Workspaces borrow a mirror's objects, so nothing is ever
//! collected in it, and one that is corrupt is not replaced but superseded: a further version is
//! cloned beside it, and the old one goes when no workspace names it any more. Names of versions
//! sort by the time of their making; the last one is the current one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use patchfleet_domain::{RepositoryName, TaskId, Timestamp};
use tokio::sync::OwnedRwLockReadGuard;
use uuid::Uuid;

use super::file_lock::{FileLock, Sharing};
use super::layout::{delete, doomed, folders};
use super::staging::StagingFolders;
use crate::disk;
use crate::git::{FolderLock, Git, GitError, Remote, Repository};

/// What a mirror has of its remote.
const REFSPECS: &[&str] = &["+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*"];

/// Ends of the names of files that are locked: to fetch and to clone, and to borrow or delete.
const FETCH: &str = "fetch.lock";
const USE: &str = "use.lock";

/// What keeps those who use one repository's mirrors apart.
#[derive(Debug, Default)]
struct Locks {
    /// Taken to fetch and to clone.
    fetch: tokio::sync::Mutex<()>,
    /// Shared by those who are about to borrow; taken to delete.
    deletion: Arc<tokio::sync::RwLock<()>>,
}

/// The mirrors of one agent.
#[derive(Debug, Clone)]
pub struct Mirrors {
    cache: PathBuf,
    staging: StagingFolders,
    locks: Arc<Mutex<BTreeMap<RepositoryName, Arc<Locks>>>>,
}

/// A mirror that is not deleted while this value is kept.
#[derive(Debug)]
pub struct Mirror {
    /// Its objects and refs.
    pub repository: Repository,
    _in_use: InUse,
}

/// The right to use a repository's mirrors, which are not deleted meanwhile.
#[derive(Debug)]
struct InUse {
    _here: OwnedRwLockReadGuard<()>,
    _elsewhere: FileLock,
}

/// A version on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Version {
    repository: RepositoryName,
    pub(super) path: PathBuf,
    pub(super) last_used: Timestamp,
    pub(super) is_current: bool,
}

impl Mirrors {
    /// Mirrors below a folder.
    pub(super) fn new(cache: PathBuf, staging: StagingFolders) -> Self {
        Self {
            cache,
            staging,
            locks: Arc::default(),
        }
    }

    /// Brings a mirror up to date, cloning it when there is none or it is corrupt.
    ///
    /// # Errors
    /// When the remote can't be read or does not answer, or the disk can't be written.
    pub async fn refresh(
        &self,
        git: &Git,
        name: &RepositoryName,
        remote: &Remote,
    ) -> Result<Mirror, GitError> {
        let locks = self.locks(name);
        let in_use = self.use_of(name, &locks).await?;
        let _fetching = locks.fetch.lock().await;
        let _alone = self.lock(name, FETCH, Sharing::Alone).await?;
        let repository = match self.current(name).await {
            Some(version) => {
                let mirror = git.repository(version);
                match mirror.refresh(remote, REFSPECS).await {
                    Ok(()) => mirror,
                    Err(error) => self.supersede(git, (name, remote), mirror, error).await?,
                }
            }
            None => self.add_version(git, name, remote).await?,
        };
        disk::touch(repository.dir());
        Ok(Mirror {
            repository,
            _in_use: in_use,
        })
    }

    /// Clones a mirror anew that could not be used, when it is corrupt; else gives the error.
    ///
    /// # Errors
    /// What went wrong with the mirror, or with the clone.
    pub async fn replace(
        &self,
        git: &Git,
        (name, remote): (&RepositoryName, &Remote),
        (broken, error): (&Mirror, GitError),
    ) -> Result<Mirror, GitError> {
        let locks = self.locks(name);
        let in_use = self.use_of(name, &locks).await?;
        let _fetching = locks.fetch.lock().await;
        let _alone = self.lock(name, FETCH, Sharing::Alone).await?;
        let repository = match self.current(name).await {
            // Somebody else was quicker.
            Some(version) if version != broken.repository.dir() => git.repository(version),
            _ => {
                let broken = broken.repository.clone();
                self.supersede(git, (name, remote), broken, error).await?
            }
        };
        Ok(Mirror {
            repository,
            _in_use: in_use,
        })
    }

    async fn supersede(
        &self,
        git: &Git,
        (name, remote): (&RepositoryName, &Remote),
        mirror: Repository,
        error: GitError,
    ) -> Result<Repository, GitError> {
        let is_suspected = matches!(error, GitError::Other { .. } | GitError::Fetch { .. });
        if !is_suspected {
            return Err(error);
        }
        if mirror.is_sound().await? {
            return Err(error.of_repository());
        }
        tracing::warn!(%name, %error, "the mirror is corrupt and is cloned anew");
        self.add_version(git, name, remote).await
    }

    async fn add_version(
        &self,
        git: &Git,
        name: &RepositoryName,
        remote: &Remote,
    ) -> Result<Repository, GitError> {
        let version = Uuid::now_v7().to_string();
        let staging = self.staging.begin(&self.cache, &version);
        let cloned = git.clone_bare(remote, &staging.folder).await;
        let place = self.folder(name).join(version);
        let placed = match cloned {
            Ok(_) => put(&staging.folder, &place)
                .await
                .map_err(|error| GitError::host("writing the mirror", error)),
            Err(error) => Err(error),
        };
        if let Err(error) = placed {
            delete(&staging.folder).await;
            return Err(error);
        }
        Ok(git.repository(place))
    }

    /// The repositories that have a mirror.
    pub async fn names(&self) -> BTreeSet<RepositoryName> {
        let versions = self.versions().await;
        versions.into_iter().map(|it| it.repository).collect()
    }

    /// Every version of every mirror, the oldest of each first.
    pub(super) async fn versions(&self) -> Vec<Version> {
        let cache = self.cache.clone();
        let found = tokio::task::spawn_blocking(move || versions(&cache)).await;
        found.unwrap_or_default()
    }

    /// Forgets for whom commits were kept, where `may_forget` gives the task's lock.
    pub(super) async fn forget(
        &self,
        git: &Git,
        may_forget: impl Fn(TaskId) -> Option<FolderLock>,
    ) {
        for version in self.versions().await {
            let mirror = git.repository(&version.path);
            let kept = mirror.kept().await.unwrap_or_default();
            for name in kept {
                let Some(_lock) = name.parse().ok().and_then(&may_forget) else {
                    continue;
                };
                if let Err(error) = mirror.forget(&name).await {
                    tracing::warn!(%error, name, "a ref of a task that is gone stays");
                }
            }
        }
    }

    /// Deletes a version unless its repository is being used; true when it is out of the way.
    pub(super) async fn delete(&self, version: &Version) -> bool {
        let locks = self.locks(&version.repository);
        let Ok(alone) = locks.deletion.try_write() else {
            return false;
        };
        let file = self.lock_file(&version.repository, USE);
        let elsewhere = match FileLock::try_take(&file, Sharing::Alone) {
            Ok(Some(lock)) => lock,
            Ok(None) => return false,
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "a mirror can't be locked");
                return false;
            }
        };
        let doomed = doomed(&self.cache);
        if let Err(error) = tokio::fs::rename(&version.path, &doomed).await {
            tracing::warn!(folder = %version.path.display(), %error, "a mirror can't be deleted");
            return false;
        }
        if let Some(folder) = version.path.parent() {
            // Fails while there is another version, as it should.
            let _ = tokio::fs::remove_dir(folder).await;
        }
        drop((alone, elsewhere));
        delete(&doomed).await;
        true
    }

    /// Deletes the mirrors of an older release, which had no versions; they are cloned anew.
    pub(super) async fn clear_unversioned(&self) {
        let cache = self.cache.clone();
        let mirrors = tokio::task::spawn_blocking(move || {
            let owners = folders(&cache).into_iter();
            owners.flat_map(|owner| folders(&owner)).collect::<Vec<_>>()
        });
        for mirror in mirrors.await.unwrap_or_default() {
            if mirror.join("HEAD").exists() {
                delete(&mirror).await;
            }
        }
    }

    async fn current(&self, name: &RepositoryName) -> Option<PathBuf> {
        let folder = self.folder(name);
        let found = tokio::task::spawn_blocking(move || {
            folders(&folder)
                .into_iter()
                .filter_map(|it| version(&it).map(|id| (id, it)))
                .max()
        });
        Some(found.await.ok()??.1)
    }

    fn folder(&self, name: &RepositoryName) -> PathBuf {
        let folder = format!("{}.git", name.name());
        self.cache.join(name.owner()).join(folder)
    }

    /// The right to use a repository's mirrors, once nobody deletes one.
    async fn use_of(&self, name: &RepositoryName, locks: &Locks) -> Result<InUse, GitError> {
        Ok(InUse {
            _here: Arc::clone(&locks.deletion).read_owned().await,
            _elsewhere: self.lock(name, USE, Sharing::Shared).await?,
        })
    }

    /// A lock that other processes see.
    async fn lock(
        &self,
        name: &RepositoryName,
        what: &str,
        sharing: Sharing,
    ) -> Result<FileLock, GitError> {
        let file = self.lock_file(name, what);
        let taken = FileLock::take(&file, sharing).await;
        let failed = |error| GitError::host(format!("locking {}", file.display()), error);
        taken.map_err(failed)
    }

    /// Beside the folder of versions, which goes with the last of them.
    fn lock_file(&self, name: &RepositoryName, what: &str) -> PathBuf {
        let file = format!("{}.{what}", name.name());
        self.cache.join(name.owner()).join(file)
    }

    fn locks(&self, name: &RepositoryName) -> Arc<Locks> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(locks.entry(name.clone()).or_default())
    }
}

/// Puts a fresh version in its place, in one step.
async fn put(fresh: &Path, place: &Path) -> io::Result<()> {
    if let Some(mirror) = place.parent() {
        tokio::fs::create_dir_all(mirror).await?;
    }
    tokio::fs::rename(fresh, place).await
}

fn versions(cache: &Path) -> Vec<Version> {
    let mut all = Vec::new();
    for owner in folders(cache) {
        for mirror in folders(&owner) {
            let Some(repository) = name(&owner, &mirror) else {
                continue;
            };
            let mut found: Vec<_> = folders(&mirror)
                .into_iter()
                .filter_map(|path| Some((version(&path)?, path)))
                .collect();
            found.sort();
            let current = found.last().map(|(id, _)| *id);
            all.extend(found.into_iter().map(|(id, path)| {
                let used = std::fs::metadata(&path).and_then(|it| it.modified());
                Version {
                    repository: repository.clone(),
                    last_used: used.map_or(Timestamp::MIN_UTC, Into::into),
                    is_current: Some(id) == current,
                    path,
                }
            }));
        }
    }
    all
}

fn name(owner: &Path, mirror: &Path) -> Option<RepositoryName> {
    let owner = owner.file_name()?.to_str()?;
    let name = mirror.file_name()?.to_str()?.strip_suffix(".git")?;
    format!("{owner}/{name}").parse().ok()
}

fn version(path: &Path) -> Option<Uuid> {
    path.file_name()?.to_str()?.parse().ok()
}
