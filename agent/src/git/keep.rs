//! Refs of our own that keep commits for those who borrow them.
//!
//! A commit that was forced away from its branch is reached by nothing else, and whoever cleans a
//! mirror, also by hand, would take it from under a workspace. Fetches leave these refs alone.
//!
//! A name is written by one at a time, which is up to the caller; so a lock file of its ref was left
//! by a process that was killed. The refs have no folder of their own, which the deletion of one would
//! take away from under the making of another.

use std::path::Path;

use super::local::failed;
use super::{GitError, ObjectId, Repository};
use crate::disk;

const KEEPING: &str = "keeping a commit";
const REFS: &str = "refs/patchfleet-";

/// True for a file in `refs` that belongs to a ref of ours.
pub(super) fn is_of_a_kept(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with("patchfleet-")
}

impl Repository {
    /// Keeps a commit, with all that it needs, under a name.
    ///
    /// # Errors
    /// When the commit is not there or the ref can't be written.
    pub async fn keep(&self, name: &str, commit: &ObjectId) -> Result<(), GitError> {
        let (name, commit) = (format!("{REFS}{name}"), commit.clone());
        self.local(KEEPING, move |repository| {
            unlock(repository, &name)?;
            let written = repository.reference(&name, commit.to_oid()?, true, "");
            written.map(drop).map_err(failed(KEEPING))
        })
        .await
    }

    /// The names under which commits are kept.
    ///
    /// # Errors
    /// When the refs can't be read.
    pub async fn kept(&self) -> Result<Vec<String>, GitError> {
        self.local(KEEPING, |repository| {
            let refs = repository.references_glob(&format!("{REFS}*"));
            let mut refs = refs.map_err(failed(KEEPING))?;
            let names = refs.names().filter_map(|name| {
                let name = name.ok()?.strip_prefix(REFS)?;
                Some(name.to_owned())
            });
            Ok(names.collect())
        })
        .await
    }

    /// Keeps the commit under a name no longer.
    ///
    /// # Errors
    /// When the ref can't be removed.
    pub async fn forget(&self, name: &str) -> Result<(), GitError> {
        let name = format!("{REFS}{name}");
        self.local(KEEPING, move |repository| {
            unlock(repository, &name)?;
            let found = repository.find_reference(&name);
            let deleted = found.and_then(|mut found| found.delete());
            deleted.map_err(failed(KEEPING))
        })
        .await
    }
}

/// Removes the lock file that a killed process left of a ref.
fn unlock(repository: &git2::Repository, name: &str) -> Result<(), GitError> {
    let removed = disk::remove_all(&repository.path().join(format!("{name}.lock")));
    removed.map_err(|error| GitError::host(KEEPING, error))
}
