//! Which folder is where, and how a whole one takes its place.

use std::io;
use std::path::{Path, PathBuf};

use patchfleet_domain::{AgentId, TaskId, Work};
use uuid::Uuid;

/// Prefix of folders that are being built or taken away.
const UNFINISHED: &str = ".unfinished-";

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
            "shared/templates",
            "shared/tools",
            "shared/cache",
            "logs",
        ] {
            tokio::fs::create_dir_all(self.root.join(folder)).await?;
        }
        Ok(())
    }

    /// Where the workspace of an attempt is built.
    pub(super) fn staging(&self, work: Work) -> PathBuf {
        let name = format!("{UNFINISHED}{}-{}", work.task, Uuid::now_v7());
        self.tasks().join(name)
    }

    /// Puts a built workspace in its place; what was there is gone.
    pub(super) async fn swap_in(&self, built: &Path, place: &TaskLayout) -> io::Result<()> {
        self.remove(place.root()).await?;
        tokio::fs::rename(built, place.root()).await
    }

    /// Takes a folder away in one step, then deletes it.
    pub(super) async fn remove(&self, folder: &Path) -> io::Result<()> {
        let doomed = self.tasks().join(format!("{UNFINISHED}{}", Uuid::now_v7()));
        match tokio::fs::rename(folder, &doomed).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            moved => moved?,
        }
        if let Err(error) = tokio::fs::remove_dir_all(&doomed).await {
            // It is out of the way; the next start tries again.
            tracing::warn!(folder = %doomed.display(), %error, "a folder can't be deleted");
        }
        Ok(())
    }

    /// Deletes what a crash left half-built or half-deleted.
    pub(super) async fn clear_unfinished(&self) -> io::Result<()> {
        let mut folders = tokio::fs::read_dir(self.tasks()).await?;
        while let Some(folder) = folders.next_entry().await? {
            if folder.file_name().to_string_lossy().starts_with(UNFINISHED)
                && let Err(error) = tokio::fs::remove_dir_all(folder.path()).await
            {
                tracing::warn!(folder = %folder.path().display(), %error, "a folder can't be deleted");
            }
        }
        Ok(())
    }
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

    /// The `.git` of the work tree as it was made; what drafts and tests see is a copy.
    pub(super) fn clone_git(&self) -> PathBuf {
        self.implementation().join("clone.git")
    }

    /// Home and temporary folder of the draft command, which it may write: nothing else is here.
    pub fn draft_private(&self) -> PathBuf {
        self.implementation().join("command")
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
