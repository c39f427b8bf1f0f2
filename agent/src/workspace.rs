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

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{AgentId, FailureKind, RepositoryName, Timestamp, Work};
use serde::Deserialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

pub use contents::{Contents, Fetched};
pub use dependencies::Dependencies;
pub use layout::{AgentLayout, TaskLayout};
pub use logs::{AgentLogs, LogFile};
pub use metadata::Metadata;
pub use mirrors::{Mirror, Mirrors};
pub use retention::{Retention, Swept};
pub use setups::{CachedSetup, InstallLock, SetupCache};

pub use crate::disk::Owner;
use crate::git::{
    Author, FolderLock, Git, GitError, InstalledFiles, ObjectId, Remote, Repository, Template,
};
use crate::repository_config::{ConfigError, FILES, RepositoryConfig};
use crate::sandbox::Sandbox;
use crate::sandbox::egress::AllowList;
use folder_lock::FolderLocks;
use retention::{Occasion, Sweep};
use staging::{Staging, StagingFolders};
use templates::{SharedTemplate, Templates, Wanted};

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
                self.build(&git, &mirror, (checkout, &base), &lock).await
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

    async fn build(
        &self,
        git: &Git,
        mirror: &Mirror,
        (checkout, base): (&Checkout, &ObjectId),
        lock: &FolderLock,
    ) -> Result<Workspace, GitError> {
        let template = self.template(git, mirror, (checkout, base)).await?;
        let (_staging, staged) = self.stage(checkout).await?;
        // Whatever is forced onto the remote or cleaned away by hand, the base stays.
        let task = checkout.work.task.to_string();
        mirror.repository.keep(&task, base).await?;
        let shared = template.as_ref().map(|it| &it.template);
        let filled = fill(&staged, (git, &mirror.repository), (checkout, base), shared).await;
        let placed = self.place(&staged, filled, (checkout, base), lock).await;
        placed.map(|workspace| Workspace {
            template: template.map(Arc::new),
            ..workspace
        })
    }

    /// A folder to build a workspace in, kept from sweeps as long as the first value.
    async fn stage(&self, checkout: &Checkout) -> Result<(Staging, TaskLayout), GitError> {
        let name = format!("{}-{}", checkout.work.task, Uuid::now_v7());
        let staging = self.staging.begin(&self.layout.tasks(), &name);
        let staged = TaskLayout::at(staging.folder.clone());
        if let Some(owner) = self.owner {
            give_work_tree(&staged, owner).await.map_err(disk)?;
        }
        Ok((staging, staged))
    }

    /// Puts a workspace that was filled in its place.
    async fn place(
        &self,
        staged: &TaskLayout,
        filled: Result<Repository, GitError>,
        (checkout, base): (&Checkout, &ObjectId),
        lock: &FolderLock,
    ) -> Result<Workspace, GitError> {
        let layout = self.layout.task(checkout.work.task);
        let placed = match filled {
            Ok(store) => self
                .layout
                .swap_in(staged.root(), &layout, Arc::clone(lock))
                .await
                .map(|()| store)
                .map_err(disk),
            Err(error) => Err(error),
        };
        let store = match placed {
            Ok(store) => store,
            Err(error) => {
                layout::delete(staged.root()).await;
                return Err(error);
            }
        };
        Ok(Workspace {
            work: checkout.work,
            base: base.clone(),
            repository: store
                .moved(layout.object_store(), layout.repo_clone())
                .locked(Arc::clone(lock)),
            logs: self.logs.clone(),
            layout,
            dependencies: Dependencies::default(),
            template: None,
            contents: Contents::default(),
        })
    }

    /// What the work tree lies over; nothing where it is a check-out of its own.
    async fn template(
        &self,
        git: &Git,
        mirror: &Mirror,
        (checkout, base): (&Checkout, &ObjectId),
    ) -> Result<Option<SharedTemplate>, GitError> {
        if !self.is_layered || checkout.has_contents {
            return Ok(None);
        }
        let wanted = Wanted {
            git,
            mirror: &mirror.repository,
            name: &checkout.repository,
            commit: base,
            owner: self.owner,
        };
        match self.templates.get(wanted).await {
            Ok(template) => Ok(Some(template)),
            Err(error @ GitError::Host { .. }) => {
                tracing::warn!(%error, "a task gets a check-out of its own");
                Ok(None)
            }
            Err(error) => Err(error),
        }
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

/// Makes the folder of a work tree for its owner; what is checked out there is the owner's too.
async fn give_work_tree(layout: &TaskLayout, owner: Owner) -> std::io::Result<()> {
    let folder = layout.repo_clone();
    tokio::fs::create_dir_all(&folder).await?;
    std::os::unix::fs::chown(folder, Some(owner.uid), Some(owner.gid))
}

/// Fills a task's folder; its object store, with the work tree.
async fn fill(
    layout: &TaskLayout,
    (git, mirror): (&Git, &Repository),
    (checkout, base): (&Checkout, &ObjectId),
    template: Option<&Arc<Template>>,
) -> Result<Repository, GitError> {
    layout.create().await.map_err(disk)?;
    let store = git.init_bare(&layout.object_store()).await?;
    let store = store.lacking_like(mirror);
    store.borrow_from(mirror).await.map_err(disk)?;
    let with_tree = match template {
        Some(template) => store.with_work_tree_over(layout.repo_clone(), Arc::clone(template)),
        None => store.with_work_tree(layout.repo_clone()),
    };
    // Both are waited for, so that nothing is written into a folder that was given up.
    let clone_git = layout.clone_git();
    let (checked_out, cloned) = tokio::join!(
        with_tree.check_out(base),
        mirror.clone_into(&clone_git, base)
    );
    checked_out?;
    cloned?;
    if template.is_none() {
        with_tree.write_index(&clone_git.join("index")).await?;
    }
    let repo_clone = layout.repo_clone();
    let copied = tokio::task::spawn_blocking(move || {
        crate::disk::copy_all(&clone_git, &repo_clone.join(".git"))
    });
    let copied = copied.await.map_err(std::io::Error::other);
    copied.flatten().map_err(disk)?;
    let template = template.map(|it| it.root().to_owned());
    let metadata = Metadata::begun(checkout, base, template);
    metadata.write(&layout.metadata()).await.map_err(disk)?;
    Ok(with_tree)
}

impl Workspace {
    /// Makes the work tree exactly this tree, with a `.git` as it was at the beginning: nothing
    /// that drafts or tests left there is seen by those who come after.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn check_out(&self, tree: &ObjectId) -> Result<(), GitError> {
        self.repository.check_out(tree).await?;
        self.copy(self.layout.clone_git(), self.clone_git()).await
    }

    /// The same for a tree that is tested: it is committed on the base, so that tests which look
    /// at git see what they would see after a merge: a clean work tree, and each file known.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn check_out_committed(&self, tree: &ObjectId) -> Result<(), GitError> {
        self.check_out(tree).await?;
        let base = format!("{}^{{tree}}", self.base);
        if self.repository.resolve(&base).await?.as_ref() == Some(tree) {
            return Ok(());
        }
        let author = Author {
            name: "Patchfleet".to_owned(),
            email: "patchfleet@localhost".to_owned(),
        };
        let message = "The change under test";
        let commit = self
            .repository
            .commit_tree(tree, &self.base, message, &author);
        let commit = commit.await?;
        // A copy: what runs in the work tree has no need to know where the agent's own objects are.
        let objects = self.repository.dir().join("objects");
        self.copy(objects, self.clone_git().join("objects")).await?;
        let head = self.clone_git().join("HEAD");
        let written = tokio::fs::write(head, format!("{commit}\n")).await;
        written.map_err(disk)?;
        self.repository
            .write_index(&self.clone_git().join("index"))
            .await
    }

    /// Takes what the setup phase installed out of the work tree, which is at its base then.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn collect_dependencies(&self) -> Result<Dependencies, GitError> {
        let entries = self.repository.entries(&self.base).await?;
        let (work_tree, folder) = (self.layout.repo_clone(), self.layout.setup());
        let layers = self.layers();
        let collected = self.on_disk(move || {
            if !layers.is_empty() {
                crate::disk::settle(&work_tree, &layers)?;
            }
            let paths = entries.iter().map(|entry| entry.path.as_str());
            Dependencies::collect(&work_tree, paths, &folder)
        });
        let collected = collected.await?;
        self.check_out(&self.base).await?;
        Ok(collected)
    }

    /// Puts copies of what was installed into the work tree and into the home of a run; which
    /// files of the work tree they are, so that they are no part of a change.
    ///
    /// # Errors
    /// When they can't be written.
    pub async fn put_dependencies(&self, private: &Path) -> Result<InstalledFiles, GitError> {
        let (dependencies, work_tree) = (self.dependencies.clone(), self.layout.repo_clone());
        let (home, temporary) = (private.join("home"), private.join("tmp"));
        let is_layered = self.template.is_some();
        let lfs = self.put_contents().await?;
        let mut installed = self
            .on_disk(move || {
                crate::disk::remove_all(&temporary)?;
                if is_layered {
                    dependencies.put_below(&home)
                } else {
                    dependencies.put(&work_tree, &home)
                }
            })
            .await?;
        installed.lfs = lfs;
        Ok(installed)
    }

    /// The folders that the work tree lies over, from the top, for each run in it: those of the
    /// template and what was installed. None where the work tree has all of its files.
    pub fn layers(&self) -> Vec<PathBuf> {
        let Some(shared) = &self.template else {
            return Vec::new();
        };
        let template = shared.template.layers().into_iter();
        // The template's folders count where both have one: they belong to whom the work tree does.
        template.chain(self.dependencies.layer()).collect()
    }

    /// The folder that has the files of the base, before anything ran.
    pub fn base_files(&self) -> PathBuf {
        match &self.template {
            Some(shared) => shared.template.root().to_owned(),
            None => self.layout.repo_clone(),
        }
    }

    /// Works on the task's folder, which stays locked until that is done.
    async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> std::io::Result<T> + Send + 'static,
    ) -> Result<T, GitError> {
        let lock = self.repository.lock();
        let done = tokio::task::spawn_blocking(move || {
            let _lock = lock;
            work()
        });
        done.await
            .map_err(std::io::Error::other)
            .flatten()
            .map_err(disk)
    }

    /// The folders of objects that the work tree's `.git` borrows from, which whoever runs git in
    /// it has to see.
    pub async fn borrowed_objects(&self) -> Vec<PathBuf> {
        let alternates = self.layout.clone_git().join("objects/info/alternates");
        let text = tokio::fs::read_to_string(alternates).await;
        text.unwrap_or_default()
            .lines()
            .map(PathBuf::from)
            .collect()
    }

    /// The tags that whoever runs git in the work tree sees, each with what it points to.
    ///
    /// # Errors
    /// When they can't be read.
    pub async fn tags(&self) -> std::io::Result<Vec<String>> {
        // A fresh clone has all of its refs here.
        let text = tokio::fs::read_to_string(self.layout.clone_git().join("packed-refs")).await?;
        let is_tag = |line: &&str| line.contains(" refs/tags/") || line.starts_with('^');
        Ok(text.lines().filter(is_tag).map(str::to_owned).collect())
    }

    /// The `.git` that drafts and tests see.
    fn clone_git(&self) -> PathBuf {
        self.layout.repo_clone().join(".git")
    }

    async fn copy(&self, from: PathBuf, to: PathBuf) -> Result<(), GitError> {
        self.on_disk(move || crate::disk::copy_all(&from, &to))
            .await
    }

    /// How Patchfleet works on this repository, as the base says.
    ///
    /// # Errors
    /// When `.patchfleet.yaml` can't be used or asks for hosts that are not allowed, with line,
    /// column and field.
    pub async fn configuration(&self, allowed: &AllowList) -> Result<RepositoryConfig, Failure> {
        let mut found = Vec::new();
        for file in FILES {
            let blob = self
                .repository
                .resolve(&format!("{}:{file}", self.base))
                .await;
            found.extend(
                blob.map_err(GitError::into_failure)?
                    .map(|blob| (file, blob)),
            );
        }
        let (file, blob) = match found.len() {
            0 => return Ok(RepositoryConfig::default()),
            1 => found.remove(0),
            _ => return Err(ConfigError::doubled().into_failure()),
        };
        let texts = self
            .repository
            .blobs(&[blob])
            .await
            .map_err(GitError::into_failure)?;
        let text = texts
            .iter()
            .map(|text| String::from_utf8_lossy(text))
            .collect::<String>();
        RepositoryConfig::parse_within(&text, allowed)
            .map_err(|error| error.in_file(file).into_failure())
    }
}

/// The pinned commit if it is still there, else the branch's head.
async fn find_base(mirror: &Repository, checkout: &Checkout) -> Result<ObjectId, Failure> {
    if let Some(pinned) = &checkout.pinned_base {
        let there = mirror.has_commit(pinned).await;
        return if there.map_err(GitError::into_failure)? {
            Ok(pinned.clone())
        } else {
            Err(Failure {
                kind: FailureKind::BaseMoved,
                message: format!("the base commit {pinned} is no longer in the repository"),
                retryable: true,
                discard_checkpoints: true,
            })
        };
    }
    let branch = &checkout.default_branch;
    let head = mirror.resolve(&format!("refs/heads/{branch}")).await;
    head.map_err(GitError::into_failure)?
        .ok_or_else(|| Failure {
            kind: FailureKind::CloneFailed,
            message: format!("{} has no branch `{branch}`", checkout.remote.url()),
            retryable: false,
            discard_checkpoints: false,
        })
}

fn disk(error: std::io::Error) -> GitError {
    GitError::host("writing the workspace", error)
}

#[cfg(test)]
pub(crate) mod tests;
