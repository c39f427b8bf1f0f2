//! Folders that untrusted code was in: deleted whatever it did to their permissions.
//!
//! No link is followed. Whoever deletes is the owner of what is deleted, so that a folder that
//! was made read-only, as Go's module cache is, can be made writable again first.

mod handle;
mod spread;

use std::fs::{self, Permissions};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::{Whence, lseek};

pub use handle::Owner;
pub(crate) use handle::{Folder, Kind, Stamp, Stat};
pub(crate) use spread::{Queue, spread};

/// What the owner of a folder needs to change what is in it.
const OWNER: u32 = 0o700;

/// Deletes a file, a link or a folder with all that is in it; nothing there is no error.
pub(crate) fn remove_all(path: &Path) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let parent = match path.parent() {
        None => Path::new("/"),
        Some(parent) if parent.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    match Folder::open(parent) {
        Err(error) if is_absent(&error) => Ok(()),
        parent => parent?.remove(name),
    }
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

/// Copies a file, a link or a folder with all that is in it, with owners, plain rights and the times
/// of files, to a place where nothing is. Nothing else can be copied, and is left out.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let found = fs::symlink_metadata(from)?;
    if found.is_dir() {
        make_readable(from, &found)?;
        fs::create_dir(to)?;
        for entry in fs::read_dir(from)? {
            let name = entry?.file_name();
            copy_tree(&from.join(&name), &to.join(&name))?;
        }
        same_owner(&found, to)?;
        same_rights(&found, to)
    } else if found.is_symlink() {
        std::os::unix::fs::symlink(fs::read_link(from)?, to)?;
        same_owner(&found, to)
    } else if found.is_file() {
        // Never with the rights of the original while it belongs to another user.
        let mut copy = fs::File::create_new(to)?;
        copy_data(fs::File::open(from)?, &mut copy)?;
        // Compilers tell by it what is up to date.
        copy.set_times(fs::FileTimes::new().set_modified(found.modified()?))?;
        same_owner(&found, to)?;
        same_rights(&found, to)
    } else {
        Ok(())
    }
}

/// Copies what is written of a file. Its holes stay holes: they take no room where they come from, and
/// no limit counts them.
fn copy_data(mut from: fs::File, to: &mut fs::File) -> io::Result<()> {
    let length = from.metadata()?.len();
    let mut at = 0;
    loop {
        let begin = match lseek(&from, at, Whence::SeekData) {
            // Nothing but a hole comes after.
            Err(Errno::ENXIO) => break,
            found => found?,
        };
        at = lseek(&from, begin, Whence::SeekHole)?;
        let begin = u64::try_from(begin).map_err(io::Error::other)?;
        let end = u64::try_from(at).map_err(io::Error::other)?;
        from.seek(SeekFrom::Start(begin))?;
        to.seek(SeekFrom::Start(begin))?;
        io::copy(&mut (&mut from).take(end - begin), to)?;
    }
    to.set_len(length)
}

/// Rights without those by which a program becomes another user.
fn same_rights(original: &fs::Metadata, copy: &Path) -> io::Result<()> {
    let mode = original.permissions().mode() & 0o777;
    fs::set_permissions(copy, Permissions::from_mode(mode))
}

/// Gives a copy to whom the original belongs, which only root can do.
fn same_owner(original: &fs::Metadata, copy: &Path) -> io::Result<()> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    std::os::unix::fs::lchown(copy, Some(original.uid()), Some(original.gid()))
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
    let Ok(entries) = fs::read_dir(folder) else {
        return 0;
    };
    let sizes = entries.flatten().map(|entry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    });
    sizes.sum()
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

    #[test]
    fn a_copy_has_all_that_is_written_and_takes_no_room_for_holes() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("a"), folder.path().join("b"));
        let mut file = fs::File::create(&from).unwrap();
        for at in [0, 64 << 20, 256 << 20] {
            file.seek(SeekFrom::Start(at)).unwrap();
            std::io::Write::write_all(&mut file, b"data").unwrap();
        }
        file.set_len(512 << 20).unwrap();
        copy_tree(&from, &to).unwrap();
        let (old, new) = (fs::metadata(&from).unwrap(), fs::metadata(&to).unwrap());
        assert_eq!(new.len(), old.len());
        assert!(new.blocks() * 512 < 1 << 20, "{}", new.blocks());
        let mut copy = fs::File::open(&to).unwrap();
        for at in [0, 64 << 20, 256 << 20] {
            let mut text = [0; 4];
            copy.seek(SeekFrom::Start(at)).unwrap();
            copy.read_exact(&mut text).unwrap();
            assert_eq!(&text, b"data");
        }
        fs::write(&from, "").unwrap();
        copy_tree(&from, &folder.path().join("c")).unwrap();
    }
}
