//! Snapshots: the tree that a work tree is now, as `git add --all` would take it.
//!
//! Where it differs from `git add --all`:
//! - Submodules stay as they were checked out, and nothing in them is looked at.
//! - A file that is as the check-out wrote it is unchanged, also where git would store it with
//!   other line ends now.
//! - New files that tools leave behind for themselves are left out, as are folders that are marked
//!   as caches (see `ignored.rs`), unless the repository's rules say otherwise; and new files that
//!   are too long for any change, such as logs, which is told.
//! - What no tree can hold, what would go through a program, and what has an encoding that is not
//!   known here is a fault of whoever wrote it, and named.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io;
use std::os::unix::ffi::OsStrExt as _;

use super::attributes::{self, Attributes, Said};
use super::ignored::{self, Rules};
use super::names::is_git_name;
use super::{Checked, State, WorkTree, attribute_files, has_below};
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
/// Longest new file that is taken; no draft may be so long.
const MAX_NEW_FILE: u64 = 8 << 20;
/// Longest file with rules or attributes that is read.
const MAX_RULES: u64 = 1 << 20;
/// How deep folders are looked into.
const MAX_DEPTH: usize = 200;

const GIT_FOLDER: &str = "is a git repository of its own, or named like one";
const SPECIAL: &str = "is neither a file nor a folder nor a link";
const TOO_DEEP: &str = "lies too deep";

/// What a work tree is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The tree object that was written for it.
    pub tree: ObjectId,
    /// New files that are too long to be taken, and how long they are.
    pub left_out: Vec<(String, u64)>,
}

impl Repository {
    /// The tree that the work tree is now, without what is ignored. Submodules stay as they are
    /// in the tree that was checked out.
    ///
    /// # Errors
    /// [`GitError::Unfit`] when it holds what no tree can hold; else when it can't be read.
    pub async fn snapshot(&self) -> Result<Snapshot, GitError> {
        let work_tree = self.work_tree()?.clone();
        self.local(SNAPSHOT, move |repository| {
            work_tree.with_state(|state| match state {
                Some(state) => snapshot(repository, &work_tree, state),
                None => Err(GitError::other(SNAPSHOT, "nothing was checked out")),
            })
        })
        .await
    }
}

fn snapshot(
    repository: &git2::Repository,
    work_tree: &WorkTree,
    state: &State,
) -> Result<Snapshot, GitError> {
    let at_root = |error: io::Error| super::io(&work_tree.root, &error);
    let root = Folder::open(&work_tree.root).map_err(at_root)?;
    let mut walk = Walk::new(state);
    walk.folder(&root, &[], (false, 0)).map_err(at_root)?;
    let mut strange = std::mem::take(&mut walk.strange);
    let files = std::mem::take(&mut walk.attributes);
    let files = files.into_iter().map(|(path, content)| {
        let id = repository.blob(&content)?;
        Ok((path, id))
    });
    let files = files.collect::<Result<Vec<_>, git2::Error>>();
    let attributes = files.and_then(|files| Attributes::new(repository, files));
    let again = open(repository.path()).map_err(failed(SNAPSHOT))?;
    let blobs = state.files.iter().map(|(path, it)| (path, &it.blob));
    let base_attributes = Attributes::new(&again, attribute_files(blobs));
    let taking = Taking {
        repository,
        state,
        root: &root,
        base_attributes: &base_attributes.map_err(failed(SNAPSHOT))?,
        attributes: &attributes.map_err(failed(SNAPSHOT))?,
    };
    let mut updates: Vec<Update<'_>> = walk.gone().map(|path| (path, None)).collect();
    for (path, found) in &walk.touched {
        match taking.take(path, found)? {
            Ok(Some(blob)) => updates.push((path, Some(blob))),
            Ok(None) => {}
            Err(what) => strange.push((path.clone(), what)),
        }
    }
    refuse(&strange)?;
    let base = tree_of(repository, state.tree).map_err(failed(SNAPSHOT))?;
    let tree = updated(repository, &base, &updates).map_err(failed(SNAPSHOT))?;
    Ok(Snapshot {
        tree: tree.into(),
        left_out: walk.left_out,
    })
}

/// The walk through a work tree, which reads no content.
struct Walk<'a> {
    state: &'a State,
    rules: Rules,
    /// Files of the checked-out tree that are still there, as whatever.
    seen: BTreeSet<&'a [u8]>,
    /// What may differ from the checked-out tree.
    touched: Vec<(Vec<u8>, Stat)>,
    attributes: Vec<(Vec<u8>, Vec<u8>)>,
    /// What no tree can hold, and why.
    strange: Vec<(Vec<u8>, String)>,
    left_out: Vec<(String, u64)>,
}

impl<'a> Walk<'a> {
    fn new(state: &'a State) -> Self {
        Self {
            state,
            rules: Rules::new(),
            seen: BTreeSet::new(),
            touched: Vec::new(),
            attributes: Vec::new(),
            strange: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// Goes through a folder; in one that is ignored, only what the tree has is looked at.
    fn folder(
        &mut self,
        folder: &Folder,
        prefix: &[u8],
        (is_ignored, depth): (bool, usize),
    ) -> io::Result<()> {
        let names = folder.names()?;
        let text = rules_file(folder, &names, ignored::FILE)?;
        let outer = self.rules.enter(prefix, text.as_deref());
        if let Some(text) = rules_file(folder, &names, ".gitattributes")? {
            let path = [prefix, attributes::FILE].concat();
            self.attributes.push((path, text));
        }
        for name in names {
            let Some(found) = folder.stat(&name)? else {
                continue;
            };
            if prefix.is_empty() && name == ".git" {
                // The clone's own, which is made anew by each check-out.
                continue;
            }
            let path = [prefix, name.as_bytes()].concat();
            match found.kind {
                Kind::Folder => self.subfolder(folder, path, (is_ignored, depth))?,
                _ => self.file(path, found, is_ignored),
            }
        }
        self.rules.leave(outer);
        Ok(())
    }

    fn subfolder(
        &mut self,
        parent: &Folder,
        path: Vec<u8>,
        (is_ignored, depth): (bool, usize),
    ) -> io::Result<()> {
        let known = self.state.files.get_key_value(&path);
        if let Some((key, _)) = known.filter(|(_, it)| it.blob.kind == EntryKind::Submodule) {
            self.seen.insert(key);
            return Ok(());
        }
        let name = OsStr::from_bytes(path.rsplit(|byte| *byte == b'/').next().unwrap_or(&path));
        let below = [path.as_slice(), b"/"].concat();
        let has_tracked = has_below(&self.state.files, &below);
        let is_ignored = is_ignored || self.rules.ignore(&path, true);
        if is_ignored && !has_tracked {
            return Ok(());
        }
        if is_git_name(name) {
            self.strange.push((path, GIT_FOLDER.to_owned()));
            return Ok(());
        }
        if depth == MAX_DEPTH {
            self.strange.push((path, TOO_DEEP.to_owned()));
            return Ok(());
        }
        let folder = parent.enter(name)?;
        if !has_tracked && is_cache(&folder)? {
            return Ok(());
        }
        self.folder(&folder, &below, (is_ignored, depth + 1))
    }

    fn file(&mut self, path: Vec<u8>, found: Stat, is_ignored: bool) {
        let known = self.state.files.get_key_value(&path);
        let is_new = known.is_none();
        if let Some((key, checked)) = known {
            self.seen.insert(key);
            if checked.stamp == Some(found.stamp) {
                return;
            }
        } else if is_ignored || self.rules.ignore(&path, false) {
            return;
        }
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(&path);
        if is_git_name(OsStr::from_bytes(name)) {
            self.strange.push((path, GIT_FOLDER.to_owned()));
        } else if found.kind == Kind::Special {
            self.strange.push((path, SPECIAL.to_owned()));
        } else if is_new && found.size > MAX_NEW_FILE {
            let path = String::from_utf8_lossy(&path).into_owned();
            self.left_out.push((path, found.size));
        } else {
            self.touched.push((path, found));
        }
    }

    /// Files of the tree that are there no more. A submodule is only gone where something else is
    /// in its place.
    fn gone(&self) -> impl Iterator<Item = &'a [u8]> {
        let all = self.state.files.iter();
        let gone = all.filter(|(path, checked)| {
            checked.blob.kind != EntryKind::Submodule && !self.seen.contains(path.as_slice())
        });
        gone.map(|(path, _)| path.as_slice())
    }
}

/// Reads what was touched.
struct Taking<'a> {
    repository: &'a git2::Repository,
    state: &'a State,
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
        let failed_at = |error: io::Error| {
            let path = String::from_utf8_lossy(path);
            GitError::host(SNAPSHOT, format!("`{path}`: {error}"))
        };
        let mut parts = path.split(|byte| *byte == b'/').map(OsStr::from_bytes);
        let name = parts.next_back().unwrap_or_default();
        let mut parent = None;
        for part in parts {
            let within = parent.as_ref().unwrap_or(self.root);
            parent = Some(within.enter(part).map_err(failed_at)?);
        }
        let folder = parent.as_ref().unwrap_or(self.root);
        if found.kind == Kind::Link {
            let target = folder.read_link(name).map_err(failed_at)?;
            let id = self.repository.blob(target.as_bytes());
            let id = id.map_err(failed(SNAPSHOT))?;
            let kind = EntryKind::Symlink;
            return Ok(Ok(Some(Blob { kind, id })));
        }
        if found.size > MAX_FILE {
            return Ok(Err(too_large(found.size)));
        }
        let content = folder.read(name, MAX_FILE).map_err(failed_at)?;
        if content.len() as u64 > MAX_FILE {
            return Ok(Err(too_large(content.len() as u64)));
        }
        self.file(path, found, content)
    }

    fn file(&self, path: &[u8], found: &Stat, content: Vec<u8>) -> Result<Taken, GitError> {
        let kind = match found.mode & 0o100 {
            0 => EntryKind::File,
            _ => EntryKind::Executable,
        };
        let before = self.before(path)?;
        if let Some((checked, before)) = &before {
            let id = checked.blob.id;
            let said = self.base_attributes.of(path).map_err(failed(SNAPSHOT))?;
            let written = said.conversion.into_work_tree(before, &id.to_string());
            if written == content {
                return Ok(Ok((checked.blob.kind != kind).then_some(Blob { kind, id })));
            }
        }
        let said = self.attributes.of(path).map_err(failed(SNAPSHOT))?;
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

/// Why a changed file can't be stored as its attributes want it.
fn unfit(said: &Said, content: &[u8]) -> Option<String> {
    const POINTER: &[u8] = b"version https://git-lfs.github.com/spec/";
    if let Some(filter) = &said.filter
        && !(content.starts_with(POINTER) && content.len() < 1024)
    {
        return Some(match filter.as_str() {
            "lfs" => "belongs to Git LFS, which is not run here".to_owned(),
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

/// The content of a folder's file with rules, when that is a plain file.
fn rules_file(
    folder: &Folder,
    names: &[std::ffi::OsString],
    name: &str,
) -> io::Result<Option<Vec<u8>>> {
    let name = OsStr::new(name);
    if !names.iter().any(|it| it == name) {
        return Ok(None);
    }
    match folder.stat(name)? {
        Some(found) if found.kind == Kind::File => folder.read(name, MAX_RULES).map(Some),
        _ => Ok(None),
    }
}

fn is_cache(folder: &Folder) -> io::Result<bool> {
    let tag = OsStr::new(ignored::CACHE_TAG);
    match folder.stat(tag)? {
        Some(found) if found.kind == Kind::File => {
            Ok(ignored::is_cache_tag(&folder.read(tag, 64)?))
        }
        _ => Ok(false),
    }
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
