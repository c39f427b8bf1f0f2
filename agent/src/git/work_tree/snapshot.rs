//! Snapshots: the tree that a work tree is now, as `git add --all` would take it.
//!
//! Where it differs from `git add --all`:
//! - Submodules stay as they were checked out, and nothing in them is looked at.
//! - A file that is as the check-out wrote it is unchanged, also where git would store it with
//!   other line ends now.
//! - New files that tools leave behind for themselves are left out, as are folders that are marked
//!   as caches (see `ignored.rs`), unless the repository's rules say otherwise; and new files that
//!   are too long for any change, such as logs, which is told.
//! - Installed files are left out, also those that were changed, which is told; new files beside
//!   them are not.
//! - What no tree can hold, what would go through a program, and what has an encoding that is not
//!   known here is a fault of whoever wrote it, and named.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt};
use std::sync::Arc;

use super::attributes::{Attributes, Said};
use super::lfs::{self, LfsContents};
use super::walk::{Found, Text, UNREADABLE, walk};
use super::{Checked, InstalledFiles, State, WorkTree, attribute_files};
use crate::disk::{Folder, Kind, Stat};
use crate::git::local::{failed, open};
use crate::git::tree::{Blob, EntryKind, tree_of};
use crate::git::write::{Update, updated};
use crate::git::{GitError, ObjectId, Repository};

const SNAPSHOT: &str = "reading the work tree";
/// Most strange things that an error names.
const NAMED: usize = 5;
/// Longest file that is taken.
const MAX_FILE: u64 = 64 << 20;

/// What a work tree is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The tree object that was written for it.
    pub tree: ObjectId,
    /// New files that are too long to be taken, and how long they are.
    pub left_out: Vec<(String, u64)>,
    /// Installed files that were changed, and are left out as well.
    pub changed_installed: Vec<String>,
}

impl Repository {
    /// The tree that the work tree is now, without what is ignored. Submodules stay as they are
    /// in the tree that was checked out.
    ///
    /// # Errors
    /// [`GitError::Unfit`] when it holds what no tree can hold; else when it can't be read.
    pub async fn snapshot(&self) -> Result<Snapshot, GitError> {
        self.snapshot_beside(InstalledFiles::default()).await
    }

    /// The same, without the files that were installed into the work tree.
    ///
    /// # Errors
    /// The same as those of [`Self::snapshot`].
    pub async fn snapshot_beside(&self, installed: InstalledFiles) -> Result<Snapshot, GitError> {
        let work_tree = self.work_tree()?.clone();
        self.local(SNAPSHOT, move |repository| {
            work_tree.with_state(|state| match state {
                Some(state) => snapshot(repository, &work_tree, (state, &installed)),
                None => Err(GitError::other(SNAPSHOT, "nothing was checked out")),
            })
        })
        .await
    }
}

fn snapshot(
    repository: &git2::Repository,
    work_tree: &WorkTree,
    (state, installed): (&State, &InstalledFiles),
) -> Result<Snapshot, GitError> {
    let at_root = |error: io::Error| super::io(&work_tree.root, &error);
    let below = work_tree.below(installed).map_err(at_root)?;
    let root = Arc::new(Folder::open(&work_tree.root).map_err(at_root)?);
    let mut found = walk((state, installed), (Arc::clone(&root), below)).map_err(at_root)?;
    let gone = std::mem::take(&mut found.gone);
    let mut updates: Vec<Update<'_>> = gone.iter().map(|path| (path.as_slice(), None)).collect();
    let touched = std::mem::take(&mut found.touched);
    if !touched.is_empty() {
        let known = (state, &installed.lfs);
        let taken = take(repository, known, &root, (&touched, &mut found))?;
        updates.extend(taken);
    }
    refuse(&found.strange)?;
    let base = tree_of(repository, state.tree);
    let tree = base.and_then(|base| match updates.as_slice() {
        [] => Ok(base.id()),
        updates => updated(repository, &base, updates),
    });
    Ok(Snapshot {
        tree: tree.map_err(failed(SNAPSHOT))?.into(),
        left_out: found.left_out,
        changed_installed: found.changed_installed,
    })
}

/// Reads what was touched; what can't be taken is added to what is strange.
fn take<'a>(
    repository: &git2::Repository,
    (state, lfs): (&State, &LfsContents),
    root: &Folder,
    (touched, found): (&'a [(Vec<u8>, Stat)], &mut Found),
) -> Result<Vec<Update<'a>>, GitError> {
    let files = std::mem::take(&mut found.attributes).into_iter();
    let files = files.map(|(path, text)| match text {
        Text::Known(id) => Ok((path, id)),
        Text::Changed(content) => Ok((path, repository.blob(&content)?)),
    });
    let files = files.collect::<Result<Vec<_>, git2::Error>>();
    let attributes = files.and_then(|files| Attributes::new(repository, files));
    let again = open(repository.path()).map_err(failed(SNAPSHOT))?;
    let base_attributes = attribute_files(&state.files, |it| it.blob);
    let base_attributes = Attributes::new(&again, base_attributes);
    let taking = Taking {
        repository,
        state,
        lfs,
        root,
        base_attributes: &base_attributes.map_err(failed(SNAPSHOT))?,
        attributes: &attributes.map_err(failed(SNAPSHOT))?,
    };
    let mut updates = Vec::new();
    for (path, stat) in touched {
        match taking.take(path, stat)? {
            Ok(Some(blob)) => updates.push((path.as_slice(), Some(blob))),
            Ok(None) => {}
            Err(what) => found.strange.push((path.clone(), what)),
        }
    }
    Ok(updates)
}

/// Reads what was touched.
struct Taking<'a> {
    repository: &'a git2::Repository,
    state: &'a State,
    /// Contents that are known by their pointers.
    lfs: &'a LfsContents,
    root: &'a Folder,
    /// Those by which the files were checked out.
    base_attributes: &'a Attributes<'a>,
    /// Those that the work tree has now.
    attributes: &'a Attributes<'a>,
}

/// What was touched, or why it can't be taken; nothing when it is as it was checked out.
type Taken = Result<Option<Blob>, String>;

impl Taking<'_> {
    fn take(&self, path: &[u8], found: &Stat) -> Result<Taken, GitError> {
        if found.kind != Kind::Link && found.size > MAX_FILE {
            return Ok(Err(too_large(found.size)));
        }
        let content = match self.read(path, found.kind) {
            Ok(content) => content,
            Err(error) => return not_read(path, &error),
        };
        if found.kind == Kind::Link {
            let id = self.repository.blob(&content);
            let id = id.map_err(failed(SNAPSHOT))?;
            let kind = EntryKind::Symlink;
            return Ok(Ok(Some(Blob { kind, id })));
        }
        if content.len() as u64 > MAX_FILE {
            return Ok(Err(too_large(content.len() as u64)));
        }
        self.file(path, found, content)
    }

    /// The content of a file, or the target of a link.
    fn read(&self, path: &[u8], kind: Kind) -> io::Result<Vec<u8>> {
        let mut parts = path.split(|byte| *byte == b'/').map(OsStr::from_bytes);
        let name = parts.next_back().unwrap_or_default();
        let mut parent = None;
        for part in parts {
            let within = parent.as_ref().unwrap_or(self.root);
            parent = Some(within.enter(part)?);
        }
        let folder = parent.as_ref().unwrap_or(self.root);
        match kind {
            Kind::Link => folder.read_link(name).map(OsStringExt::into_vec),
            _ => folder.read(name, MAX_FILE),
        }
    }

    fn file(&self, path: &[u8], found: &Stat, content: Vec<u8>) -> Result<Taken, GitError> {
        let kind = match found.mode & 0o100 {
            0 => EntryKind::File,
            _ => EntryKind::Executable,
        };
        let said = self.attributes.of(path).map_err(failed(SNAPSHOT))?;
        let content = match said.filter.as_deref() {
            Some(lfs::FILTER) => self.lfs.folded(content),
            _ => content,
        };
        let before = self.before(path)?;
        if let Some((checked, before)) = &before {
            let id = checked.blob.id;
            let base = self.base_attributes.of(path).map_err(failed(SNAPSHOT))?;
            let written = base.conversion.into_work_tree(before, &id.to_string());
            if written == content {
                return Ok(Ok((checked.blob.kind != kind).then_some(Blob { kind, id })));
            }
        }
        if let Some(what) = unfit(&said, &content) {
            return Ok(Err(what));
        }
        let before = before.as_ref().map(|(_, before)| before.as_slice());
        let content = said.conversion.into_repository(content, before);
        let id = self.repository.blob(&content).map_err(failed(SNAPSHOT))?;
        Ok(Ok(Some(Blob { kind, id })))
    }

    /// What the checked-out tree has at a place, when that is a file.
    fn before(&self, path: &[u8]) -> Result<Option<(&Checked, Vec<u8>)>, GitError> {
        let checked = self.state.files.get(path);
        let is_file =
            |it: &&Checked| matches!(it.blob.kind, EntryKind::File | EntryKind::Executable);
        let Some(checked) = checked.filter(is_file) else {
            return Ok(None);
        };
        let blob = self.repository.find_blob(checked.blob.id);
        let blob = blob.map_err(failed(SNAPSHOT))?;
        Ok(Some((checked, blob.content().to_vec())))
    }
}

/// Of a file that can't be read: what is wrong with it, or with the host.
fn not_read(path: &[u8], error: &io::Error) -> Result<Taken, GitError> {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return Ok(Err(UNREADABLE.to_owned()));
    }
    let path = String::from_utf8_lossy(path);
    Err(GitError::host(SNAPSHOT, format!("`{path}`: {error}")))
}

/// Why a changed file can't be stored as its attributes want it.
fn unfit(said: &Said, content: &[u8]) -> Option<String> {
    if let Some(filter) = &said.filter
        && !lfs::is_pointer(content)
    {
        return Some(match filter.as_str() {
            lfs::FILTER => "belongs to Git LFS, to which nothing is uploaded from here".to_owned(),
            filter => format!("would go through the filter `{filter}`, which is not run here"),
        });
    }
    let encoding = said.encoding.as_ref()?;
    Some(format!(
        "is to be in the encoding {encoding}, which is not converted here"
    ))
}

fn too_large(size: u64) -> String {
    format!("has {size} bytes; at most {MAX_FILE} are taken")
}

/// An error that names what is strange.
fn refuse(strange: &[(Vec<u8>, String)]) -> Result<(), GitError> {
    if strange.is_empty() {
        return Ok(());
    }
    let named = strange.iter().take(NAMED);
    let named = named.map(|(path, what)| format!("`{}` {what}", String::from_utf8_lossy(path)));
    let mut reason = named.collect::<Vec<_>>().join("; ");
    if strange.len() > NAMED {
        let _ = write!(reason, "; and {} more", strange.len() - NAMED);
    }
    Err(GitError::Unfit { reason })
}

#[cfg(test)]
mod tests {
    use patchfleet_domain::FailureKind;

    use super::*;

    #[test]
    fn what_another_user_left_unreadable_is_named_and_the_drafts_fault() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let what = not_read(b"dir/a", &denied).unwrap().unwrap_err();
        let failure = refuse(&[(b"dir/a".to_vec(), what)])
            .unwrap_err()
            .into_failure();
        let expected = (FailureKind::DraftFailed, false);
        assert_eq!((failure.kind, failure.retryable), expected, "{failure:?}");
        assert!(
            failure.message.contains("`dir/a` is another user's"),
            "{failure:?}"
        );
        let broken = io::Error::from_raw_os_error(5);
        let failure = not_read(b"dir/a", &broken).unwrap_err().into_failure();
        assert_eq!(failure.kind, FailureKind::HostFault, "{failure:?}");
        assert!(failure.message.contains("`dir/a`"), "{failure:?}");
    }
}
