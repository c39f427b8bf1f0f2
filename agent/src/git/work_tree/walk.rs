//! The walk through a work tree that finds what differs from what was checked out.
//!
//! No content is read but that of rules and attributes. A file whose stamp is that of its
//! check-out is unchanged, and nothing more is done about it. Folders are gone through by as many
//! threads as there are processors.
//!
//! Of a work tree that is laid over others, only its own folder is gone through, which is the upper
//! layer of an overlay. A file of a layer below that has nothing in its place there is unchanged.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::sync::Arc;

use super::attributes;
use super::ignored::{self, Rules};
use super::installed::{InstalledFiles, Now};
use super::names::is_git_name;
use super::{Checked, Place, State};
use crate::disk::{Folder, Kind, Queue, Stat, spread};
use crate::git::tree::{EntryKind, MAX_DEPTH};

/// Longest new file that is taken; no draft may be so long.
const MAX_NEW_FILE: u64 = 8 << 20;
/// Longest file with rules or attributes that is read.
const MAX_RULES: u64 = 1 << 20;

const GIT_FOLDER: &str = "is a git repository of its own, or named like one";
const SPECIAL: &str = "is neither a file nor a folder nor a link";
const TOO_DEEP: &str = "lies too deep";
/// Said of what another user left there, such as one whom a container maps elsewhere.
pub(super) const UNREADABLE: &str =
    "is another user's and can't be read; whoever makes it has to leave it readable";

/// What a walk found.
#[derive(Default)]
pub(super) struct Found {
    /// What may differ from the checked-out tree.
    pub(super) touched: Vec<(Vec<u8>, Stat)>,
    /// Files of the tree that are there no more. A submodule is only gone where something else is
    /// in its place.
    pub(super) gone: Vec<Vec<u8>>,
    /// Files with attributes.
    pub(super) attributes: Vec<(Vec<u8>, Text)>,
    /// What no tree can hold, and why.
    pub(super) strange: Vec<(Vec<u8>, String)>,
    /// New files that are too long, with their length.
    pub(super) left_out: Vec<(String, u64)>,
    /// Installed files that were changed.
    pub(super) changed_installed: Vec<String>,
    /// Folders of which nothing in the layers below is seen; each with `/` at its end.
    covered: BTreeSet<Vec<u8>>,
    /// Folders that were gone through and that the tree has files in.
    seen: Vec<Vec<u8>>,
}

/// The content of a file with attributes.
pub(super) enum Text {
    /// As it was checked out.
    Known(git2::Oid),
    Changed(Vec<u8>),
}

/// The folder of each layer below, from the top, that is seen through a folder of the upper one;
/// none where nothing is below.
type Below = Option<Vec<Arc<Folder>>>;

/// A folder that is to be gone through.
struct Job {
    place: Place,
    rules: Rules,
    /// What is below the folder that it is in.
    around: Below,
    /// Only what the tree has is looked at.
    is_ignored: bool,
    has_tracked: bool,
    depth: usize,
}

/// Goes through a work tree, which may lie over layers below. What is found is in the order of the
/// paths.
pub(super) fn walk(
    (state, installed): (&State, &InstalledFiles),
    (root, below): (Arc<Folder>, Below),
) -> io::Result<Found> {
    let is_upper = below.is_some();
    let first = Job {
        place: Place::root(root),
        rules: Rules::new(),
        around: below,
        is_ignored: false,
        has_tracked: true,
        depth: 0,
    };
    let walk = Walk {
        state,
        installed,
        is_upper,
    };
    let parts = spread(first, |queue| {
        let mut found = Found::default();
        while let Some((job, _running)) = queue.next() {
            let path = job.place.path.clone();
            if let Err(error) = walk.folder(job, queue, &mut found) {
                found.refuse_folder(path, error)?;
            }
        }
        io::Result::Ok(found)
    })?;
    let mut all = Found::default();
    for part in parts {
        all.touched.extend(part.touched);
        all.gone.extend(part.gone);
        all.attributes.extend(part.attributes);
        all.strange.extend(part.strange);
        all.left_out.extend(part.left_out);
        all.changed_installed.extend(part.changed_installed);
        all.covered.extend(part.covered);
        all.seen.extend(part.seen);
    }
    walk.add_unseen(&mut all);
    all.touched.sort_by(|one, other| one.0.cmp(&other.0));
    all.gone.sort();
    all.attributes.sort_by(|one, other| one.0.cmp(&other.0));
    all.strange.sort();
    all.left_out.sort();
    all.changed_installed.sort();
    Ok(all)
}

struct Walk<'a> {
    state: &'a State,
    installed: &'a InstalledFiles,
    /// The work tree's folder is the upper layer of an overlay.
    is_upper: bool,
}

impl Walk<'_> {
    fn folder(&self, job: Job, queue: &Queue<Job>, found: &mut Found) -> io::Result<()> {
        let folder = Arc::new(job.place.parent.enter(&job.place.name)?);
        let layers = below(&job, &folder)?;
        if job.around.is_some() && layers.is_none() {
            found.covered.insert(job.place.path.clone());
        }
        if !job.has_tracked && is_cache(&folder, &layers)? {
            return Ok(());
        }
        let names = folder.names()?;
        let rules = match rules_file(&folder, &layers)? {
            Some(text) => job.rules.within(&job.place.path, text),
            None => job.rules.clone(),
        };
        let known = self.state.files.files(&job.place.path);
        let mut unseen = known.iter().peekable();
        let mut below = Vec::new();
        let mut missing = |name: &[u8], found: &mut Found| {
            while let Some((other, checked)) = unseen.next_if(|(it, _)| it.as_slice() < name) {
                found.add_absent(&job.place.path, (other, checked), layers.is_some());
            }
            unseen.next_if(|(it, _)| it == name).map(|(_, it)| it)
        };
        let here = Here {
            walk: self,
            job: &job,
            rules: &rules,
            folder: &folder,
            below: &layers,
        };
        for name in &names {
            let Some(stat) = folder.stat(name)? else {
                continue;
            };
            if job.place.path.is_empty() && name == ".git" {
                // The clone's own, which is made anew by each check-out.
                continue;
            }
            let checked = missing(name.as_bytes(), found);
            if self.is_upper && stat.kind != Kind::Folder {
                found.covered.insert(here.path_of_folder(name));
            }
            match stat.kind {
                Kind::Folder => below.extend(here.subfolder(name, checked, found)),
                Kind::Whiteout if self.is_upper => {
                    if let Some(checked) = checked {
                        found.add_gone(&job.place.path, name.as_bytes(), checked);
                    }
                }
                _ => here.file(name, checked, stat, found)?,
            }
        }
        for (other, checked) in unseen {
            found.add_absent(&job.place.path, (other, checked), layers.is_some());
        }
        if !known.is_empty() {
            found.seen.push(job.place.path);
        }
        queue.add(below);
        Ok(())
    }

    /// Files of folders that are not there: no more, or only in a layer below.
    fn add_unseen(&self, found: &mut Found) {
        let seen: BTreeSet<_> = std::mem::take(&mut found.seen).into_iter().collect();
        let folders = self.state.files.folders();
        for (folder, files) in folders.filter(|(folder, _)| !seen.contains(*folder)) {
            let is_below = self.is_upper && !found.is_covered(folder);
            for (name, checked) in files {
                found.add_absent(folder, (name, checked), is_below);
            }
        }
    }
}

impl Found {
    /// Notes a folder that can't be read. What the host is at fault for is an error that names it.
    fn refuse_folder(&mut self, mut path: Vec<u8>, error: io::Error) -> io::Result<()> {
        if path.is_empty() {
            return Err(error);
        }
        // The slash at its end.
        path.pop();
        if error.kind() == io::ErrorKind::PermissionDenied {
            self.strange.push((path, UNREADABLE.to_owned()));
            return Ok(());
        }
        let path = String::from_utf8_lossy(&path);
        Err(io::Error::new(error.kind(), format!("`{path}`: {error}")))
    }

    /// Adds a file that is not in the folder itself, of which what is below may be seen.
    fn add_absent(
        &mut self,
        folder: &[u8],
        (name, checked): (&[u8], &Checked),
        is_below_seen: bool,
    ) {
        let blob = checked.blob;
        if !(checked.is_below && is_below_seen) {
            self.add_gone(folder, name, checked);
        } else if name == attributes::FILE
            && matches!(blob.kind, EntryKind::File | EntryKind::Executable)
        {
            let path = [folder, name].concat();
            self.attributes.push((path, Text::Known(blob.id)));
        }
    }

    /// True for a folder that is in one of which nothing below is seen.
    fn is_covered(&self, folder: &[u8]) -> bool {
        let mut ends = folder.iter().enumerate().filter(|(_, byte)| **byte == b'/');
        ends.any(|(end, _)| self.covered.contains(&folder[..=end]))
    }

    fn add_gone(&mut self, folder: &[u8], name: &[u8], checked: &Checked) {
        if checked.blob.kind != EntryKind::Submodule {
            self.gone.push([folder, name].concat());
        }
    }
}

/// Where the walk is.
struct Here<'a> {
    walk: &'a Walk<'a>,
    job: &'a Job,
    rules: &'a Rules,
    folder: &'a Arc<Folder>,
    below: &'a Below,
}

impl Here<'_> {
    fn path_of_folder(&self, name: &OsStr) -> Vec<u8> {
        [self.job.place.path.as_slice(), name.as_bytes(), b"/"].concat()
    }

    fn path(&self, name: &OsStr) -> Vec<u8> {
        [self.job.place.path.as_slice(), name.as_bytes()].concat()
    }

    /// The walk through a folder, unless it is left out.
    fn subfolder(&self, name: &OsStr, checked: Option<&Checked>, found: &mut Found) -> Option<Job> {
        match checked {
            Some(it) if it.blob.kind == EntryKind::Submodule => return None,
            Some(it) => found.add_gone(&self.job.place.path, name.as_bytes(), it),
            None => {}
        }
        let place = self.job.place.below(self.folder, name.as_bytes());
        let path = self.path(name);
        let has_tracked = self.walk.state.files.has_below(&place.path);
        let is_ignored = self.job.is_ignored || self.rules.ignore(&path, true);
        if is_ignored && !has_tracked {
            return None;
        }
        let strange = if is_git_name(name) {
            GIT_FOLDER
        } else if self.job.depth == MAX_DEPTH {
            TOO_DEEP
        } else {
            return Some(Job {
                place,
                rules: self.rules.clone(),
                around: self.below.clone(),
                is_ignored,
                has_tracked,
                depth: self.job.depth + 1,
            });
        };
        if self.walk.installed.has_folder(&path) {
            return None;
        }
        found.strange.push((path, strange.to_owned()));
        None
    }

    fn file(
        &self,
        name: &OsStr,
        checked: Option<&Checked>,
        stat: Stat,
        found: &mut Found,
    ) -> io::Result<()> {
        let is_known = checked.is_some_and(|it| it.stamp == Some(stat.stamp));
        if name.as_bytes() == attributes::FILE && stat.kind == Kind::File {
            let text = match checked {
                Some(it) if is_known => Text::Known(it.blob.id),
                _ => Text::Changed(self.folder.read(name, MAX_RULES)?),
            };
            found.attributes.push((self.path(name), text));
        }
        if is_known {
            return Ok(());
        }
        let path = self.path(name);
        if self.walk.installed.lfs.is_untouched(&path, &stat) {
            return Ok(());
        }
        let is_new = checked.is_none();
        if is_new && (self.job.is_ignored || self.rules.ignore(&path, false)) {
            return Ok(());
        }
        if is_new {
            let place = (self.folder.as_ref(), name);
            match self.walk.installed.file(&path, &stat, place)? {
                None => {}
                Some(Now::AsInstalled) => return Ok(()),
                Some(Now::Changed) => {
                    let path = String::from_utf8_lossy(&path).into_owned();
                    found.changed_installed.push(path);
                    return Ok(());
                }
            }
        }
        if is_git_name(name) {
            found.strange.push((path, GIT_FOLDER.to_owned()));
        } else if matches!(stat.kind, Kind::Special | Kind::Whiteout) {
            found.strange.push((path, SPECIAL.to_owned()));
        } else if is_new && stat.size > MAX_NEW_FILE {
            let path = String::from_utf8_lossy(&path).into_owned();
            found.left_out.push((path, stat.size));
        } else {
            found.touched.push((path, stat));
        }
        Ok(())
    }
}

/// What is seen of the layers below through a folder of the upper one.
fn below(job: &Job, folder: &Folder) -> io::Result<Below> {
    let Some(around) = &job.around else {
        return Ok(None);
    };
    if folder.is_opaque()? {
        return Ok(None);
    }
    let mut layers = Vec::new();
    for layer in around {
        match layer.stat(&job.place.name)?.map(|found| found.kind) {
            Some(Kind::Folder) => layers.push(Arc::new(layer.look_into(&job.place.name)?)),
            // Hides what is further down.
            Some(_) => break,
            None => {}
        }
    }
    Ok(Some(layers))
}

/// Where a file is seen that is in a folder or in a layer below it, and what it is.
fn seen<'a>(
    folder: &'a Folder,
    below: &'a Below,
    name: &OsStr,
) -> io::Result<Option<(&'a Folder, Kind)>> {
    let below = below.iter().flatten().map(AsRef::as_ref);
    for layer in std::iter::once(folder).chain(below) {
        if let Some(found) = layer.stat(name)? {
            return Ok(Some((layer, found.kind)));
        }
    }
    Ok(None)
}

/// The content of a folder's file with rules, when that is a plain file.
fn rules_file(folder: &Folder, below: &Below) -> io::Result<Option<Vec<u8>>> {
    let name = OsStr::new(ignored::FILE);
    match seen(folder, below, name)? {
        Some((layer, Kind::File)) => layer.read(name, MAX_RULES).map(Some),
        _ => Ok(None),
    }
}

fn is_cache(folder: &Folder, below: &Below) -> io::Result<bool> {
    let tag = OsStr::new(ignored::CACHE_TAG);
    match seen(folder, below, tag)? {
        Some((layer, Kind::File)) => Ok(ignored::is_cache_tag(&layer.read(tag, 64)?)),
        _ => Ok(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_that_can_not_be_read_is_named() {
        let denied = || io::Error::from(io::ErrorKind::PermissionDenied);
        let mut found = Found::default();
        found.refuse_folder(b"a/b/".to_vec(), denied()).unwrap();
        assert_eq!(found.strange, [(b"a/b".to_vec(), UNREADABLE.to_owned())]);
        // The work tree itself is the host's.
        assert!(found.refuse_folder(Vec::new(), denied()).is_err());
        let broken = io::Error::from_raw_os_error(5);
        let error = found.refuse_folder(b"a/b/".to_vec(), broken).unwrap_err();
        assert!(error.to_string().starts_with("`a/b`: "), "{error}");
    }
}
