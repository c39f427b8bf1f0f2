//! Blobs, trees and commits, written into the object store. Neither work tree nor index is
//! touched, and content is stored as it is given.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use git2::{ErrorCode, ObjectType, Oid, RepositoryInitOptions, Signature, Tree};
use patchfleet_repository::Author;

use super::folder::{self, Extent};
use super::local::failed;
use super::tree::{Blob, EntryKind, tree_of};
use super::{Git, GitError, ObjectId, Repository, in_background};

const WRITING: &str = "writing objects";

/// A file that a new tree has otherwise than its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Path below the root of the tree, with `/` between its parts.
    pub path: String,
    /// The content; `None` takes the file away.
    pub content: Option<Vec<u8>>,
    /// What it is to be.
    pub kind: EntryKind,
}

/// A place of a tree and what it becomes; `None` takes the file away.
pub(super) type Update<'a> = (&'a [u8], Option<Blob>);

/// Without what the format of commits can't hold, as git leaves it out.
fn signature(author: &Author) -> Result<Signature<'static>, GitError> {
    let clean = |text: &str| text.replace(['<', '>', '\n', '\0'], "");
    Signature::now(&clean(&author.name), &clean(&author.email)).map_err(failed(WRITING))
}

impl Git {
    /// Makes an empty bare repository.
    ///
    /// # Errors
    /// When the folder can't be written.
    pub async fn init_bare(&self, dir: &std::path::Path) -> Result<Repository, GitError> {
        let place = dir.to_owned();
        let made = in_background(WRITING, move || {
            let mut options = RepositoryInitOptions::new();
            options.bare(true).external_template(false);
            options.initial_head("main");
            let made = git2::Repository::init_opts(&place, &options);
            made.map(drop).map_err(std::io::Error::other)?;
            folder::restore(&place, Extent::Whole)
        });
        made.await?;
        Ok(self.repository(dir))
    }
}

impl Repository {
    /// Writes the tree that a base becomes by changes.
    ///
    /// # Errors
    /// When an object can't be written.
    pub async fn write_tree(
        &self,
        base: &ObjectId,
        changes: &[Change],
    ) -> Result<ObjectId, GitError> {
        let (base, changes) = (base.clone(), changes.to_vec());
        self.local(WRITING, move |repository| {
            let mut updates = Vec::with_capacity(changes.len());
            for change in &changes {
                let blob = match &change.content {
                    None => None,
                    Some(content) => Some(Blob {
                        kind: change.kind,
                        id: repository.blob(content).map_err(failed(WRITING))?,
                    }),
                };
                updates.push((change.path.as_bytes(), blob));
            }
            let base = tree_of(repository, base.to_oid()?).map_err(failed(WRITING))?;
            let tree = updated(repository, &base, &updates).map_err(failed(WRITING))?;
            Ok(tree.into())
        })
        .await
    }

    /// Writes the tree that a base becomes by what another tree has otherwise at the wanted paths. All
    /// other differences between the two are left out.
    ///
    /// # Errors
    /// When a tree can't be read, or an object can't be written.
    pub(crate) async fn write_tree_of_paths(
        &self,
        (base, other): (&ObjectId, &ObjectId),
        is_wanted: impl Fn(&str) -> bool + Send + 'static,
    ) -> Result<ObjectId, GitError> {
        let (base, other) = (base.clone(), other.clone());
        self.local(WRITING, move |repository| {
            let tree = |id: &ObjectId| tree_of(repository, id.to_oid()?).map_err(failed(WRITING));
            let (base, other) = (tree(&base)?, tree(&other)?);
            let diff = repository.diff_tree_to_tree(Some(&base), Some(&other), None);
            let diff = diff.map_err(failed(WRITING))?;
            let mut paths = BTreeSet::new();
            for delta in diff.deltas() {
                // The path of a deleted file is on this side as well.
                let path = delta.new_file().path_bytes().unwrap_or_default();
                if is_wanted(&String::from_utf8_lossy(path)) {
                    paths.insert(path.to_vec());
                }
            }
            let mut updates = Vec::with_capacity(paths.len());
            for path in &paths {
                let blob = blob_at(&other, path).map_err(failed(WRITING))?;
                updates.push((path.as_slice(), blob));
            }
            let tree = updated(repository, &base, &updates).map_err(failed(WRITING))?;
            Ok(tree.into())
        })
        .await
    }

    /// Commits a tree on a parent. No branch moves.
    ///
    /// # Errors
    /// When the commit can't be written.
    pub async fn commit_tree(
        &self,
        tree: &ObjectId,
        parent: &ObjectId,
        message: &str,
        author: &Author,
    ) -> Result<ObjectId, GitError> {
        let (tree, parent) = (tree.clone(), parent.clone());
        let (mut message, author) = (message.to_owned(), author.clone());
        self.local(WRITING, move |repository| {
            if !message.ends_with('\n') {
                message.push('\n');
            }
            let signature = signature(&author)?;
            let tree = repository
                .find_tree(tree.to_oid()?)
                .map_err(failed(WRITING))?;
            let parent = repository.find_commit(parent.to_oid()?);
            let parent = parent.map_err(failed(WRITING))?;
            let commit =
                repository.commit(None, &signature, &signature, &message, &tree, &[&parent]);
            commit.map(Into::into).map_err(failed(WRITING))
        })
        .await
    }

    /// Has this repository, which is empty, use another's objects in place.
    ///
    /// # Errors
    /// When a file can't be written.
    pub async fn borrow_from(&self, objects: &Self) -> std::io::Result<()> {
        let info = self.dir.join("objects/info");
        tokio::fs::create_dir_all(&info).await?;
        let line = format!("{}\n", objects.dir.join("objects").display());
        tokio::fs::write(info.join("alternates"), line).await
    }
}

/// The file that a tree has at a path, if there is one.
fn blob_at(tree: &Tree<'_>, path: &[u8]) -> Result<Option<Blob>, git2::Error> {
    match tree.get_path(Path::new(OsStr::from_bytes(path))) {
        Ok(entry) => {
            let kind = EntryKind::from_number(entry.filemode());
            let id = entry.id();
            Ok(kind.map(|kind| Blob { kind, id }))
        }
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes the tree that a base becomes by updates; only folders on the way to one are read.
pub(super) fn updated(
    repository: &git2::Repository,
    base: &Tree<'_>,
    updates: &[Update<'_>],
) -> Result<Oid, git2::Error> {
    match updated_folder(repository, Some(base), updates)? {
        Some(tree) => Ok(tree),
        None => repository.treebuilder(None)?.write(),
    }
}

/// The same for a folder; `None` when nothing is left in it.
fn updated_folder(
    repository: &git2::Repository,
    base: Option<&Tree<'_>>,
    updates: &[Update<'_>],
) -> Result<Option<Oid>, git2::Error> {
    let mut builder = repository.treebuilder(base)?;
    let mut folders = BTreeMap::<&[u8], Vec<Update<'_>>>::new();
    let mut added = Vec::new();
    // Removals first: a file may make room for a folder.
    for (path, blob) in updates {
        match (path.iter().position(|byte| *byte == b'/'), blob) {
            (Some(end), _) => {
                let below = folders.entry(&path[..end]).or_default();
                below.push((&path[end + 1..], *blob));
            }
            (None, Some(blob)) => added.push((path, blob)),
            (None, None) => {
                let found = builder.get(*path)?.and_then(|entry| entry.kind());
                if found.is_some_and(|kind| kind != ObjectType::Tree) {
                    builder.remove(*path)?;
                }
            }
        }
    }
    for (name, below) in folders {
        let found = builder.get(name)?;
        let is_there = found.is_some();
        let is_folder = |entry: &git2::TreeEntry<'_>| entry.kind() == Some(ObjectType::Tree);
        let found = found.filter(is_folder).map(|entry| entry.id());
        let found = found.map(|id| repository.find_tree(id)).transpose()?;
        match updated_folder(repository, found.as_ref(), &below)? {
            Some(tree) => drop(builder.insert(name, tree, 0o040_000)?),
            None if is_there && found.is_some() => builder.remove(name)?,
            None => {}
        }
    }
    for (name, blob) in added {
        builder.insert(*name, blob.id, blob.kind.number())?;
    }
    if builder.is_empty() {
        return Ok(None);
    }
    builder.write().map(Some)
}
