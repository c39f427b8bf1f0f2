//! Folders that untrusted code was in: deleted whatever it did to their permissions.
//!
//! No link is followed. Whoever deletes is the owner of what is deleted, so that a folder that
//! was made read-only, as Go's module cache is, can be made writable again first.

mod copy;
mod handle;
mod spread;
mod stat;
mod upper;
mod walk;

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

pub(crate) use copy::{copy, copy_tree};
pub(crate) use handle::Folder;
pub(crate) use spread::{Queue, spread};
pub use stat::Owner;
pub(crate) use stat::{Kind, Stamp, Stat};
pub(crate) use upper::resolve_redirects;
pub(crate) use walk::walk;

/// What the owner of a folder needs to change what is in it.
const OWNER: u32 = 0o700;

/// Deletes a file, a link or a folder with all that is in it; nothing there is no error.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    match parent(path) {
        Err(error) if is_absent(&error) => Ok(()),
        found => found.and_then(|(parent, name)| parent.remove(name)),
    }
}

/// The folder that something is in, and its name there.
fn parent(path: &Path) -> io::Result<(Folder, &OsStr)> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        None => Path::new("/"),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    Ok((Folder::open(parent)?, name))
}

/// The same, on a thread that may block.
pub(crate) async fn remove_in_background(path: &Path) -> io::Result<()> {
    let path = path.to_owned();
    let removed = tokio::task::spawn_blocking(move || remove_all(&path)).await;
    removed.map_err(io::Error::other).flatten()
}

/// Gives a folder's owner back the right to list and change it.
pub(crate) fn open_up(folder: &Path) -> io::Result<()> {
    let mode = fs::symlink_metadata(folder)?.permissions().mode();
    if mode & OWNER == OWNER {
        return Ok(());
    }
    fs::set_permissions(folder, Permissions::from_mode(mode | OWNER))
}

/// Lets a folder's owner read it. Nothing else is changed, as others may be copying it.
pub(crate) fn make_readable(folder: &Path, found: &fs::Metadata) -> io::Result<()> {
    const READ: u32 = 0o500;
    if found.permissions().mode() & READ == READ {
        return Ok(());
    }
    open_up(folder)
}

/// Copies a folder of files and folders; anything else in it is left out.
pub(crate) fn copy_all(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy_all(&entry.path(), &target)?;
        } else if kind.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Notes that a folder was used, for those who look for what was not used longest.
pub(crate) fn touch(folder: &Path) {
    let noted = fs::File::open(folder).and_then(|it| it.set_modified(chrono::Utc::now().into()));
    if let Err(error) = noted {
        tracing::debug!(folder = %folder.display(), %error, "its use can't be noted");
    }
}

/// Bytes below a folder; what can't be read counts nothing.
pub(crate) fn size(folder: &Path) -> u64 {
    let Ok(top) = Folder::open(folder) else {
        return 0;
    };
    let mut sum = 0_u64;
    let open = |folder: &Folder, name: &OsStr| Ok(folder.peek(name));
    let counted = walk(top, open, |folder, _| {
        let mut folders = Vec::new();
        for name in folder.names().unwrap_or_default() {
            match folder.stat(&name) {
                Ok(Some(found)) if found.kind == Kind::Folder => folders.push(name),
                Ok(Some(found)) => sum = sum.saturating_add(found.size),
                Ok(None) | Err(_) => {}
            }
        }
        Ok(folders)
    });
    if let Err(error) = counted {
        tracing::debug!(folder = %folder.display(), %error, "a part of it is not counted");
    }
    sum
}

/// Nothing is there, not even the folder that it would be in.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_without_any_permission_is_deleted_with_what_is_in_it() {
        let root = tempfile::tempdir().unwrap();
        let kept = root.path().join("kept");
        fs::create_dir(&kept).unwrap();
        fs::write(kept.join("file"), "x").unwrap();
        let module = root.path().join("home/go/pkg/mod/module@v1");
        fs::create_dir_all(&module).unwrap();
        fs::write(module.join("file"), "x").unwrap();
        std::os::unix::fs::symlink(&kept, module.join("link")).unwrap();
        for (path, mode) in [("home/go/pkg/mod/module@v1", 0o555), ("home/go", 0o000)] {
            fs::set_permissions(root.path().join(path), Permissions::from_mode(mode)).unwrap();
        }
        remove_all(&root.path().join("home")).unwrap();
        assert!(!root.path().join("home").exists());
        assert!(kept.join("file").exists(), "a link was followed");
        remove_all(&root.path().join("home")).unwrap();
    }
}
