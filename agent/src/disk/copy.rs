//! Copies of what untrusted code wrote: by handles, of any depth, and with nothing beside it.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::Mode;
use nix::unistd::{Gid, Uid, Whence, geteuid, lseek};

use super::walk::{Cursor, at};
use super::{Folder, Kind, Stat, parent};

/// Copies a file, a link or a folder with all that is in it, with owners, plain rights and the times
/// of files, to a place where nothing is. Nothing else can be copied, and is left out. No link is
/// followed below the two folders that the paths' last names are in.
pub(crate) fn copy_tree(from: &Path, to: &Path) -> io::Result<()> {
    let ((source, name), (target, new)) = (parent(from)?, parent(to)?);
    copy((&source, name), (&target, new))
}

/// The same, with the folders by their handles.
pub(crate) fn copy(
    (source, name): (&Folder, &OsStr),
    (target, new): (&Folder, &OsStr),
) -> io::Result<()> {
    let copied = copy_one((source, name), (target, new));
    let is_folder = copied.map_err(|error| at(Path::new(name), &error))?;
    if !is_folder {
        return Ok(());
    }
    let mut path = PathBuf::from(name);
    let opened = source.for_reading(name)?;
    let mut from = Cursor::new(opened);
    let mut to = Cursor::new(target.make_new(new)?);
    let mut todo = vec![copy_files(from.here(), to.here(), &path)?];
    while let Some(names) = todo.last_mut() {
        let Some(name) = names.pop() else {
            todo.pop();
            if todo.is_empty() {
                return same(to.here(), &from.here().status()?);
            }
            path.pop();
            // Rights come last: without them there is no way back.
            let (original, copy) = (from.leave()?, to.leave()?);
            same(&copy, &original.status()?)?;
            continue;
        };
        path.push(&name);
        let named = |error: io::Error| at(&path, &error);
        let opened = from.here().for_reading(&name).map_err(named)?;
        let made = to.here().make_new(&name).map_err(named)?;
        from.enter(opened)?;
        to.enter(made)?;
        todo.push(copy_files(from.here(), to.here(), &path)?);
    }
    Ok(())
}

/// Copies what is directly in a folder; gives the folders, which are still to be copied.
fn copy_files(from: &Folder, to: &Folder, path: &Path) -> io::Result<Vec<OsString>> {
    let mut folders = Vec::new();
    for name in from.names().map_err(|error| at(path, &error))? {
        let copied = copy_one((from, &name), (to, &name));
        if copied.map_err(|error| at(&path.join(&name), &error))? {
            folders.push(name);
        }
    }
    Ok(folders)
}

/// Copies what is at a name; true for a folder, which is not copied.
fn copy_one((from, name): (&Folder, &OsStr), (to, new): (&Folder, &OsStr)) -> io::Result<bool> {
    let found = from.stat(name)?.ok_or(io::ErrorKind::NotFound)?;
    match found.kind {
        Kind::Folder => return Ok(true),
        Kind::Link => {
            let owner = geteuid().is_root().then(|| found.owner());
            to.link(new, &from.read_link(name)?, owner)?;
        }
        Kind::File => {
            let original = from.open_file(name)?;
            let found = Stat::of_open(&original)?;
            // Never with the rights of the original while it belongs to another user.
            let mut copy = to.create_file(new)?;
            let modified = original.metadata()?.modified()?;
            copy_data(original, &mut copy)?;
            // Compilers tell by it what is up to date.
            copy.set_times(fs::FileTimes::new().set_modified(modified))?;
            same(&copy, &found)?;
        }
        Kind::Whiteout | Kind::Special => {}
    }
    Ok(false)
}

/// Gives a copy to whom the original belongs, which only root can do, and its rights, without those
/// by which a program becomes another user.
fn same(copy: impl AsFd, original: &Stat) -> io::Result<()> {
    if geteuid().is_root() {
        let owner = original.owner();
        let (user, group) = (Uid::from_raw(owner.uid), Gid::from_raw(owner.gid));
        nix::unistd::fchown(&copy, Some(user), Some(group))?;
    }
    let mode = Mode::from_bits_truncate(original.mode & 0o777);
    Ok(nix::sys::stat::fchmod(copy, mode)?)
}

/// Copies what is written of a file. Its holes stay holes: they take no room where they come from, and
/// no limit counts them.
fn copy_data(mut from: File, to: &mut File) -> io::Result<()> {
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

    use super::*;

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

    #[test]
    fn no_depth_is_too_deep_to_be_copied() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(root.path()).unwrap();
        for name in std::iter::once("from").chain(std::iter::repeat_n("deep", 3000)) {
            folder = folder.make(name.as_ref()).unwrap();
        }
        folder.write("file".as_ref(), b"x", 0o644, None).unwrap();
        let (from, to) = (root.path().join("from"), root.path().join("to"));
        copy_tree(&from, &to).unwrap();
        assert_eq!(crate::disk::size(&to), 1);
        for path in [from, to] {
            crate::disk::remove_all(&path).unwrap();
            assert!(!path.exists());
        }
    }

    #[test]
    fn what_has_no_rights_is_copied_and_rights_stay_as_they_were() {
        let root = tempfile::tempdir().unwrap();
        let from = root.path().join("from");
        fs::create_dir_all(from.join("closed/inner")).unwrap();
        fs::write(from.join("closed/inner/file"), "x").unwrap();
        fs::write(from.join("secret"), "x").unwrap();
        symlink("/nowhere", from.join("link")).unwrap();
        let rights = |path: &str, mode| {
            fs::set_permissions(from.join(path), fs::Permissions::from_mode(mode)).unwrap();
        };
        rights("closed/inner", 0o555);
        rights("closed", 0o000);
        rights("secret", 0o000);
        let to = root.path().join("to");
        copy_tree(&from, &to).unwrap();
        assert_eq!(fs::read(to.join("closed/inner/file")).unwrap(), b"x");
        let mode = fs::metadata(to.join("closed/inner")).unwrap().mode();
        assert_eq!(mode & 0o777, 0o555);
        assert_eq!(
            fs::read_link(to.join("link")).unwrap(),
            Path::new("/nowhere")
        );
        assert!(fs::symlink_metadata(to.join("secret")).is_ok());
    }
}
