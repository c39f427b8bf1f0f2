//! Revisions, trees and blobs, read from the object store.

use git2::{ErrorCode, ObjectType, Oid};

use super::error::shown;
use super::local::failed;
use super::{GitError, OUTPUT_CAP, ObjectId, Repository};

const LISTING: &str = "listing a tree";
/// How deep folders may lie in one another. Work trees are looked into as deep as that.
pub(crate) const MAX_DEPTH: usize = 200;
/// Longest path, in bytes: Linux takes no longer one in a call.
const MAX_PATH: usize = 4000;
/// Longest name of a file or folder, in bytes.
const MAX_NAME: usize = 255;

/// What an entry of a tree is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A file.
    File,
    /// A file that may be executed.
    Executable,
    /// A symbolic link.
    Symlink,
    /// Another repository's commit.
    Submodule,
}

impl EntryKind {
    /// From git's mode.
    pub fn from_mode(mode: &str) -> Option<Self> {
        match mode {
            "100644" | "100664" => Some(Self::File),
            "100755" => Some(Self::Executable),
            "120000" => Some(Self::Symlink),
            "160000" => Some(Self::Submodule),
            _ => None,
        }
    }

    /// Git's mode.
    pub const fn mode(self) -> &'static str {
        match self {
            Self::File => "100644",
            Self::Executable => "100755",
            Self::Symlink => "120000",
            Self::Submodule => "160000",
        }
    }

    /// Git's mode as a number.
    pub(super) const fn number(self) -> i32 {
        match self {
            Self::File => 0o100_644,
            Self::Executable => 0o100_755,
            Self::Symlink => 0o120_000,
            Self::Submodule => 0o160_000,
        }
    }

    /// From the mode in a tree, however old the git that wrote it.
    pub(super) fn from_number(mode: i32) -> Option<Self> {
        match (mode & 0o170_000, mode & 0o100) {
            (0o100_000, 0) => Some(Self::File),
            (0o100_000, _) => Some(Self::Executable),
            (0o120_000, _) => Some(Self::Symlink),
            (0o160_000, _) => Some(Self::Submodule),
            _ => None,
        }
    }
}

/// A file of a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where, with `/`; names that are not UTF-8 are changed so that they are.
    pub path: String,
    /// What.
    pub kind: EntryKind,
    /// Its content.
    pub id: ObjectId,
    /// Its length; 0 for a submodule.
    pub size: u64,
}

/// A file of a tree, for use within this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Blob {
    pub(super) kind: EntryKind,
    pub(super) id: Oid,
}

impl Repository {
    /// The object that a revision names; `None` when there is none.
    ///
    /// # Errors
    /// When the repository can't be read.
    pub async fn resolve(&self, revision: &str) -> Result<Option<ObjectId>, GitError> {
        let revision = revision.to_owned();
        self.local("resolving a revision", move |repository| {
            match repository.revparse_single(&revision) {
                Ok(object) => Ok(Some(object.id().into())),
                Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
                Err(error) => Err(GitError::library("resolving a revision", &error)),
            }
        })
        .await
    }

    /// True when the commit and its tree can be read.
    ///
    /// # Errors
    /// When the repository can't be read.
    pub async fn has_commit(&self, commit: &ObjectId) -> Result<bool, GitError> {
        let what = "looking for a commit";
        let commit = commit.clone();
        self.local(what, move |repository| {
            let commit = commit.to_oid();
            let found = commit.and_then(|id| {
                let commit = repository.find_commit(id).map_err(failed(what))?;
                commit.tree().map_err(failed(what))
            });
            match found {
                Ok(_) => Ok(true),
                Err(GitError::Other { .. }) => Ok(false),
                Err(error) => Err(error),
            }
        })
        .await
    }

    /// Every file of a tree or commit.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn entries(&self, tree: &ObjectId) -> Result<Vec<Entry>, GitError> {
        let what = LISTING;
        let tree = tree.clone();
        self.local(what, move |repository| {
            let odb = repository.odb().map_err(failed(what))?;
            let mut entries = Vec::new();
            for (path, blob) in files(repository, tree.to_oid()?)? {
                let size = match blob.kind {
                    EntryKind::Submodule => 0,
                    _ => odb.read_header(blob.id).map_err(failed(what))?.0,
                };
                entries.push(Entry {
                    path: String::from_utf8_lossy(&path).into_owned(),
                    kind: blob.kind,
                    id: blob.id.into(),
                    size: size as u64,
                });
            }
            Ok(entries)
        })
        .await
    }

    /// The contents of blobs, in the order asked for. More than a process can be trusted with is
    /// refused before it is read.
    ///
    /// # Errors
    /// When one can't be read.
    pub async fn blobs(&self, ids: &[ObjectId]) -> Result<Vec<Vec<u8>>, GitError> {
        let what = "reading blobs";
        let ids = ids.to_vec();
        self.local(what, move |repository| {
            let odb = repository.odb().map_err(failed(what))?;
            let ids = ids
                .iter()
                .map(ObjectId::to_oid)
                .collect::<Result<Vec<_>, _>>()?;
            let mut total = 0;
            for id in &ids {
                let (size, kind) = odb.read_header(*id).map_err(failed(what))?;
                total += size;
                if kind != ObjectType::Blob || total > OUTPUT_CAP {
                    let reason = match kind {
                        ObjectType::Blob => format!("they have more than {OUTPUT_CAP} bytes"),
                        _ => format!("{id} is none"),
                    };
                    return Err(GitError::other(what, reason));
                }
            }
            let contents = ids.into_iter().map(|id| {
                let object = odb.read(id).map_err(failed(what))?;
                Ok(object.data().to_vec())
            });
            contents.collect()
        })
        .await
    }
}

/// Every file of a tree or commit, in git's order.
pub(super) fn files(
    repository: &git2::Repository,
    id: Oid,
) -> Result<Vec<(Vec<u8>, Blob)>, GitError> {
    let mut files = Vec::new();
    let tree = tree_of(repository, id).map_err(failed(LISTING))?;
    add_files(repository, &tree, (&[], 0), &mut files)?;
    Ok(files)
}

/// Why a path can't be one of a work tree.
fn unusable(path: &[u8], name: &[u8], depth: usize) -> Option<&'static str> {
    if depth > MAX_DEPTH {
        Some("lies too deep")
    } else if name.len() > MAX_NAME {
        Some("has a name of more than 255 bytes")
    } else if path.len() > MAX_PATH {
        Some("has a path of more than 4000 bytes")
    } else if name.contains(&0) {
        Some("has a name with a zero byte")
    } else {
        None
    }
}

fn add_files(
    repository: &git2::Repository,
    tree: &git2::Tree<'_>,
    (prefix, depth): (&[u8], usize),
    files: &mut Vec<(Vec<u8>, Blob)>,
) -> Result<(), GitError> {
    for entry in tree {
        let path = [prefix, entry.name_bytes()].concat();
        let id = entry.id();
        if let Some(why) = unusable(&path, entry.name_bytes(), depth) {
            let reason = format!("`{}` {why}", shown(&path));
            return Err(GitError::Unusable { reason });
        }
        if entry.kind() == Some(ObjectType::Tree) {
            let below = repository.find_tree(id).map_err(failed(LISTING))?;
            add_files(
                repository,
                &below,
                (&[&path, b"/".as_slice()].concat(), depth + 1),
                files,
            )?;
            continue;
        }
        let Some(kind) = EntryKind::from_number(entry.filemode_raw()) else {
            let reason = format!("`{}` is of no known kind", shown(&path));
            return Err(GitError::Unusable { reason });
        };
        files.push((path, Blob { kind, id }));
    }
    Ok(())
}

/// A tree by its name or by that of a commit.
pub(super) fn tree_of(
    repository: &git2::Repository,
    id: Oid,
) -> Result<git2::Tree<'_>, git2::Error> {
    repository.find_object(id, None)?.peel_to_tree()
}
