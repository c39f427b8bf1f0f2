//! Where an agent works: one folder per task, made from a mirror without copying its history.
//!
//! ```text
//! <root>/<agent_id>/tasks/task-<id>/repo-clone       the work tree that drafts and tests see
//!                                  /implementation   requests, and the agent's own object store
//!                                  /tests            home, temporary folder and logs of the tests
//!                                  /metadata.json    whose it is and how it ended
//!                  /shared/cache                     bare mirrors
//!                  /shared/setups                    results of setup phases
//!                  /shared/templates                 check-outs that work trees lie over
//!                  /shared/tools
//!                  /logs/{task-execution.log,agent-activity.log}
//! ```
//!
//! A workspace appears whole or not at all, and replaces that of an earlier attempt in one step.
//! The agent's own git commands use an object store and an index of their own, outside of
//! `repo-clone` and of every folder that a draft command is handed: what drafts and tests do to
//! `repo-clone/.git` never reaches a commit or a push, and is gone before the next of them runs.
//!
//! Where the host lets runs have overlays, a work tree lies over a template, which is a check-out that
//! tasks share: `repo-clone` then has only what differs from it (see `templates.rs`).
//!
//! One attempt of a task at a time works in its folder; see [`Workspaces::prepare`].
//!
//! Absent: sharing a root between two running agents of one name; the coordinator refuses that.

mod blobless;
mod build;
mod contents;
mod dependencies;
mod file_lock;
mod folder_lock;
mod layout;
mod logs;
mod metadata;
mod mirrors;
mod retention;
mod setups;
mod staging;
mod templates;
mod work_tree;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{AgentId, RepositoryName, Timestamp, Work};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;

pub use contents::{Contents, Fetched};
pub use dependencies::Dependencies;
pub use layout::{AgentLayout, TaskLayout};
pub use logs::{AgentLogs, LogFile};
pub use metadata::Metadata;
pub use mirrors::{Mirror, Mirrors};
pub use retention::{Retention, Swept};
pub use setups::{CachedSetup, InstallLock, SetupCache};

pub use crate::disk::Owner;
use crate::git::{Git, GitError, ObjectId, Remote, Repository};
use crate::sandbox::Sandbox;
use build::find_base;
use folder_lock::FolderLocks;
use retention::{Occasion, Sweep};
use staging::StagingFolders;
use templates::{SharedTemplate, Templates};

/// All workspaces of one agent.
#[derive(Debug, Clone)]
pub struct Workspaces {
    layout: Arc<AgentLayout>,
    git: Git,
    mirrors: Mirrors,
    setups: SetupCache,
    templates: Templates,
    logs: AgentLogs,
    retention: Retention,
    locks: FolderLocks,
    staging: StagingFolders,
    owner: Option<Owner>,
    /// Runs can have overlays.
    is_layered: bool,
}

/// What a workspace is made of.
#[derive(Debug, Clone)]
pub struct Checkout {
    /// Task and attempt.
    pub work: Work,
    /// The repository's name.
    pub repository: RepositoryName,
    /// Where it is cloned from, with the right to do so.
    pub remote: Remote,
    /// The branch that the change goes into.
    pub default_branch: String,
    /// The branch that carries the change.
    pub branch: String,
    /// The commit that an earlier attempt began with, when its checkpoints are used.
    pub pinned_base: Option<ObjectId>,
    /// How much of the repository is fetched.
    pub clone: CloneMode,
    /// Contents that the base only names are put into the work tree, which then has all of its files
    /// itself.
    pub has_contents: bool,
}

/// How much of a repository is fetched, and for whom.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CloneMode {
    /// All of it, once, into a mirror that tasks share.
    #[default]
    Mirror,
    /// For each task its history without the contents of files, and those of its base.
    Blobless,
}

/// One task's folder, checked out at its base.
#[derive(Debug, Clone)]
pub struct Workspace {
    /// Where its parts are.
    pub layout: TaskLayout,
    /// Task and attempt.
    pub work: Work,
    /// The commit that the change is made on.
    pub base: ObjectId,
    /// The agent's own object store, with `repo-clone` as its work tree.
    pub repository: Repository,
    /// The agent's log files.
    pub logs: AgentLogs,
    /// What the setup phase installed.
    pub dependencies: Dependencies,
    /// What the work tree lies over.
    template: Option<Arc<SharedTemplate>>,
    /// What the base only names and was fetched.
    pub contents: Contents,
}

impl Workspaces {
    /// Makes the folders of an agent. What a crash left half-built or half-deleted is for the first
    /// sweep to delete, so that nobody waits for it.
    ///
    /// # Errors
    /// When the root can't be written.
    pub async fn open(root: &Path, agent: &AgentId, retention: Retention) -> std::io::Result<Self> {
        // Git is not run where the agent was started.
        let layout = AgentLayout::new(&std::path::absolute(root)?, agent);
        layout.create().await?;
        let staging = StagingFolders::default();
        let git = Git::new();
        let mirrors = Mirrors::new(layout.cache(), staging.clone());
        mirrors.clear_unversioned().await;
        Ok(Self {
            mirrors,
            setups: SetupCache::new(layout.setups(), retention.keep),
            templates: Templates::new(layout.templates(), staging.clone()),
            locks: FolderLocks::default(),
            staging,
            logs: AgentLogs::new(layout.logs()),
            layout: Arc::new(layout),
            git,
            retention,
            owner: None,
            is_layered: false,
        })
    }

    /// The same, whose work trees belong to the user that runs in them. Files that were handed
    /// over after their check-out would all have to be read again.
    pub fn owned_by(self, owner: Option<Owner>) -> Self {
        Self { owner, ..self }
    }

    /// The same, whose work trees lie over templates where runs in this sandbox can have overlays;
    /// each run has to be given [`Workspace::layers`].
    pub async fn over_templates(self, sandbox: &Sandbox) -> Self {
        let checked = sandbox.check_overlay(&self.layout.tasks()).await;
        if let Err(why) = &checked {
            tracing::info!(why, "each work tree is a check-out of its own");
        } else {
            tracing::info!("work trees are overlays over templates");
        }
        let is_layered = checked.is_ok();
        Self {
            is_layered,
            owner: sandbox.owner().filter(|_| is_layered).or(self.owner),
            ..self
        }
    }

    /// The agent's log files.
    pub fn logs(&self) -> &AgentLogs {
        &self.logs
    }

    /// What setup phases of earlier tasks installed.
    pub const fn setups(&self) -> &SetupCache {
        &self.setups
    }

    /// Repositories that need no clone.
    pub async fn warm_repositories(&self) -> BTreeSet<RepositoryName> {
        self.mirrors.names().await
    }

    /// Makes the workspace of an attempt; that of an earlier attempt is replaced, once nobody
    /// works in it any more. The folder is the caller's until the workspace is dropped.
    ///
    /// # Errors
    /// A failure for people: the repository can't be cloned, the base is gone, the disk is full.
    pub async fn prepare(
        &self,
        checkout: &Checkout,
        cancel: &CancellationToken,
    ) -> Result<Workspace, Failure> {
        let git = self.git.until(cancel.clone());
        let (name, remote) = (&checkout.repository, &checkout.remote);
        let lock = self.locks.lock(checkout.work.task).await;
        if checkout.clone == CloneMode::Blobless {
            let workspace = self.build_blobless(&git, checkout, &lock).await?;
            self.note_made(&workspace, checkout);
            return Ok(workspace);
        }
        let mirror = self.mirrors.refresh(&git, name, remote).await;
        let mirror = mirror.map_err(GitError::into_failure)?;
        let base = find_base(&mirror.repository, checkout).await?;
        let built = match self.build(&git, &mirror, (checkout, &base), &lock).await {
            Err(error @ GitError::Other { .. }) => {
                let broken = (&mirror, error);
                let mirror = self.mirrors.replace(&git, (name, remote), broken).await;
                let mirror = mirror.map_err(GitError::into_failure)?;
                let built = self.build(&git, &mirror, (checkout, &base), &lock).await;
                built.map_err(GitError::of_repository)
            }
            result => result,
        };
        let workspace = built.map_err(GitError::into_failure)?;
        self.note_made(&workspace, checkout);
        Ok(workspace)
    }

    fn note_made(&self, workspace: &Workspace, checkout: &Checkout) {
        let (name, base) = (&checkout.repository, &workspace.base);
        let kind = match &workspace.template {
            Some(_) => "an overlay over a template",
            None => "a check-out",
        };
        let line = format!("workspace of {name} made at {base}, {kind}");
        let about = checkout.work.to_string();
        self.logs.append(LogFile::AgentActivity, &about, &line);
    }

    /// Notes how a task's work ended. The workspace stays for a look until retention takes it.
    ///
    /// # Errors
    /// When the note can't be written.
    pub async fn finish(
        &self,
        workspace: &Workspace,
        outcome: &str,
        now: Timestamp,
    ) -> std::io::Result<()> {
        let path = workspace.layout.metadata();
        let mut metadata = Metadata::read(&path).await?;
        metadata.finished_at = Some(now);
        metadata.outcome = Some(outcome.to_owned());
        metadata.write(&path).await?;
        let about = workspace.work.to_string();
        let line = format!("work ended: {outcome}");
        self.logs.append(LogFile::AgentActivity, &about, &line);
        Ok(())
    }

    /// Removes what is past its time, and what was not used longest while the disk limit is
    /// exceeded or the disk is full; never what is in use.
    ///
    /// # Errors
    /// When the folder of tasks can't be read.
    pub async fn sweep(
        &self,
        now: Timestamp,
        live: &BTreeSet<patchfleet_domain::TaskId>,
        is_disk_full: &(dyn Fn() -> bool + Sync),
    ) -> std::io::Result<Swept> {
        let sweep = Sweep {
            layout: &self.layout,
            mirrors: &self.mirrors,
            setups: &self.setups,
            templates: &self.templates,
            locks: &self.locks,
            staging: &self.staging,
            occasion: Occasion {
                now,
                live,
                is_disk_full,
            },
        };
        let swept = sweep.run(self.retention).await?;
        // Whoever has a task's lock may be about to build its folder.
        let may_forget = |task| {
            let lock = self.locks.try_lock(task)?;
            (!self.layout.task(task).root().exists()).then_some(lock)
        };
        self.mirrors.forget(&self.git, may_forget).await;
        for task in &swept.removed {
            let about = task.to_string();
            self.logs
                .append(LogFile::AgentActivity, &about, "workspace removed");
        }
        Ok(swept)
    }
}

fn disk(error: std::io::Error) -> GitError {
    GitError::host("writing the workspace", error)
}

#[cfg(test)]
pub(crate) mod tests;
