//! Work trees that untrusted code was in: made known by a check-out, read by a snapshot.
//!
//! Git is not run over them: it enters every repository that lies in a work tree and obeys what
//! is configured there. They are walked below a handle instead, no link is followed, and nothing
//! in them but files' contents, links' targets and the right to execute counts. What a check-out
//! left is remembered in memory, file by file, with marks that whoever changes a file can't set
//! back; so what nobody touched is neither read nor written again, and never appears in a change.
//!
//! A work tree may be laid over a template, which is a check-out that is shared and never changed:
//! its folder then is the upper layer of an overlay, and has only what differs.

mod attributes;
mod check_out;
mod convert;
mod folders;
mod ignored;
mod index;
mod installed;
mod laid;
mod lfs;
mod names;
pub(crate) mod properties;
mod snapshot;
mod template;
mod walk;

pub(crate) use ignored::{FILE as IGNORE_FILE, Rules as IgnoreRules};
pub(crate) use index::{Replaced, note_replaced};
pub use installed::InstalledFiles;
pub(crate) use lfs::LfsContents;
pub use lfs::{LfsFile, Pointer};
pub(crate) use names::is_git_name;
pub use snapshot::Snapshot;
pub use template::Template;

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use git2::Oid;

use super::GitError;
use super::tree::{Blob, EntryKind};
use crate::disk::{Folder, Stamp, resolve_redirects};
use folders::{Folders, find};

/// A work tree, and what was checked out into it last.
#[derive(Debug, Clone)]
pub(super) struct WorkTree {
    pub(super) root: PathBuf,
    state: Arc<Mutex<Option<State>>>,
    /// What it is laid over.
    template: Option<Arc<Template>>,
    /// Nobody else knows of it.
    is_private: bool,
}

/// What a check-out left.
#[derive(Debug)]
struct State {
    tree: Oid,
    /// Those of a template are shared by all work trees over it.
    files: Arc<Folders<Checked>>,
}

/// A file that was checked out.
#[derive(Debug, Clone, Copy)]
struct Checked {
    blob: Blob,
    /// Absent when a change right after the check-out could not be told by it.
    stamp: Option<Stamp>,
    /// It is a file of the template, and not in the work tree's own folder.
    is_below: bool,
}

impl WorkTree {
    /// One of which nothing is known.
    pub(super) fn new(root: PathBuf) -> Self {
        Self {
            root,
            state: Arc::default(),
            template: None,
            is_private: false,
        }
    }

    /// One that nobody else knows of, so that nothing in it changes by itself.
    pub(super) fn private(root: PathBuf) -> Self {
        Self {
            is_private: true,
            ..Self::new(root)
        }
    }

    /// One whose folder is the upper layer over a template.
    pub(super) fn over(root: PathBuf, template: Arc<Template>) -> Self {
        Self {
            template: Some(template),
            ..Self::new(root)
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
            if let Some(state) = state {
                let folders = Arc::make_mut(&mut state.files).folders_mut();
                for (_, checked) in folders.flat_map(|(_, files)| files) {
                    checked.stamp = None;
                }
            }
        });
    }

    /// As if each file had been checked out long ago.
    #[cfg(test)]
    pub(super) fn age_stamps(&self) {
        self.with_state(|state| {
            if let Some(state) = state {
                for (folder, files) in Arc::make_mut(&mut state.files).folders_mut() {
                    let folder = self.root.join(OsStr::from_bytes(folder));
                    let opened = Folder::open(&folder).unwrap();
                    for (name, checked) in files {
                        let found = opened.stat(OsStr::from_bytes(name)).unwrap();
                        checked.stamp = found.map(|found| found.stamp);
                    }
                }
            }
        });
    }

    /// The layers below the work tree's own folder, from the top; none when that has all of it. It
    /// can be read without them then but for what it has nothing of.
    fn below(&self, installed: &InstalledFiles) -> io::Result<Option<Vec<Arc<Folder>>>> {
        let Some(template) = &self.template else {
            return Ok(None);
        };
        let folders = std::iter::once(template.root()).chain(installed.layer());
        let folders: Vec<_> = folders.map(Path::to_owned).collect();
        resolve_redirects(&self.root, &folders)?;
        let opened = folders.iter().map(|it| Folder::open(it).map(Arc::new));
        opened.collect::<io::Result<_>>().map(Some)
    }

    fn with_state<T>(&self, work: impl FnOnce(&mut Option<State>) -> T) -> T {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        work(&mut state)
    }
}

impl Checked {
    const fn new(blob: Blob, stamp: Option<Stamp>) -> Self {
        Self {
            blob,
            stamp,
            is_below: false,
        }
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

fn io(root: &Path, error: &io::Error) -> GitError {
    GitError::host("the work tree", format!("{}: {error}", root.display()))
}
