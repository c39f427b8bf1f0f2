//! Workspaces of repositories that are too large for a mirror (`clone = "blobless"`).
//!
//! A task clones the history without the contents of files, then fetches those of its base in one
//! request. All of it lies in the task's own folder and is shared with no other task, because what
//! a partial clone lacks nobody could borrow from it. Within the task the work tree's `.git` and the
//! agent's own store borrow from it, as they do from a mirror; nothing is fetched into it after that.

use std::fs;
use std::io;
use std::path::Path;

use patchfleet_domain::outcome::Failure;

use super::build::{fill, find_base};
use super::{Checkout, TaskLayout, Workspace, Workspaces, disk, layout};
use crate::git::{FolderLock, Git, GitError, ObjectId, Repository};

impl Workspaces {
    /// Makes the workspace of an attempt without a mirror.
    pub(super) async fn build_blobless(
        &self,
        git: &Git,
        checkout: &Checkout,
        lock: &FolderLock,
    ) -> Result<Workspace, Failure> {
        let staged = self.stage(checkout).await;
        let (_staging, staged) = staged.map_err(GitError::into_failure)?;
        let (history, base) = match fetched(git, checkout, &staged).await {
            Ok(fetched) => fetched,
            Err(failure) => {
                layout::delete(staged.root()).await;
                return Err(failure);
            }
        };
        let filled = fill(&staged, (git, &history), (checkout, &base), None).await;
        let place = self.layout.task(checkout.work.task);
        let filled = match filled {
            Ok(store) => redirected(&staged, &place).await.map(|()| store),
            Err(error) => Err(error),
        };
        let placed = self.place(&staged, filled, (checkout, &base), lock).await;
        placed.map_err(GitError::into_failure)
    }
}

/// The history, with the contents of the base.
async fn fetched(
    git: &Git,
    checkout: &Checkout,
    staged: &TaskLayout,
) -> Result<(Repository, ObjectId), Failure> {
    let made = staged.create().await.map_err(disk);
    made.map_err(GitError::into_failure)?;
    let place = staged.history();
    let history = git.clone_blobless(&checkout.remote, &place).await;
    let history = history.map_err(GitError::into_failure)?;
    let base = find_base(&history, checkout).await?;
    let completed = history.complete(&checkout.remote, &[&base]).await;
    completed.map_err(GitError::into_failure)?;
    Ok((history, base))
}

/// Says where the history will be once the workspace is in its place, wherever it is named.
async fn redirected(staged: &TaskLayout, place: &TaskLayout) -> Result<(), GitError> {
    let stores = [
        staged.object_store(),
        staged.clone_git(),
        staged.repo_clone().join(".git"),
    ];
    let names = ["objects/info/alternates", "config"];
    let files = stores.iter().flat_map(|it| names.map(|name| it.join(name)));
    let files: Vec<_> = files.collect();
    let (from, to) = (staged.history(), place.history());
    let done = tokio::task::spawn_blocking(move || {
        let mut files = files.iter();
        files.try_for_each(|file| replace(file, (&from, &to)))
    });
    done.await.map_err(io::Error::other).flatten().map_err(disk)
}

/// Replaces a path in a file; the file keeps its owner.
fn replace(file: &Path, (from, to): (&Path, &Path)) -> io::Result<()> {
    let text = fs::read_to_string(file)?;
    let (from, to) = (from.display().to_string(), to.display().to_string());
    fs::write(file, text.replace(&from, &to))
}

#[cfg(test)]
mod tests;
