//! Which folder is where, and how a whole one takes its place.

use std::io;
use std::path::{Path, PathBuf};

use patchfleet_domain::{AgentId, TaskId};
use uuid::Uuid;

use super::file_lock::{FileLock, Sharing};
use super::staging::{StagingFolders, UNFINISHED};
use crate::disk;
use crate::git::FolderLock;

/// Prefix of folders that are being taken away.
pub(super) const DOOMED: &str = ".doomed-";

/// The folders of one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentLayout {
    root: PathBuf,
}

/// The folders of one task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskLayout {
    root: PathBuf,
}

impl AgentLayout {
    /// Below a root that several agents may share.
    pub fn new(root: &Path, agent: &AgentId) -> Self {
        Self {
            root: root.join(agent.as_str()),
        }
    }

    /// `tasks`
    pub fn tasks(&self) -> PathBuf {
        self.root.join("tasks")
    }

    /// `tasks/task-<id>`
    pub fn task(&self, task: TaskId) -> TaskLayout {
        TaskLayout::at(self.tasks().join(format!("task-{task}")))
    }

    /// `shared/cache`
    pub fn cache(&self) -> PathBuf {
        self.root.join("shared/cache")
    }

    /// `shared/setups`
    pub fn setups(&self) -> PathBuf {
        self.root.join("shared/setups")
    }

    /// `shared/templates`
    pub fn templates(&self) -> PathBuf {
        self.root.join("shared/templates")
    }

    /// `shared/tools`
    pub fn tools(&self) -> PathBuf {
        self.root.join("shared/tools")
    }

    /// `logs`
    pub fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    pub(super) async fn create(&self) -> io::Result<()> {
        for folder in [
            "tasks",
            "shared/setups",
            "shared/templates",
            "shared/tools",
            "shared/cache",
            "logs",
        ] {
            tokio::fs::create_dir_all(self.root.join(folder)).await?;
        }
        Ok(())
    }

    /// Puts a built workspace in its place. What was there is set aside and deleted while the
    /// caller goes on. The folder's lock is kept until it is in its place, also when the caller
    /// does not wait for that.
    pub(super) async fn swap_in(
        &self,
        built: &Path,
        place: &TaskLayout,
        lock: FolderLock,
    ) -> io::Result<()> {
        let (built, place, old) = (built.to_owned(), place.root.clone(), doomed(&self.tasks()));
        let doomed = old.clone();
        let swapped = tokio::task::spawn_blocking(move || {
            let _lock = lock;
            match std::fs::rename(&place, &old) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            std::fs::rename(&built, &place)
        });
        swapped.await.map_err(io::Error::other).flatten()?;
        delete_later(doomed);
        Ok(())
    }

    /// Takes a folder away in one step; where it is until it is deleted, or `None` when it can't
    /// be moved.
    pub(super) async fn set_aside(&self, folder: &Path) -> Option<PathBuf> {
        let doomed = doomed(&self.tasks());
        match tokio::fs::rename(folder, &doomed).await {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                tracing::warn!(folder = %folder.display(), %error, "a folder can't be deleted");
                None
            }
            _ => Some(doomed),
        }
    }

    /// Deletes what was set aside and is still there, and what is half-built and nobody builds any
    /// more; gives what still can't be deleted.
    pub(super) async fn clear_leftovers(&self, staging: &StagingFolders) -> Vec<PathBuf> {
        let all = [self.tasks(), self.cache(), self.setups(), self.templates()];
        let found = tokio::task::spawn_blocking(move || all.map(|it| folders(&it)).concat());
        let mut left = Vec::new();
        for folder in found.await.unwrap_or_default() {
            let name = folder.file_name().unwrap_or_default().to_string_lossy();
            let is_abandoned = name.starts_with(UNFINISHED) && !staging.contains(&folder);
            if (is_abandoned || name.starts_with(DOOMED)) && !delete(&folder).await {
                left.push(folder);
            }
        }
        left
    }
}

/// A new path in `parent` for what is taken away and deleted there.
pub(super) fn doomed(parent: &Path) -> PathBuf {
    parent.join(format!("{DOOMED}{}", Uuid::now_v7()))
}

/// Deletes a folder; true when it is gone.
pub(super) async fn delete(folder: &Path) -> bool {
    let deleted = disk::remove_in_background(folder).await;
    if let Err(error) = &deleted {
        tracing::warn!(folder = %folder.display(), %error, "a folder can't be deleted");
    }
    deleted.is_ok()
}

/// Deletes what is at a place below a folder unless somebody has a lock on the note in it; true when
/// it is out of the way.
pub(super) async fn delete_unless_used((folder, place): (&Path, &Path), note: &str) -> bool {
    let alone = FileLock::try_take_existing(&place.join(note), Sharing::Alone);
    match &alone {
        Ok(None) => return false,
        // What has no note is used by nobody.
        Err(error) if disk::is_absent(error) => {}
        Err(error) => {
            tracing::warn!(folder = %place.display(), %error, "a folder can't be locked");
            return false;
        }
        Ok(Some(_)) => {}
    }
    let doomed = doomed(folder);
    if let Err(error) = tokio::fs::rename(place, &doomed).await {
        let is_gone = disk::is_absent(&error);
        if !is_gone {
            tracing::warn!(folder = %place.display(), %error, "a folder can't be deleted");
        }
        return is_gone;
    }
    drop(alone);
    delete(&doomed).await;
    true
}

/// Deletes a folder on a thread of its own, which ends with the process. What is left then is for
/// the next sweep to delete.
fn delete_later(folder: PathBuf) {
    let deleting = move || {
        if let Err(error) = disk::remove_all(&folder) {
            tracing::warn!(folder = %folder.display(), %error, "a folder can't be deleted");
        }
    };
    let begun = std::thread::Builder::new().name("delete".to_owned());
    if let Err(error) = begun.spawn(deleting) {
        tracing::debug!(%error, "a folder is left for the next sweep to delete");
    }
}

/// The folders in a folder.
pub(super) fn folders(parent: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
    entries
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

impl TaskLayout {
    /// At a folder.
    pub fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The task's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The work tree that drafts and tests see.
    pub fn repo_clone(&self) -> PathBuf {
        self.root.join("repo-clone")
    }

    /// Requests to drafters and the agent's own object store.
    pub fn implementation(&self) -> PathBuf {
        self.root.join("implementation")
    }

    /// The agent's own object store.
    pub fn object_store(&self) -> PathBuf {
        self.implementation().join("objects.git")
    }

    /// The history of a task whose repository is too large for a mirror. Nobody fetches into it or
    /// cleans it once others borrow from it.
    pub(super) fn history(&self) -> PathBuf {
        self.implementation().join("history.git")
    }

    /// The `.git` of the work tree as it was made; what drafts and tests see is a copy.
    pub(super) fn clone_git(&self) -> PathBuf {
        self.implementation().join("clone.git")
    }

    /// Home and temporary folder of the draft command, which it may write: nothing else is here.
    pub fn draft_private(&self) -> PathBuf {
        self.implementation().join("command")
    }

    /// Home of the setup phase, and what it installed.
    pub fn setup(&self) -> PathBuf {
        self.implementation().join("setup")
    }

    /// Contents that the base only names, once they were fetched.
    pub fn contents(&self) -> PathBuf {
        self.implementation().join("contents")
    }

    /// Home, temporary folder and logs of the tests.
    pub fn tests(&self) -> PathBuf {
        self.root.join("tests")
    }

    /// The note of whose workspace it is.
    pub fn metadata(&self) -> PathBuf {
        self.root.join("metadata.json")
    }

    pub(super) async fn create(&self) -> io::Result<()> {
        tokio::fs::create_dir_all(self.implementation()).await?;
        tokio::fs::create_dir_all(self.tests()).await
    }
}
