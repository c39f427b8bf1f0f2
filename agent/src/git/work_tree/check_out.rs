//! Check-outs: the work tree becomes exactly a tree, whatever was left there.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use super::attributes::Attributes;
use super::{Checked, Files, State, WorkTree, attribute_files, has_below};
use crate::disk::{Folder, Kind, Stamp, Stat, is_absent, remove_all};
use crate::git::local::failed;
use crate::git::tree::{Blob, EntryKind, files};
use crate::git::{GitError, ObjectId, Repository};

const CHECKING_OUT: &str = "checking out";
/// How coarse the clock of a file system may be, in nanoseconds.
const TICK: i64 = 10_000_000;

impl Repository {
    /// Makes the work tree exactly this tree, whatever was left there: nothing else stays in it,
    /// neither ignored files nor repositories.
    ///
    /// # Errors
    /// When the work tree can't be written.
    pub async fn check_out(&self, tree: &ObjectId) -> Result<(), GitError> {
        let (work_tree, id) = (self.work_tree()?.clone(), tree.clone());
        let is_fresh = work_tree.with_state(|state| state.is_none());
        if is_fresh {
            let (root, lock) = (work_tree.root.clone(), self.dir().join("index.lock"));
            let emptied = self.local(CHECKING_OUT, move |_| {
                let emptied = remove_all(&lock).and_then(|()| emptied(&root));
                emptied.map_err(|error| super::io(&root, &error))
            });
            emptied.await?;
            // Nobody but us was in there yet, and git writes with all processors.
            let args = ["-c", "checkout.workers=0", "read-tree", "--reset", "-u"];
            let args = args.into_iter().chain([tree.as_str()]);
            self.git.run(self.call(args)).await?;
        }
        self.local(CHECKING_OUT, move |repository| {
            work_tree.check_out(repository, id.to_oid()?, is_fresh)
        })
        .await
    }
}

impl WorkTree {
    fn check_out(
        &self,
        repository: &git2::Repository,
        tree: git2::Oid,
        is_fresh: bool,
    ) -> Result<(), GitError> {
        let target: Files = files(repository, tree)?.into_iter().collect();
        let attributes = Attributes::new(repository, attribute_files(&target));
        let attributes = attributes.map_err(failed(CHECKING_OUT))?;
        // While this fails, nothing is known of the work tree.
        let before = self.with_state(Option::take);
        let before = before.map(|state| state.files).unwrap_or_default();
        let at_root = |error: io::Error| super::io(&self.root, &error);
        let root = folder(&self.root).map_err(at_root)?;
        let mut kept = BTreeMap::new();
        let clearing = Clearing {
            target: &target,
            before: &before,
            trust: is_fresh,
        };
        clearing.clear(&root, &[], &mut kept).map_err(at_root)?;
        let missing = target.iter().filter(|(path, _)| !kept.contains_key(*path));
        let writer = Writer {
            root: &root,
            repository,
            attributes: &attributes,
        };
        let mut written = Vec::new();
        for (path, blob) in missing {
            let stamp = writer.write(path, *blob)?;
            written.push((path.clone(), *blob, stamp));
        }
        let now = now(repository.path()).map_err(at_root)?;
        let fresh = |stamp: Stamp| Some(stamp).filter(|it| is_older(it.changed, now));
        let written = written.into_iter().map(|(path, blob, stamp)| {
            let stamp = stamp.and_then(fresh);
            (path, Checked { blob, stamp })
        });
        let mut all: BTreeMap<_, _> = written.collect();
        all.extend(kept.into_iter().map(|(path, (blob, stamp))| {
            let stamp = if is_fresh { fresh(stamp) } else { Some(stamp) };
            (path, Checked { blob, stamp })
        }));
        self.with_state(|state| *state = Some(State { tree, files: all }));
        Ok(())
    }
}

/// The pass that takes away what does not belong there.
struct Clearing<'a> {
    target: &'a Files,
    before: &'a BTreeMap<Vec<u8>, Checked>,
    /// Git just wrote what is there.
    trust: bool,
}

impl Clearing<'_> {
    /// Clears a folder; what stays in it is as the target has it.
    fn clear(
        &self,
        folder: &Folder,
        prefix: &[u8],
        kept: &mut BTreeMap<Vec<u8>, (Blob, Stamp)>,
    ) -> io::Result<()> {
        for name in folder.names()? {
            let Some(found) = folder.stat(&name)? else {
                continue;
            };
            let path = [prefix, name.as_bytes()].concat();
            let below = [path.as_slice(), b"/"].concat();
            match (self.target.get(&path), found.kind) {
                (Some(blob), Kind::Folder) if blob.kind == EntryKind::Submodule => {
                    let submodule = folder.enter(&name)?;
                    for name in submodule.names()? {
                        submodule.remove(&name)?;
                    }
                    kept.insert(path, (*blob, found.stamp));
                }
                (None, Kind::Folder) if has_below(self.target, &below) => {
                    self.clear(&folder.enter(&name)?, &below, kept)?;
                }
                (Some(blob), _) if self.is_unchanged(&path, *blob, &found) => {
                    kept.insert(path, (*blob, found.stamp));
                }
                _ => folder.remove(&name)?,
            }
        }
        Ok(())
    }

    fn is_unchanged(&self, path: &[u8], blob: Blob, found: &Stat) -> bool {
        let is_kind = match blob.kind {
            EntryKind::File | EntryKind::Executable => found.kind == Kind::File,
            EntryKind::Symlink => found.kind == Kind::Link,
            EntryKind::Submodule => false,
        };
        let known = self.before.get(path);
        let is_known = known.is_some_and(|it| it.blob == blob && it.stamp == Some(found.stamp));
        is_kind && (self.trust || is_known)
    }
}

/// The pass that writes what is missing.
struct Writer<'a> {
    root: &'a Folder,
    repository: &'a git2::Repository,
    attributes: &'a Attributes<'a>,
}

impl Writer<'_> {
    fn write(&self, path: &[u8], blob: Blob) -> Result<Option<Stamp>, GitError> {
        let failed_at = |error: io::Error| super::io(Path::new(OsStr::from_bytes(path)), &error);
        let mut parts = path.split(|byte| *byte == b'/').map(OsStr::from_bytes);
        let name = parts.next_back().unwrap_or_default();
        let mut parent = None;
        for part in parts {
            let within = parent.as_ref().unwrap_or(self.root);
            parent = Some(within.make(part).map_err(failed_at)?);
        }
        let folder = parent.as_ref().unwrap_or(self.root);
        if blob.kind == EntryKind::Submodule {
            folder.make(name).map_err(failed_at)?;
            return Ok(None);
        }
        let found = self.repository.find_blob(blob.id);
        let found = found.map_err(failed(CHECKING_OUT))?;
        let content = found.content();
        let written = match blob.kind {
            EntryKind::Symlink => folder.link(name, OsStr::from_bytes(content)),
            kind => {
                let said = self.attributes.of(path).map_err(failed(CHECKING_OUT))?;
                let id = blob.id.to_string();
                let content = said.conversion.into_work_tree(content, &id);
                let mode = if kind == EntryKind::Executable {
                    0o777
                } else {
                    0o666
                };
                folder.write(name, &content, mode)
            }
        };
        written.map_err(failed_at)?;
        let found = folder.stat(name).map_err(failed_at)?;
        Ok(found.map(|found| found.stamp))
    }
}

/// Opens the work tree's folder; whatever else is at its place makes way.
fn folder(root: &Path) -> io::Result<Folder> {
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
    remove_all(root)?;
    std::fs::create_dir_all(root)
}

/// The time as the file system of our own folder has it.
fn now(dir: &Path) -> io::Result<(i64, i64)> {
    let mark = tempfile::NamedTempFile::new_in(dir)?;
    let name = mark.path().file_name().unwrap_or_default();
    let found = Folder::open(dir)?.stat(name)?;
    found
        .map(|found| found.stamp.changed)
        .ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// True when a change from now on has a later time than this one, however coarse the clock.
fn is_older(time: (i64, i64), now: (i64, i64)) -> bool {
    let elapsed = (now.0 - time.0).saturating_mul(1_000_000_000) + (now.1 - time.1);
    elapsed > TICK
}
