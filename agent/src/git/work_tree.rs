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
mod folders;
mod ignored;
mod index;
mod installed;
mod names;
pub(crate) mod properties;
mod snapshot;
mod walk;

pub use installed::InstalledFiles;
pub use snapshot::Snapshot;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use git2::Oid;

use super::GitError;
use super::tree::{Blob, EntryKind};
use crate::disk::{Folder, Stamp};
use folders::{Folders, find};

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
    files: Folders<Checked>,
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
            let folders = state.iter_mut().flat_map(|state| state.files.folders_mut());
            for (_, checked) in folders.flat_map(|(_, files)| files) {
                checked.stamp = None;
            }
        });
    }

    /// As if each file had been checked out long ago.
    #[cfg(test)]
    pub(super) fn age_stamps(&self) {
        self.with_state(|state| {
            for (folder, files) in state.iter_mut().flat_map(|state| state.files.folders_mut()) {
                let folder = self.root.join(OsStr::from_bytes(folder));
                let opened = Folder::open(&folder).unwrap();
                for (name, checked) in files {
                    let found = opened.stat(OsStr::from_bytes(name)).unwrap();
                    checked.stamp = found.map(|found| found.stamp);
                }
            }
        });
    }

    fn with_state<T>(&self, work: impl FnOnce(&mut Option<State>) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut state)
    }
}

impl Checked {
    const fn new(blob: Blob, stamp: Option<Stamp>) -> Self {
        Self { blob, stamp }
    }
}

/// A folder of a work tree that is gone into.
struct Place {
    parent: Arc<Folder>,
    name: OsString,
    /// Below the root; empty, or with `/` at its end.
    path: Vec<u8>,
}

impl Place {
    fn root(root: Arc<Folder>) -> Self {
        Self {
            parent: root,
            name: ".".into(),
            path: Vec::new(),
        }
    }

    /// A folder in this one, which was opened.
    fn below(&self, opened: &Arc<Folder>, name: &[u8]) -> Self {
        Self {
            parent: Arc::clone(opened),
            name: OsStr::from_bytes(name).to_owned(),
            path: [self.path.as_slice(), name, b"/"].concat(),
        }
    }
}

/// The files of a tree that hold attributes.
fn attribute_files<T>(files: &Folders<T>, blob: impl Fn(&T) -> Blob) -> Vec<(Vec<u8>, Oid)> {
    let found = files.folders().filter_map(|(folder, files)| {
        let blob = blob(find(files, attributes::FILE)?);
        let is_file = matches!(blob.kind, EntryKind::File | EntryKind::Executable);
        is_file.then(|| ([folder, attributes::FILE].concat(), blob.id))
    });
    found.collect()
}

fn io(root: &Path, error: &std::io::Error) -> GitError {
    GitError::host("the work tree", format!("{}: {error}", root.display()))
}
