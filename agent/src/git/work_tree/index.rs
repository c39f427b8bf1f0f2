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
