//! Files that were put into a work tree beside what was checked out, and are no part of a change.
//!
//! They stay while a snapshot is taken, because their `.gitignore` and the tags of their caches say
//! what of the files beside them is nobody's work. A file that a draft adds in an installed folder
//! is as new as any other.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::lfs::LfsContents;
use crate::disk::{Folder, Kind, Stat};

/// The installed files of a work tree; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InstalledFiles {
    /// Has the originals, at the paths of the work tree.
    pub(crate) originals: PathBuf,
    /// The files and folders that were put there, each the topmost one.
    pub(crate) paths: BTreeSet<PathBuf>,
    /// Contents that were put in the place of their pointers.
    pub(crate) lfs: LfsContents,
}

/// What an installed file is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Now {
    AsInstalled,
    Changed,
}

impl InstalledFiles {
    /// The folder with the originals, when there are any.
    pub(crate) fn layer(&self) -> Option<&Path> {
        (!self.paths.is_empty()).then_some(self.originals.as_path())
    }

    /// True for a folder that was installed.
    pub(super) fn has_folder(&self, path: &[u8]) -> bool {
        self.original(path).is_some_and(|it| it.is_dir())
    }

    /// What an installed file or link is now; nothing for one that was not installed.
    pub(super) fn file(
        &self,
        path: &[u8],
        found: &Stat,
        (folder, name): (&Folder, &OsStr),
    ) -> io::Result<Option<Now>> {
        let Some(original) = self.original(path) else {
            return Ok(None);
        };
        let is_same = match found.kind {
            Kind::File if original.is_file() => {
                let modified = (original.mtime(), original.mtime_nsec());
                found.size == original.len() && found.stamp.modified == modified
            }
            Kind::Link if original.is_symlink() => {
                let target = fs::read_link(self.originals.join(as_path(path)))?;
                folder.read_link(name)? == target
            }
            _ => return Ok(None),
        };
        Ok(Some(if is_same {
            Now::AsInstalled
        } else {
            Now::Changed
        }))
    }

    fn original(&self, path: &[u8]) -> Option<Metadata> {
        let path = as_path(path);
        let mut around = path.ancestors();
        let is_put = around.any(|it| self.paths.contains(it));
        let original = is_put.then(|| fs::symlink_metadata(self.originals.join(path)));
        original?.ok()
    }
}

fn as_path(path: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(path))
}
