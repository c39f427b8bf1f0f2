//! How a workspace is made: filled beside its place, and put there in one step.

use std::sync::Arc;

use patchfleet_domain::FailureKind;
use patchfleet_domain::outcome::Failure;
use uuid::Uuid;

use super::staging::Staging;
use super::templates::{SharedTemplate, Wanted};
use super::{
    Checkout, Contents, Dependencies, Metadata, Mirror, Owner, TaskLayout, Workspace, Workspaces,
    disk, layout,
};
use crate::git::{FolderLock, Git, GitError, ObjectId, Repository, Template};

impl Workspaces {
    pub(super) async fn build(
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
    pub(super) async fn stage(
        &self,
        checkout: &Checkout,
    ) -> Result<(Staging, TaskLayout), GitError> {
        let name = format!("{}-{}", checkout.work.task, Uuid::now_v7());
        let staging = self.staging.begin(&self.layout.tasks(), &name);
        let staged = TaskLayout::at(staging.folder.clone());
        if let Some(owner) = self.owner {
            give_work_tree(&staged, owner).await.map_err(disk)?;
        }
        Ok((staging, staged))
    }

    /// Puts a workspace that was filled in its place.
    pub(super) async fn place(
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
}

/// Makes the folder of a work tree for its owner; what is checked out there is the owner's too.
async fn give_work_tree(layout: &TaskLayout, owner: Owner) -> std::io::Result<()> {
    let folder = layout.repo_clone();
    tokio::fs::create_dir_all(&folder).await?;
    std::os::unix::fs::chown(folder, Some(owner.uid), Some(owner.gid))
}

/// Fills a task's folder; its object store, with the work tree.
pub(super) async fn fill(
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

/// The pinned commit if it is still there, else the branch's head.
pub(super) async fn find_base(
    mirror: &Repository,
    checkout: &Checkout,
) -> Result<ObjectId, Failure> {
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
    if let Some(head) = head_of(mirror, branch).await? {
        return Ok(head);
    }
    // It may have another name since the task was made.
    let present = mirror.default_branch(&checkout.remote).await;
    let present = present.map_err(GitError::into_failure)?;
    if let Some(present) = &present
        && let Some(head) = head_of(mirror, present).await?
    {
        return Ok(head);
    }
    Err(Failure {
        kind: FailureKind::CloneFailed,
        message: format!("{} has no branch `{branch}`", checkout.remote.url()),
        retryable: false,
        discard_checkpoints: false,
    })
}

async fn head_of(mirror: &Repository, branch: &str) -> Result<Option<ObjectId>, Failure> {
    let head = mirror.resolve(&format!("refs/heads/{branch}")).await;
    head.map_err(GitError::into_failure)
}
