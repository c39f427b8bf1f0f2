//! The index that goes with a check-out, for those who look at the work tree with git.

use std::path::Path;

use git2::{Index, IndexEntry, IndexTime};

use crate::disk::Stamp;
use crate::git::local::failed;
use crate::git::{GitError, Repository};

const WRITING: &str = "writing an index";

impl Repository {
    /// Writes an index of the tree that was checked out last, so that git finds the work tree
    /// unchanged without reading it again.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn write_index(&self, path: &Path) -> Result<(), GitError> {
        let (work_tree, path) = (self.work_tree()?.clone(), path.to_owned());
        self.local(WRITING, move |_| {
            crate::disk::remove_all(&path).map_err(|error| GitError::host(WRITING, error))?;
            let mut index = Index::open(&path).map_err(failed(WRITING))?;
            work_tree
                .with_state(|state| {
                    // In git's order, in which an index takes entries without moving others.
                    let files = state.iter().flat_map(|state| state.files.sorted());
                    for (path, checked) in files {
                        let mut entry = entry(path, checked.stamp);
                        entry.mode = checked.blob.kind.number().unsigned_abs();
                        entry.id = checked.blob.id;
                        index.add(&entry)?;
                    }
                    index.write()
                })
                .map_err(failed(WRITING))
        })
        .await
    }
}

/// A file in whose place another content was put, which a filter of git takes for it.
#[derive(Debug)]
pub(crate) struct Replaced<'a> {
    pub(crate) path: &'a Path,
    /// What the index has to have there.
    pub(crate) original: &'a [u8],
    /// How the file is now.
    pub(crate) stamp: Stamp,
}

/// Says in an index how files are now, as git does that wrote them through a filter: by their sizes
/// alone it would take them for changed.
pub(crate) fn note_replaced(index: &Path, files: &[Replaced<'_>]) -> std::io::Result<()> {
    let note = || -> Result<(), git2::Error> {
        let mut index = Index::open(index)?;
        for file in files {
            let known = index.get_path(file.path, 0);
            let id = git2::Oid::hash_object(git2::ObjectType::Blob, file.original)?;
            let Some(known) = known.filter(|known| known.id == id) else {
                continue;
            };
            index.add(&IndexEntry {
                mode: known.mode,
                id,
                ..entry(known.path, Some(file.stamp))
            })?;
        }
        index.write()
    };
    note().map_err(std::io::Error::other)
}

/// An entry with what the file system says; without it, git looks at the file's content. The
/// numbers are cut to the 32 bits that an index has for them.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
pub(super) fn entry(path: Vec<u8>, stamp: Option<Stamp>) -> IndexEntry {
    let time = |(seconds, nanoseconds)| IndexTime::new(seconds as i32, nanoseconds as u32);
    let zero = git2::Oid::ZERO_SHA1;
    IndexEntry {
        ctime: time(stamp.map_or((0, 0), |it| it.changed)),
        mtime: time(stamp.map_or((0, 0), |it| it.modified)),
        dev: stamp.map_or(0, |it| it.device as u32),
        ino: stamp.map_or(0, |it| it.inode as u32),
        mode: 0,
        uid: stamp.map_or(0, |it| it.owner),
        gid: stamp.map_or(0, |it| it.group),
        file_size: stamp.map_or(0, |it| it.size as u32),
        id: zero,
        flags: 0,
        flags_extended: 0,
        path,
    }
}
