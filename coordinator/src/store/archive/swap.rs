//! A new file takes the name of another one, step by step, so that a crash between any two steps
//! leaves the old one or the new one, whole.
//!
//! The old file gets its other name as a second one before it loses the first; the last step that
//! changes anything is a rename, which is atomic. The steps are a plan, made before any is taken.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::ArchiveError;
use crate::store::lock::{folder, own_like};

/// What SQLite keeps beside a file. A log must not lie beside another file than its own: SQLite
/// would play it back into that.
const BESIDE: [&str; 3] = ["-journal", "-wal", "-shm"];

/// A file in the making, removed when dropped unless it was renamed.
#[derive(Debug)]
pub(super) struct Draft(PathBuf);

impl Draft {
    /// Makes room for what is going to be `file`.
    pub(super) fn empty(file: &Path) -> Result<Self, ArchiveError> {
        let draft = Self(with_suffix(file, ".partial"));
        draft.remove()?;
        Ok(draft)
    }

    /// Copies a backup, byte for byte, to what is going to be `store`: it belongs to whom that
    /// belonged to, and can be written by its owner.
    pub(super) fn copy_of(backup: &Path, store: &Path) -> Result<Self, ArchiveError> {
        let draft = Self::empty(store)?;
        let failed = ArchiveError::file(&draft.0);
        let copied = File::open(backup).map_err(ArchiveError::file(backup))?;
        copy(
            copied,
            &draft.0,
            fs::metadata(store).ok().as_ref(),
            folder(store),
        )
        .map_err(failed)?;
        Ok(draft)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    fn remove(&self) -> Result<(), ArchiveError> {
        for suffix in BESIDE.into_iter().chain([""]) {
            let file = with_suffix(&self.0, suffix);
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ArchiveError::file(&file)(error));
                }
                _ => {}
            }
        }
        Ok(())
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            tracing::warn!("{error}");
        }
    }
}

/// Writes a new file that belongs to whom the other belongs to, or else the folder.
fn copy(mut from: File, to: &Path, like: Option<&fs::Metadata>, folder: &Path) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).open(to)?;
    io::copy(&mut from, &mut file)?;
    match like {
        Some(like) => {
            own_like(&file, like)?;
            let mode = like.mode() & 0o777 | 0o600;
            file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))?;
        }
        None => own_like(&file, &fs::metadata(folder)?)?,
    }
    file.sync_all()
}

/// A step of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Writes a file or folder to the disk.
    Sync(PathBuf),
    /// Gives a file a second name, which must be new.
    Keep { file: PathBuf, name: PathBuf },
    /// Takes a name from a file that has another one.
    Remove(PathBuf),
    /// Gives a file another name, whatever has that name.
    Rename { file: PathBuf, name: PathBuf },
}

/// The steps by which a draft gets its name.
pub(super) fn naming(draft: &Path, file: &Path) -> Vec<Step> {
    vec![
        Step::Sync(draft.to_owned()),
        Step::Rename {
            file: draft.to_owned(),
            name: file.to_owned(),
        },
        Step::Sync(folder(file).to_owned()),
    ]
}

/// The steps by which a draft takes the place of the store, which is kept with all that SQLite has
/// beside it.
pub(super) fn replacing(draft: &Path, store: &Path) -> Result<Vec<Step>, ArchiveError> {
    let stamp = chrono::Utc::now().format("%Y%m%dT%H%M%S%.3fZ");
    let aside = with_suffix(store, &format!(".before-restore-{stamp}"));
    let (mut keep, mut remove) = (Vec::new(), Vec::new());
    for suffix in [""].into_iter().chain(BESIDE) {
        let (file, name) = (with_suffix(store, suffix), with_suffix(&aside, suffix));
        match fs::symlink_metadata(&file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ArchiveError::file(&file)(error)),
            Ok(_) => {}
        }
        if !suffix.is_empty() {
            remove.push(Step::Remove(file.clone()));
        }
        keep.push(Step::Keep { file, name });
    }
    keep.push(Step::Sync(folder(store).to_owned()));
    keep.append(&mut remove);
    keep.extend(naming(draft, store));
    Ok(keep)
}

/// What a plan keeps, by its new name.
pub(super) fn kept(plan: &[Step]) -> Vec<PathBuf> {
    let names = plan.iter().filter_map(|step| match step {
        Step::Keep { name, .. } => Some(name.clone()),
        _ => None,
    });
    names.collect()
}

/// Takes all steps, or takes back those that were taken.
pub(super) fn run(plan: &[Step]) -> Result<(), ArchiveError> {
    for (taken, step) in plan.iter().enumerate() {
        if let Err(error) = take(step) {
            take_back(&plan[..taken]);
            return Err(error);
        }
    }
    Ok(())
}

fn take(step: &Step) -> Result<(), ArchiveError> {
    let (file, taken) = match step {
        Step::Sync(file) => (file, File::open(file).and_then(|file| file.sync_all())),
        Step::Keep { file, name } => (name, keep(file, name)),
        Step::Remove(file) => (file, fs::remove_file(file)),
        Step::Rename { file, name } => (name, fs::rename(file, name)),
    };
    taken.map_err(ArchiveError::file(file))
}

/// Gives a file a second name, or makes a copy where the file system knows no second names.
fn keep(file: &Path, name: &Path) -> io::Result<()> {
    match fs::hard_link(file, name) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            let like = fs::metadata(file)?;
            let copied = copy(File::open(file)?, name, Some(&like), folder(file));
            match copied {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    let _ = fs::remove_file(name);
                    Err(error)
                }
                copied => copied,
            }
        }
        linked => linked,
    }
}

/// Gives back the names that were taken away, and takes the second ones away. After the rename there
/// is nothing to take back: the new file is the store.
fn take_back(taken: &[Step]) {
    if taken.iter().any(|step| matches!(step, Step::Rename { .. })) {
        return;
    }
    for step in taken.iter().rev() {
        let Step::Keep { file, name } = step else {
            continue;
        };
        let present = fs::exists(file).unwrap_or(false) || keep(name, file).is_ok();
        if present && let Err(error) = fs::remove_file(name) {
            tracing::warn!(file = %name.display(), %error, "left behind");
        }
    }
}

/// A file's name with more at its end.
pub(super) fn with_suffix(file: &Path, suffix: &str) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
