//! Git LFS: large contents lie on another server, and the repository has pointers to them.
//!
//! Git itself knows nothing of it. A check-out writes pointers as they are; where contents were
//! fetched, they are put in the place of their pointers after it, and a snapshot takes a content
//! that it knows for its pointer again. A content that is not known can't become a part of a
//! change, since nobody uploads it.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};

use super::attribute_files;
use super::attributes::Attributes;
use super::folders::Folders;
use crate::disk::{Stamp, Stat};
use crate::git::local::failed;
use crate::git::tree::{EntryKind, files};
use crate::git::{GitError, ObjectId, Repository};

const LISTING: &str = "listing files of Git LFS";
/// The value of the attribute `filter`.
pub(super) const FILTER: &str = "lfs";
/// How a pointer begins.
const VERSION: &str = "version https://git-lfs.github.com/spec/";
/// Pointers are shorter than this.
pub(crate) const LONGEST: u64 = 1024;

/// A pointer to a content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pointer {
    /// The SHA-256 of the content, in hexadecimal digits.
    pub oid: String,
    /// Its length.
    pub size: u64,
}

/// A file of a tree whose content Git LFS has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LfsFile {
    /// Where.
    pub path: PathBuf,
    /// It may be executed.
    pub is_executable: bool,
    /// What it names.
    pub pointer: Pointer,
    /// The pointer as the repository has it.
    pub text: Vec<u8>,
}

/// Contents that stand in the place of their pointers in a work tree; none by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct LfsContents {
    /// The texts of pointers, by the SHA-256 of their contents.
    pub(crate) pointers: Arc<BTreeMap<String, Vec<u8>>>,
    /// Where one was put, and how the file was then.
    pub(crate) put: BTreeMap<PathBuf, Stamp>,
}

impl Pointer {
    /// Reads a pointer; nothing for any other content.
    pub fn parse(content: &[u8]) -> Option<Self> {
        if content.len() as u64 >= LONGEST || !is_pointer(content) {
            return None;
        }
        let text = std::str::from_utf8(content).ok()?;
        let value = |key: &str| {
            let mut lines = text.lines().filter_map(|line| line.split_once(' '));
            Some(lines.find(|(name, _)| *name == key)?.1)
        };
        let oid = value("oid")?.strip_prefix("sha256:")?;
        let is_hash = oid.len() == 64
            && oid
                .bytes()
                .all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'));
        is_hash.then_some(Self {
            oid: oid.to_owned(),
            size: value("size")?.parse().ok()?,
        })
    }
}

/// True for what looks like a pointer, whatever it names.
pub(super) fn is_pointer(content: &[u8]) -> bool {
    content.starts_with(VERSION.as_bytes()) && (content.len() as u64) < LONGEST
}

impl LfsContents {
    /// True for a content that nobody touched since it was put there.
    pub(super) fn is_untouched(&self, path: &[u8], found: &Stat) -> bool {
        let put = self.put.get(Path::new(OsStr::from_bytes(path)));
        put.is_some_and(|stamp| *stamp == found.stamp)
    }

    /// The pointer of a content that is known; else the content.
    pub(super) fn folded(&self, content: Vec<u8>) -> Vec<u8> {
        if self.pointers.is_empty() || is_pointer(&content) {
            return content;
        }
        let oid = hex::encode(Sha256::digest(&content));
        self.pointers.get(&oid).cloned().unwrap_or(content)
    }
}

impl Repository {
    /// The files of a tree or commit whose contents Git LFS has.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn lfs_files(&self, tree: &ObjectId) -> Result<Vec<LfsFile>, GitError> {
        let tree = tree.clone();
        self.local(LISTING, move |repository| {
            lfs_files(repository, tree.to_oid()?)
        })
        .await
    }

    /// The same of the tree that was checked out last.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn lfs_files_here(&self) -> Result<Vec<LfsFile>, GitError> {
        let work_tree = self.work_tree()?;
        let tree = work_tree.with_state(|state| state.as_ref().map(|state| state.tree));
        match tree {
            Some(tree) => self.lfs_files(&tree.into()).await,
            None => Ok(Vec::new()),
        }
    }
}

fn lfs_files(repository: &git2::Repository, tree: git2::Oid) -> Result<Vec<LfsFile>, GitError> {
    let all = files(repository, tree)?;
    let attributes = attribute_files(&Folders::new(all.clone()), |blob| *blob);
    if attributes.is_empty() {
        return Ok(Vec::new());
    }
    let attributes = Attributes::new(repository, attributes).map_err(failed(LISTING))?;
    let odb = repository.odb().map_err(failed(LISTING))?;
    let mut found = Vec::new();
    for (path, blob) in all {
        let is_file = matches!(blob.kind, EntryKind::File | EntryKind::Executable);
        if !is_file {
            continue;
        }
        let said = attributes.of(&path).map_err(failed(LISTING))?;
        if said.filter.as_deref() != Some(FILTER) {
            continue;
        }
        let (size, _) = odb.read_header(blob.id).map_err(failed(LISTING))?;
        if size as u64 >= LONGEST {
            continue;
        }
        let text = odb.read(blob.id).map_err(failed(LISTING))?.data().to_vec();
        if let Some(pointer) = Pointer::parse(&text) {
            found.push(LfsFile {
                path: OsStr::from_bytes(&path).into(),
                is_executable: blob.kind == EntryKind::Executable,
                pointer,
                text,
            });
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pointer_is_what_git_lfs_writes_and_nothing_else() {
        let oid = "4d7a214614ab2935c943f9e0ff69d22eadbb8f32b1258daaa5e2ca24d17e2393";
        let text =
            format!("version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize 12345\n");
        let pointer = Pointer::parse(text.as_bytes()).unwrap();
        assert_eq!((pointer.oid.as_str(), pointer.size), (oid, 12345));
        for other in [
            text.replace("version", "Version"),
            text.replace("sha256:4", "sha256:../4"),
            text.replace(oid, &oid[1..]),
            text.replace(oid, &oid.to_uppercase()),
            text.replace("12345", "-1"),
            text.replace("size 12345\n", ""),
            format!("{text}{}", "x".repeat(1024)),
            String::new(),
        ] {
            assert_eq!(Pointer::parse(other.as_bytes()), None, "{other}");
        }
    }
}
