//! Work trees that are laid over a template: a check-out writes only what differs from it.
//!
//! The work tree's own folder is the upper layer of an overlay (`overlayfs`), which the kernel puts
//! together where a command runs. What it has stands for what is below; a device 0:0 says that
//! nothing is there. So a check-out begins with an empty folder, whatever was left in the old one.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;

use git2::Oid;
use nix::unistd::geteuid;

use super::attributes::Attributes;
use super::check_out::{CHECKING_OUT, Writing, check_names, is_older, now};
use super::folders::{Folders, find};
use super::{Checked, State, Template, WorkTree, attribute_files};
use crate::disk::{Folder, Owner, remove_all};
use crate::git::GitError;
use crate::git::local::{failed, open};
use crate::git::tree::{Blob, EntryKind, files, tree_of};

impl WorkTree {
    /// Makes the work tree exactly this tree.
    pub(super) fn lay(
        &self,
        repository: &git2::Repository,
        tree: Oid,
        template: &Template,
    ) -> Result<(), GitError> {
        // While this fails, nothing is known of the work tree.
        self.with_state(Option::take);
        let emptied = emptied(&self.root, template.root());
        let (root, owner) = emptied.map_err(|error| super::io(&self.root, &error))?;
        let wanted = tree_of(repository, tree).map_err(failed(CHECKING_OUT))?;
        let files = if wanted.id() == template.tree {
            Arc::clone(&template.files)
        } else {
            let target = Folders::new(files(repository, tree)?);
            let new = attribute_files(&target, |blob| *blob);
            let old = attribute_files(&template.files, |checked| checked.blob);
            let again = open(repository.path()).map_err(failed(CHECKING_OUT))?;
            let old = (old != new).then(|| Attributes::new(&again, old));
            let new = Attributes::new(repository, new);
            let laying = Laying {
                target: &target,
                template: &template.files,
                old_attributes: old.transpose().map_err(failed(CHECKING_OUT))?,
                root: &root,
                writing: Writing {
                    owner,
                    repository,
                    attributes: &new.map_err(failed(CHECKING_OUT))?,
                },
            };
            Arc::new(laying.run()?)
        };
        self.with_state(|state| *state = Some(State { tree, files }));
        Ok(())
    }
}

/// An empty upper layer in the place of what was there, which belongs to whom the template belongs
/// to; who that is, when it is not this process's user.
fn emptied(root: &Path, template: &Path) -> io::Result<(Folder, Option<Owner>)> {
    remove_all(root)?;
    std::fs::create_dir_all(root)?;
    let (root, owner) = (Folder::open(root)?, Folder::open(template)?.owner()?);
    let owner = (geteuid().is_root() && owner.uid != 0).then_some(owner);
    if let Some(owner) = owner {
        root.give(owner)?;
    }
    Ok((root, owner))
}

/// One check-out over a template.
struct Laying<'a> {
    target: &'a Folders<Blob>,
    template: &'a Folders<Checked>,
    /// Those by which the template was checked out, where the target has others.
    old_attributes: Option<Attributes<'a>>,
    root: &'a Folder,
    writing: Writing<'a>,
}

impl Laying<'_> {
    fn run(&self) -> Result<Folders<Checked>, GitError> {
        self.check_all_names()?;
        for path in self.gone() {
            self.hide(&path).map_err(|error| at(&path, &error))?;
        }
        let mut all = Vec::new();
        for (path, files) in self.target.folders() {
            all.push((path.to_vec(), self.folder(path, files)?));
        }
        let now = now(self.writing.repository.path());
        let now = now.map_err(|error| at(b"", &error))?;
        let mut done = Folders::default();
        for (path, mut files) in all {
            for (_, checked) in files.iter_mut().filter(|(_, it)| !it.is_below) {
                checked.stamp = checked.stamp.filter(|it| is_older(it.changed, now));
            }
            done.insert(path, files);
        }
        Ok(done)
    }

    fn check_all_names(&self) -> Result<(), GitError> {
        let folders = self.target.folders().flat_map(|(path, _)| {
            let ends = path.iter().enumerate();
            let ends = ends.filter(|(_, byte)| **byte == b'/');
            let above = ends.map(|(end, _)| &path[..=end]);
            above.chain(std::iter::once(&[][..]))
        });
        for path in folders.collect::<BTreeSet<_>>() {
            check_names(self.target, path, &self.target.below(path))?;
        }
        Ok(())
    }

    /// Writes the files of a folder that the template does not have.
    fn folder(
        &self,
        path: &[u8],
        files: &[(Vec<u8>, Blob)],
    ) -> Result<Vec<(Vec<u8>, Checked)>, GitError> {
        let template = self.template.files(path);
        let mut opened = None;
        let mut done = Vec::with_capacity(files.len());
        for (name, blob) in files {
            let below = find(template, name);
            let is_same = match below {
                Some(below) => self.is_same((path, name), (below.blob, *blob))?,
                None => false,
            };
            let checked = if let Some(below) = below.filter(|_| is_same) {
                Checked {
                    blob: *blob,
                    ..*below
                }
            } else {
                let folder = match opened.take() {
                    Some(folder) => folder,
                    None => self.make(path).map_err(|error| at(path, &error))?,
                };
                let stamp = self.writing.write((path, &folder), name, *blob)?;
                opened = Some(folder);
                Checked::new(*blob, stamp)
            };
            done.push((name.clone(), checked));
        }
        Ok(done)
    }

    /// True for a file that is checked out as it was for the template.
    fn is_same(
        &self,
        (path, name): (&[u8], &[u8]),
        (below, target): (Blob, Blob),
    ) -> Result<bool, GitError> {
        if target.kind == EntryKind::Submodule {
            // An empty folder, whichever commit it is at.
            return Ok(below.kind == EntryKind::Submodule);
        }
        let (Some(old), EntryKind::File | EntryKind::Executable) =
            (&self.old_attributes, target.kind)
        else {
            return Ok(below == target);
        };
        let path = [path, name].concat();
        let old = old.of(&path).map_err(failed(CHECKING_OUT))?;
        let new = self.writing.attributes.of(&path);
        Ok(below == target && old == new.map_err(failed(CHECKING_OUT))?)
    }

    /// What of the template has to be hidden, each the topmost path.
    fn gone(&self) -> BTreeSet<Vec<u8>> {
        let mut gone = BTreeSet::new();
        for (path, files) in self.template.folders() {
            let target = self.target.files(path);
            let files = files
                .iter()
                .filter(|(name, _)| find(target, name).is_none());
            gone.extend(files.filter_map(|(name, _)| self.to_be_hidden(&[path, name].concat())));
        }
        gone
    }

    /// What has to be hidden so that a file of the template is not seen; nothing when the target
    /// has something in its way.
    fn to_be_hidden(&self, path: &[u8]) -> Option<Vec<u8>> {
        let ends = path.iter().enumerate();
        for (end, _) in ends.filter(|(_, byte)| **byte == b'/') {
            match self.target.get(&path[..end]).map(|blob| blob.kind) {
                // A folder with nothing in it.
                Some(EntryKind::Submodule) => {}
                Some(_) => return None,
                None if self.target.has_below(&path[..=end]) => {}
                None => return Some(path[..end].to_vec()),
            }
        }
        let is_folder = self.target.has_below(&[path, b"/"].concat());
        (!is_folder).then(|| path.to_vec())
    }

    fn hide(&self, path: &[u8]) -> io::Result<()> {
        let name = path.rsplit(|byte| *byte == b'/').next().unwrap_or(path);
        let folder = self.make(&path[..path.len() - name.len()])?;
        folder.hide(OsStr::from_bytes(name))
    }

    /// A folder of the upper layer, whose path is empty or ends with `/`.
    fn make(&self, path: &[u8]) -> io::Result<Folder> {
        let mut folder = self.root.look_into(OsStr::new("."))?;
        let parts = path.split(|byte| *byte == b'/');
        for part in parts.filter(|part| !part.is_empty()) {
            folder = folder.make(OsStr::from_bytes(part))?;
            if let Some(owner) = self.writing.owner {
                folder.give(owner)?;
            }
        }
        Ok(folder)
    }
}

fn at(path: &[u8], error: &io::Error) -> GitError {
    super::io(Path::new(OsStr::from_bytes(path)), error)
}
