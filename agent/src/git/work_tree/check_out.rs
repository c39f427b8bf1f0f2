//! Check-outs: the work tree becomes exactly a tree, whatever was left there.
//!
//! Folders are gone through by as many threads as there are processors. In each, what does not
//! belong there is taken away, what is known to be as it should be stays, and the rest is written.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use nix::unistd::geteuid;
use tokio_util::sync::CancellationToken;

use super::attributes::Attributes;
use super::folders::{Folders, find};
use super::names::is_git_name;
use super::{Checked, Place, State, WorkTree, attribute_files};
use crate::disk::{Folder, Kind, Owner, Queue, Stamp, Stat, is_absent, remove_all, spread};
use crate::git::error::shown;
use crate::git::local::{failed, open};
use crate::git::tree::{Blob, EntryKind, files};
use crate::git::{GitError, ObjectId, Repository};

pub(super) const CHECKING_OUT: &str = "checking out";
/// How coarse the clock of a file system may be, in nanoseconds.
const TICK: i64 = 10_000_000;
/// The attribute that only git itself knows how to follow.
const ENCODING: &[u8] = b"working-tree-encoding";

impl Repository {
    /// Makes the work tree exactly this tree, whatever was left there: nothing else stays in it,
    /// neither ignored files nor repositories.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn check_out(&self, tree: &ObjectId) -> Result<(), GitError> {
        let (work_tree, id) = (self.work_tree()?.clone(), tree.clone());
        if let Some(template) = work_tree.template.clone() {
            let laid = move |repository: &_| work_tree.lay(repository, id.to_oid()?, &template);
            return self.local(CHECKING_OUT, laid).await;
        }
        let is_fresh = work_tree.with_state(|state| state.is_none());
        let is_by_git = is_fresh && self.has_encodings(tree).await?;
        if is_fresh {
            let (root, lock) = (work_tree.root.clone(), self.dir().join("index.lock"));
            let emptied = self.local(CHECKING_OUT, move |_| {
                let emptied = remove_all(&lock).and_then(|()| emptied(&root));
                emptied.map_err(|error| super::io(&root, &error))
            });
            emptied.await?;
        }
        if is_by_git {
            // Nobody but us was in there yet.
            let args = ["-c", "checkout.workers=0", "read-tree", "--reset", "-u"];
            let args = args.into_iter().chain([tree.as_str()]);
            self.git.run(self.call(args)).await?;
        }
        let cancel = self.git.cancel.clone();
        self.local(CHECKING_OUT, move |repository| {
            work_tree.check_out(repository, id.to_oid()?, (is_by_git, &cancel))
        })
        .await
    }

    /// True when files of a tree are to be in an encoding of their own.
    async fn has_encodings(&self, tree: &ObjectId) -> Result<bool, GitError> {
        let tree = tree.clone();
        self.local(CHECKING_OUT, move |repository| {
            let files = Folders::new(files(repository, tree.to_oid()?)?);
            for (_, id) in attribute_files(&files, |blob| *blob) {
                let blob = repository.find_blob(id).map_err(failed(CHECKING_OUT))?;
                let mut words = blob.content().windows(ENCODING.len());
                if words.any(|word| word == ENCODING) {
                    return Ok(true);
                }
            }
            Ok(false)
        })
        .await
    }
}

impl WorkTree {
    fn check_out(
        &self,
        repository: &git2::Repository,
        tree: git2::Oid,
        (is_by_git, cancel): (bool, &CancellationToken),
    ) -> Result<(), GitError> {
        let target = Folders::new(files(repository, tree)?);
        // While this fails, nothing is known of the work tree.
        let before = self.with_state(Option::take);
        let before = before.map(|state| state.files).unwrap_or_default();
        let at_root = |error: io::Error| super::io(&self.root, &error);
        let root = Arc::new(folder(&self.root).map_err(at_root)?);
        // What root writes belongs to whom the work tree belongs to, before it is looked at: a
        // file that is handed over later is a changed one.
        let owner = root.owner().map_err(at_root)?;
        let owner = (geteuid().is_root() && owner.uid != 0).then_some(owner);
        let pass = Pass {
            target: &target,
            before: &before,
            is_by_git,
            dir: repository.path(),
            owner,
            cancel,
        };
        let done = spread(Place::root(root), |queue| pass.work(queue))?;
        let now = now(repository.path()).map_err(at_root)?;
        let mut all = Folders::default();
        for (folder, mut files) in done.into_iter().flatten() {
            for (_, checked) in files.iter_mut().filter(|_| !self.is_private) {
                checked.stamp = checked.stamp.filter(|it| is_older(it.changed, now));
            }
            all.insert(folder, files);
        }
        let files = Arc::new(all);
        self.with_state(|state| *state = Some(State { tree, files }));
        Ok(())
    }
}

/// Files of one folder as they were checked out, with the folder's path.
type Done = (Vec<u8>, Vec<(Vec<u8>, Checked)>);

/// One pass through a work tree.
struct Pass<'a> {
    target: &'a Folders<Blob>,
    before: &'a Folders<Checked>,
    /// Git just wrote what is there.
    is_by_git: bool,
    /// The git folder.
    dir: &'a Path,
    owner: Option<Owner>,
    cancel: &'a CancellationToken,
}

impl Pass<'_> {
    /// What one thread does.
    fn work(&self, queue: &Queue<Place>) -> Result<Vec<Done>, GitError> {
        // A repository is for one thread only.
        let repository = open(self.dir).map_err(failed(CHECKING_OUT))?;
        let attributes = attribute_files(self.target, |blob| *blob);
        let attributes = Attributes::new(&repository, attributes);
        let attributes = attributes.map_err(failed(CHECKING_OUT))?;
        let mut done = Vec::new();
        while let Some((place, _running)) = queue.next() {
            if self.cancel.is_cancelled() {
                return Err(GitError::Interrupted);
            }
            let below = self.target.below(&place.path);
            check_names(self.target, &place.path, &below)?;
            let at = |error: io::Error| GitError::at_path(&place.path, &error);
            let folder = place.parent.make(&place.name).map_err(at)?;
            if let Some(owner) = self.owner {
                folder.give(owner).map_err(at)?;
            }
            let kept = self.clear(&folder, &place.path, &below).map_err(at)?;
            let writing = Writing {
                owner: self.owner,
                repository: &repository,
                attributes: &attributes,
            };
            let place_of = (place.path.as_slice(), &folder);
            let files = writing.complete(self.target.files(&place.path), place_of, kept)?;
            let folder = Arc::new(folder);
            let below = below.iter().map(|name| place.below(&folder, name));
            queue.add(below.collect());
            done.push((place.path, files));
        }
        Ok(done)
    }

    /// Takes away what does not belong in a folder. What stays is given with its stamps, in the
    /// order of the names.
    fn clear(
        &self,
        folder: &Folder,
        path: &[u8],
        below: &[Vec<u8>],
    ) -> io::Result<Vec<(Vec<u8>, Checked)>> {
        let (target, before) = (self.target.files(path), self.before.files(path));
        let mut kept = Vec::new();
        for name in folder.names()? {
            let Some(found) = folder.stat(&name)? else {
                continue;
            };
            let bytes = name.as_bytes();
            match (find(target, bytes), found.kind) {
                (Some(blob), Kind::Folder) if blob.kind == EntryKind::Submodule => {
                    let submodule = folder.enter(&name)?;
                    for name in submodule.names()? {
                        submodule.remove(&name)?;
                    }
                    let checked = Checked::new(*blob, Some(found.stamp));
                    kept.push((bytes.to_vec(), checked));
                }
                (None, Kind::Folder)
                    if below
                        .binary_search_by(|it| it.as_slice().cmp(bytes))
                        .is_ok() => {}
                (Some(blob), _) if self.is_unchanged(find(before, bytes), *blob, &found) => {
                    let stamp = self.given(folder, &name, found)?;
                    kept.push((bytes.to_vec(), Checked::new(*blob, stamp)));
                }
                _ => folder.remove(&name)?,
            }
        }
        Ok(kept)
    }

    fn is_unchanged(&self, known: Option<&Checked>, blob: Blob, found: &Stat) -> bool {
        let is_kind = match blob.kind {
            EntryKind::File | EntryKind::Executable => found.kind == Kind::File,
            EntryKind::Symlink => found.kind == Kind::Link,
            EntryKind::Submodule => false,
        };
        let is_known = known.is_some_and(|it| it.blob == blob && it.stamp == Some(found.stamp));
        is_kind && (self.is_by_git || is_known)
    }

    /// Gives a file that stays to the owner of the work tree, which is a change of its state.
    fn given(&self, folder: &Folder, name: &OsStr, found: Stat) -> io::Result<Option<Stamp>> {
        match self.owner {
            Some(owner) if !found.stamp.is_of(owner) => {
                folder.give_entry(name, owner)?;
                Ok(folder.stat(name)?.map(|found| found.stamp))
            }
            _ => Ok(Some(found.stamp)),
        }
    }
}

/// What writes files.
pub(super) struct Writing<'a> {
    pub(super) owner: Option<Owner>,
    pub(super) repository: &'a git2::Repository,
    pub(super) attributes: &'a Attributes<'a>,
}

impl Writing<'_> {
    /// Writes what was not kept of a folder; all its files, in the order of their names.
    fn complete(
        &self,
        target: &[(Vec<u8>, Blob)],
        (path, folder): (&[u8], &Folder),
        kept: Vec<(Vec<u8>, Checked)>,
    ) -> Result<Vec<(Vec<u8>, Checked)>, GitError> {
        let mut all = Vec::with_capacity(target.len());
        let mut kept = kept.into_iter().peekable();
        for (name, blob) in target {
            let file = match kept.next_if(|(it, _)| it == name) {
                Some(file) => file,
                None => {
                    let stamp = self.write((path, folder), name, *blob)?;
                    (name.clone(), Checked::new(*blob, stamp))
                }
            };
            all.push(file);
        }
        Ok(all)
    }

    /// Writes a file into a folder, whose path is empty or ends with `/`.
    pub(super) fn write(
        &self,
        (path, folder): (&[u8], &Folder),
        name: &[u8],
        blob: Blob,
    ) -> Result<Option<Stamp>, GitError> {
        let path = [path, name].concat();
        let failed_at = |error: io::Error| GitError::at_path(&path, &error);
        let (name, owner) = (OsStr::from_bytes(name), self.owner);
        if blob.kind == EntryKind::Submodule {
            let made = folder.make(name).map_err(failed_at)?;
            owner
                .map_or(Ok(()), |owner| made.give(owner))
                .map_err(failed_at)?;
            return Ok(None);
        }
        let found = self.repository.find_blob(blob.id);
        let found = found.map_err(failed(CHECKING_OUT))?;
        let content = found.content();
        if blob.kind == EntryKind::Symlink && (content.is_empty() || content.contains(&0)) {
            let path = shown(&path);
            let reason = format!("`{path}` is a symbolic link that can lead nowhere");
            return Err(GitError::Unusable { reason });
        }
        let written = if blob.kind == EntryKind::Symlink {
            folder.link(name, OsStr::from_bytes(content), owner)
        } else {
            let said = self.attributes.of(&path).map_err(failed(CHECKING_OUT))?;
            let content = said
                .conversion
                .into_work_tree(content, &blob.id.to_string());
            let mode = match blob.kind {
                EntryKind::Executable => 0o777,
                _ => 0o666,
            };
            folder.write(name, &content, mode, owner)
        };
        written.map(Some).map_err(failed_at)
    }
}

/// A tree may come from anybody, and names whatever its maker liked.
pub(super) fn check_names(
    target: &Folders<Blob>,
    path: &[u8],
    below: &[Vec<u8>],
) -> Result<(), GitError> {
    let files = target.files(path);
    let names = files.iter().map(|(name, _)| name).chain(below);
    let odd = names.clone().find(|name| {
        let is_place = matches!(name.as_slice(), b"" | b"." | b"..");
        is_place || is_git_name(OsStr::from_bytes(name))
    });
    let twice = files.windows(2).find(|two| two[0].0 == two[1].0);
    let twice = twice.map(|two| &two[0].0);
    let twice = twice.or_else(|| below.iter().find(|name| find(files, name).is_some()));
    let Some(name) = odd.or(twice) else {
        return Ok(());
    };
    let (folder, name) = (String::from_utf8_lossy(path), String::from_utf8_lossy(name));
    let reason = match odd {
        Some(_) => format!("the tree has `{folder}{name}`, a name that nothing may have"),
        None => format!("the tree has `{folder}{name}` twice"),
    };
    Err(GitError::Unusable { reason })
}

/// Opens the work tree's folder; whatever else is at its place makes way.
pub(super) fn folder(root: &Path) -> io::Result<Folder> {
    match std::fs::symlink_metadata(root) {
        Ok(found) if found.is_dir() => crate::disk::open_up(root)?,
        Ok(_) => {
            std::fs::remove_file(root)?;
            std::fs::create_dir(root)?;
        }
        Err(error) if is_absent(&error) => std::fs::create_dir_all(root)?,
        Err(error) => return Err(error),
    }
    Folder::open(root)
}

fn emptied(root: &Path) -> io::Result<()> {
    let root = folder(root)?;
    let mut names = root.names()?.into_iter();
    names.try_for_each(|name| root.remove(&name))
}

/// The time as the file system of our own folder has it.
pub(super) fn now(dir: &Path) -> io::Result<(i64, i64)> {
    let mark = tempfile::NamedTempFile::new_in(dir)?;
    let name = mark.path().file_name().unwrap_or_default();
    let found = Folder::open(dir)?.stat(name)?;
    found
        .map(|found| found.stamp.changed)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// True when a change from now on has a later time than this one, however coarse the clock.
pub(super) fn is_older(time: (i64, i64), now: (i64, i64)) -> bool {
    let elapsed = (now.0 - time.0).saturating_mul(1_000_000_000) + (now.1 - time.1);
    elapsed > TICK
}
