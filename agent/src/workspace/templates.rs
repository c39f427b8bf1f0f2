//! Templates in `shared/templates/<owner>/<name>.git/<commit>`: check-outs over which workspaces lie,
//! so that a workspace of a large repository takes neither the time nor the room of its files.
//!
//! ```text
//! <commit>/note.json   for whom and by what it was made; written last
//!         /tree        the files
//!         /git         what they are: `.git/index`
//! ```
//!
//! A template comes to its place whole, by one rename, and is never written again. Before each use it
//! is compared with its index, file by file; one that was damaged, and one of before the host's last
//! start (nobody waits until it is on disk), is made anew. One of those who need a template makes it,
//! here and in other processes. Whoever uses one has a shared lock on its note, which whoever
//! deletes it must have alone; the kernel lets go of both when a process ends.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use chrono::TimeDelta;
use patchfleet_domain::{RepositoryName, Timestamp};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::file_lock::{FileLock, Sharing};
use super::layout::{delete, delete_unless_used, folders};
use super::setups::boot;
use super::staging::StagingFolders;
use crate::disk::{self, Owner};
use crate::git::{Git, GitError, ObjectId, Repository, Template};

/// The file that makes a folder a template.
const NOTE: &str = "note.json";
/// The folder of locks. Commits that begin alike share one, so that their number stays small.
const LOCKS: &str = ".locks";
const MAKING: &str = "making a template";

/// The templates of one agent.
#[derive(Debug, Clone)]
pub(super) struct Templates {
    folder: PathBuf,
    staging: StagingFolders,
}

/// A template that is not deleted while this value is kept.
#[derive(Debug)]
pub(super) struct SharedTemplate {
    pub(super) template: Arc<Template>,
    _in_use: FileLock,
}

/// What a template is made of, and for whom.
#[derive(Debug, Clone, Copy)]
pub(super) struct Wanted<'a> {
    pub(super) git: &'a Git,
    pub(super) mirror: &'a Repository,
    pub(super) name: &'a RepositoryName,
    pub(super) commit: &'a ObjectId,
    /// To whom its files belong, when that is not this process's user.
    pub(super) owner: Option<Owner>,
}

/// A template on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TemplateEntry {
    pub(super) path: PathBuf,
    pub(super) last_used: Timestamp,
    /// Not used for long, or of no use any more.
    pub(super) is_over: bool,
}

/// `note.json`.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Note {
    /// The start of the host that it was made in.
    boot: String,
    /// The release that wrote the files.
    version: String,
    owner: Option<(u32, u32)>,
}

impl Templates {
    /// Templates below a folder.
    pub(super) const fn new(folder: PathBuf, staging: StagingFolders) -> Self {
        Self { folder, staging }
    }

    /// The template of a commit, made when there is none that can be used.
    ///
    /// # Errors
    /// When the commit can't be read, or the template can't be written.
    pub(super) async fn get(&self, wanted: Wanted<'_>) -> Result<SharedTemplate, GitError> {
        let name = format!("{}.git", wanted.name.name());
        let place = self.folder.join(wanted.name.owner()).join(name);
        let place = place.join(wanted.commit.as_str());
        if let Some(found) = self.find(wanted, &place).await? {
            return Ok(found);
        }
        let _alone = self.lock(wanted.commit).await?;
        // Whoever had the lock may have made it.
        if let Some(found) = self.find(wanted, &place).await? {
            return Ok(found);
        }
        self.make(wanted, &place).await?;
        match open(wanted, &place).await {
            Err(GitError::Other { reason, .. }) => Err(GitError::host(MAKING, reason)),
            opened => opened,
        }
    }

    /// The template at a place. One that can't be used is removed.
    async fn find(
        &self,
        wanted: Wanted<'_>,
        place: &Path,
    ) -> Result<Option<SharedTemplate>, GitError> {
        if !place.exists() {
            return Ok(None);
        }
        match open(wanted, place).await {
            Err(GitError::Interrupted) => Err(GitError::Interrupted),
            Ok(found) => {
                disk::touch(place);
                Ok(Some(found))
            }
            Err(error) => {
                tracing::info!(folder = %place.display(), %error, "a template is not used and is removed");
                self.delete(place).await;
                Ok(None)
            }
        }
    }

    async fn make(&self, wanted: Wanted<'_>, place: &Path) -> Result<(), GitError> {
        let name = format!("{}-{}", wanted.commit, Uuid::now_v7());
        let staging = self.staging.begin(&self.folder, &name);
        let filled = fill(wanted, &staging.folder).await;
        let (from, to) = (staging.folder.clone(), place.to_owned());
        let placed = match filled {
            Ok(()) => on_disk(move || {
                fs::create_dir_all(to.parent().unwrap_or(&to))?;
                fs::rename(from, to)
            }),
            Err(error) => {
                delete(&staging.folder).await;
                return Err(error);
            }
        };
        if let Err(error) = placed.await {
            delete(&staging.folder).await;
            return Err(error);
        }
        Ok(())
    }

    /// Waits until nobody else makes a template of this commit.
    async fn lock(&self, commit: &ObjectId) -> Result<FileLock, GitError> {
        let begin = commit.as_str().get(..2).unwrap_or_default();
        let file = self.folder.join(LOCKS).join(format!("{begin}.lock"));
        let taken = FileLock::take(&file, Sharing::Alone).await;
        taken.map_err(|error| GitError::host(format!("locking {}", file.display()), error))
    }

    /// Every template, also those that are of no use any more.
    pub(super) async fn entries(&self, now: Timestamp, keep: TimeDelta) -> Vec<TemplateEntry> {
        let folder = self.folder.clone();
        let found = tokio::task::spawn_blocking(move || {
            let all = folders(&folder).into_iter().filter(|it| !is_hidden(it));
            let all = all.flat_map(|owner| folders(&owner));
            let all = all.flat_map(|repository| folders(&repository));
            let entry = |path: PathBuf| {
                let used = fs::metadata(&path).and_then(|it| it.modified());
                let last_used = used.map_or(Timestamp::MIN_UTC, Into::into);
                let is_current = note(&path).is_ok_and(|it| it == Note::of(it.owner));
                TemplateEntry {
                    is_over: !is_current || now - last_used > keep,
                    last_used,
                    path,
                }
            };
            all.map(entry).collect()
        });
        found.await.unwrap_or_default()
    }

    /// Deletes a template unless it is being used; true when it is out of the way.
    pub(super) async fn delete(&self, place: &Path) -> bool {
        let is_gone = delete_unless_used((&self.folder, place), NOTE).await;
        for folder in place.ancestors().skip(1).take(2).filter(|_| is_gone) {
            // Fails while there is another one, as it should.
            let _ = tokio::fs::remove_dir(folder).await;
        }
        is_gone
    }
}

impl Note {
    /// That of what is made now.
    fn of(owner: Option<(u32, u32)>) -> Self {
        Self {
            boot: boot(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            owner,
        }
    }
}

/// Locks and folders that are being made or deleted are no owner's.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default();
    name.to_string_lossy().starts_with('.')
}

fn note(place: &Path) -> io::Result<Note> {
    serde_json::from_slice(&fs::read(place.join(NOTE))?).map_err(io::Error::from)
}

/// Opens a template that is as it was made.
async fn open(wanted: Wanted<'_>, place: &Path) -> Result<SharedTemplate, GitError> {
    let (folder, expected) = (place.to_owned(), Note::of(number(wanted.owner)));
    let in_use = on_disk(move || {
        let lock = FileLock::try_take_existing(&folder.join(NOTE), Sharing::Shared)?;
        let lock = lock.ok_or_else(|| io::Error::other("it is being deleted"))?;
        if expected.boot.is_empty() || note(&folder)? != expected {
            let why =
                "it was made before the host's last start, by another release or for another user";
            return Err(io::Error::other(why));
        }
        Ok(lock)
    });
    let in_use = in_use.await?;
    let template = wanted.mirror.template(wanted.commit, place).await?;
    Ok(SharedTemplate {
        template: Arc::new(template),
        _in_use: in_use,
    })
}

/// Makes a template in a folder that nobody else knows.
async fn fill(wanted: Wanted<'_>, folder: &Path) -> Result<(), GitError> {
    let objects = folder.join("objects.git");
    let store = wanted.git.init_bare(&objects).await?;
    let borrowed = store.borrow_from(wanted.mirror).await;
    borrowed.map_err(|error| GitError::host(MAKING, error))?;
    store
        .make_template(wanted.commit, folder, wanted.owner)
        .await?;
    let (note, text) = (
        folder.join(NOTE),
        serde_json::to_vec(&Note::of(number(wanted.owner))),
    );
    on_disk(move || {
        disk::remove_all(&objects)?;
        fs::write(note, text?)
    })
    .await
}

fn number(owner: Option<Owner>) -> Option<(u32, u32)> {
    owner.map(|it| (it.uid, it.gid))
}

async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> Result<T, GitError> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(io::Error::other).flatten();
    done.map_err(|error| GitError::host(MAKING, error))
}

#[cfg(test)]
mod tests;
