//! Work trees that untrusted code was in: made known by a check-out, read by a snapshot.
//!
//! Git is not run over them: it enters every repository that lies in a work tree and obeys what
//! is configured there. They are walked below a handle instead, no link is followed, and nothing
//! in them but files' contents, links' targets and the right to execute counts. What a check-out
//! left is remembered in memory, file by file, with marks that whoever changes a file can't set
//! back; so what nobody touched is neither read nor written again, and never appears in a change.

mod attributes;
mod check_out;
mod convert;
mod ignored;
mod index;
mod names;
mod snapshot;

pub use snapshot::Snapshot;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use git2::Oid;

use super::GitError;
use super::tree::{Blob, EntryKind};
use crate::disk::Stamp;

/// Every file of a tree, by its path.
type Files = BTreeMap<Vec<u8>, Blob>;

/// A work tree, and what was checked out into it last.
#[derive(Debug, Clone)]
pub(super) struct WorkTree {
    pub(super) root: PathBuf,
    state: Arc<Mutex<Option<State>>>,
}

/// What a check-out left.
#[derive(Debug)]
struct State {
    tree: Oid,
    files: BTreeMap<Vec<u8>, Checked>,
}

/// A file that was checked out.
#[derive(Debug, Clone, Copy)]
struct Checked {
    blob: Blob,
    /// Absent when a change right after the check-out could not be told by it.
    stamp: Option<Stamp>,
}

impl WorkTree {
    /// One of which nothing is known.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            state: Arc::default(),
        }
    }

    /// The same after its folder was renamed.
    pub(super) fn moved(&self, root: PathBuf) -> Self {
        Self {
            root,
            ..self.clone()
        }
    }

    /// As if each file had been touched since.
    #[cfg(test)]
    pub(super) fn forget_stamps(&self) {
        self.with_state(|state| {
            for checked in state.iter_mut().flat_map(|state| state.files.values_mut()) {
                checked.stamp = None;
            }
        });
    }

    fn with_state<T>(&self, work: impl FnOnce(&mut Option<State>) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut state)
    }
}

/// True when a tree has something below a folder, whose path ends with `/`.
fn has_below<T>(files: &BTreeMap<Vec<u8>, T>, folder: &[u8]) -> bool {
    let next = files.range(folder.to_vec()..).next();
    next.is_some_and(|(path, _)| path.starts_with(folder))
}

/// The files of a tree that hold attributes.
fn attribute_files<'a>(
    files: impl IntoIterator<Item = (&'a Vec<u8>, &'a Blob)>,
) -> Vec<(Vec<u8>, Oid)> {
    let found = files.into_iter().filter(|(path, blob)| {
        let name = path.rsplit(|byte| *byte == b'/').next();
        name == Some(attributes::FILE)
            && matches!(blob.kind, EntryKind::File | EntryKind::Executable)
    });
    found.map(|(path, blob)| (path.clone(), blob.id)).collect()
}

fn io(root: &Path, error: &std::io::Error) -> GitError {
    GitError::host("the work tree", format!("{}: {error}", root.display()))
}
