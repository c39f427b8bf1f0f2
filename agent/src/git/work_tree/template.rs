//! Templates: check-outs of a commit that nobody changes any more, over which work trees are laid.
//!
//! ```text
//! <folder>/tree             the files
//!         /git/.git/index   what they are, as git's index has it
//! ```
//! Both `tree` and `git` are layers: whoever runs git in a work tree over them finds the index.
//! The index has each file's size, times, inode, owner and kind, and a hash of itself. All of it is
//! compared before a template is used, so that one that was damaged is noticed.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{Index, IndexEntry};

use super::folders::Folders;
use super::index::entry;
use super::{Checked, Place};
use crate::disk::{Folder, Kind, Owner, Stat, spread};
use crate::git::local::failed;
use crate::git::tree::{Blob, EntryKind, tree_of};
use crate::git::{GitError, ObjectId, Repository, in_background};

const MAKING: &str = "making a template";
const OPENING: &str = "opening a template";

/// A check-out that nobody changes any more.
#[derive(Debug)]
pub struct Template {
    folder: PathBuf,
    root: PathBuf,
    pub(super) tree: git2::Oid,
    pub(super) files: Arc<Folders<Checked>>,
}

/// The files of a template.
fn tree(folder: &Path) -> PathBuf {
    folder.join("tree")
}

/// The folder of the git folder with the index.
fn git(folder: &Path) -> PathBuf {
    folder.join("git")
}

fn index(folder: &Path) -> PathBuf {
    git(folder).join(".git/index")
}

impl Template {
    /// The files, at the paths of the tree.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The layers that a work tree lies over, from the top.
    pub fn layers(&self) -> [PathBuf; 2] {
        [self.root.clone(), git(&self.folder)]
    }
}

impl Repository {
    /// Makes a template of a commit in a folder that nobody else knows, for an owner when one is
    /// named.
    ///
    /// # Errors
    /// When the commit can't be read or the folder can't be written.
    pub async fn make_template(
        &self,
        commit: &ObjectId,
        folder: &Path,
        owner: Option<Owner>,
    ) -> Result<(), GitError> {
        let private = self.with_private_work_tree(tree(folder));
        let (root, index, lock) = (tree(folder), index(folder), self.lock());
        let git = git(folder).join(".git");
        in_background(MAKING, move || {
            let _lock = lock;
            std::fs::create_dir_all(&git)?;
            std::fs::create_dir_all(&root)?;
            let owner = owner.map(|it| Folder::open(&root)?.give(it));
            owner.unwrap_or(Ok(()))
        })
        .await?;
        private.check_out(commit).await?;
        private.write_index(&index).await
    }

    /// Opens a template of a commit.
    ///
    /// # Errors
    /// When it is not there, or not as it was made.
    pub async fn template(&self, commit: &ObjectId, folder: &Path) -> Result<Template, GitError> {
        let (commit, folder) = (commit.clone(), folder.to_owned());
        self.local(OPENING, move |repository| {
            let tree_id = tree_of(repository, commit.to_oid()?).map_err(failed(OPENING))?;
            let index = Index::open(&index(&folder)).map_err(failed(OPENING))?;
            let entries = index.iter().map(|entry| (entry.path.clone(), entry));
            let (entries, root) = (Folders::new(entries), tree(&folder));
            let files = checked(&entries, &root);
            let files = files.map_err(|error| GitError::other(OPENING, error.to_string()))?;
            Ok(Template {
                folder,
                root,
                tree: tree_id.id(),
                files: Arc::new(files),
            })
        })
        .await
    }
}

/// What is there, when that is exactly what an index has.
fn checked(entries: &Folders<IndexEntry>, root: &Path) -> io::Result<Folders<Checked>> {
    let first = Place::root(Arc::new(Folder::open(root)?));
    let parts = spread(first, |queue| {
        let mut done = Vec::new();
        while let Some((place, _running)) = queue.next() {
            let folder = Arc::new(place.parent.look_into(&place.name)?);
            let below = entries.below(&place.path);
            let files = here(entries, &folder, (&place.path, below.len()))?;
            let below = below.iter().map(|name| place.below(&folder, name));
            queue.add(below.collect());
            done.push((place.path, files));
        }
        io::Result::Ok(done)
    })?;
    let mut all = Folders::default();
    for (folder, files) in parts.into_iter().flatten() {
        all.insert(folder, files);
    }
    Ok(all)
}

/// The files of a folder in which are so many other folders.
fn here(
    entries: &Folders<IndexEntry>,
    folder: &Folder,
    (path, below): (&[u8], usize),
) -> io::Result<Vec<(Vec<u8>, Checked)>> {
    let damaged = |name: &[u8]| {
        let path = String::from_utf8_lossy(path);
        let name = String::from_utf8_lossy(name);
        io::Error::other(format!("`{path}{name}` is not as it was checked out"))
    };
    let known = entries.files(path);
    if folder.names()?.len() != known.len() + below {
        return Err(damaged(b""));
    }
    let mut files = Vec::with_capacity(known.len());
    for (name, entry) in known {
        let found = folder.stat(name_of(name))?;
        let found = found.ok_or_else(|| damaged(name))?;
        let checked = as_written(entry, &found).ok_or_else(|| damaged(name))?;
        let is_submodule = checked.blob.kind == EntryKind::Submodule;
        if is_submodule && !folder.look_into(name_of(name))?.names()?.is_empty() {
            return Err(damaged(name));
        }
        files.push((name.clone(), checked));
    }
    Ok(files)
}

fn name_of(name: &[u8]) -> &OsStr {
    OsStr::from_bytes(name)
}

/// A file that is as its entry says.
fn as_written(written: &IndexEntry, found: &Stat) -> Option<Checked> {
    let kind = EntryKind::from_number(i32::try_from(written.mode).ok()?)?;
    let is_kind = match kind {
        EntryKind::File => found.kind == Kind::File && found.mode & 0o100 == 0,
        EntryKind::Executable => found.kind == Kind::File && found.mode & 0o100 != 0,
        EntryKind::Symlink => found.kind == Kind::Link,
        EntryKind::Submodule => found.kind == Kind::Folder,
    };
    let now = entry(Vec::new(), Some(found.stamp));
    let same = [
        now.ctime == written.ctime,
        now.mtime == written.mtime,
        now.ino == written.ino,
        now.uid == written.uid,
        now.gid == written.gid,
        now.file_size == written.file_size,
    ];
    let is_same = kind == EntryKind::Submodule || same.into_iter().all(|it| it);
    let id = written.id;
    let stamp = Some(found.stamp);
    (is_kind && is_same).then_some(Checked {
        blob: Blob { kind, id },
        stamp,
        is_below: true,
    })
}
