//! A folder by its handle, for places where untrusted code was.
//!
//! Names are single parts of a path and are looked up below the handle without following a link,
//! so that whatever was swapped for a link, before or in the meantime, leads nowhere. A folder or
//! file without rights is given back those of its owner, who is the agent.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::stat::{FchmodatFlags, Mode, SFlag};
use nix::unistd::{AccessFlags, UnlinkatFlags};
use rustix::fs::XattrFlags;
use rustix::io::Errno as Attribute;

use super::stat::{Kind, Owner, Stamp, Stat};

const FOLDER: OFlag = OFlag::O_RDONLY
    .union(OFlag::O_DIRECTORY)
    .union(OFlag::O_NOFOLLOW)
    .union(OFlag::O_CLOEXEC);
/// Makes a file where nothing is.
const CREATE: OFlag = OFlag::O_WRONLY
    .union(OFlag::O_CREAT)
    .union(OFlag::O_EXCL)
    .union(OFlag::O_CLOEXEC);
/// What the owner of a folder needs to list it and to go into it.
const READER: u32 = 0o500;
/// What the owner of a folder needs to change what is in it.
const OWNER: u32 = 0o700;
/// What the kernel calls a folder of an overlay's upper layer that replaces those below it
/// (`Documentation/filesystems/overlayfs.rst`). Only root can set it.
const OPAQUE: &str = "trusted.overlay.opaque";
/// And one that was moved in the overlay.
const MOVED: &str = "trusted.overlay.redirect";
/// Longest path that the kernel writes.
const PATH_MAX: usize = 4096;
/// How deep folders are entered at once when they are removed: each takes a descriptor.
const DEPTH: usize = 64;

/// An open folder.
#[derive(Debug)]
pub(crate) struct Folder(OwnedFd);

impl Folder {
    /// Opens a folder by its path, whose last part is no link.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        Ok(Self(nix::fcntl::openat(
            AT_FDCWD,
            path,
            FOLDER,
            Mode::empty(),
        )?))
    }

    /// Opens a folder in this one, with all rights of its owner.
    pub(crate) fn enter(&self, name: &OsStr) -> io::Result<Self> {
        let opened = match nix::fcntl::openat(&self.0, name, FOLDER, Mode::empty()) {
            Err(Errno::EACCES) => {
                self.allow(name, OWNER)?;
                nix::fcntl::openat(&self.0, name, FOLDER, Mode::empty())?
            }
            opened => opened?,
        };
        let mode = nix::sys::stat::fstat(&opened)?.st_mode;
        if mode & OWNER != OWNER {
            nix::sys::stat::fchmod(&opened, bits(mode | OWNER))?;
        }
        Ok(Self(opened))
    }

    /// Opens a folder in this one and changes nothing.
    pub(crate) fn look_into(&self, name: &OsStr) -> io::Result<Self> {
        Ok(Self(nix::fcntl::openat(
            &self.0,
            name,
            FOLDER,
            Mode::empty(),
        )?))
    }

    /// The names in this folder, in the order of their bytes.
    pub(crate) fn names(&self) -> io::Result<Vec<OsString>> {
        let again = nix::fcntl::openat(&self.0, ".", FOLDER, Mode::empty())?;
        let mut names = Vec::new();
        for entry in Dir::from_fd(again)?.iter() {
            let entry = entry?;
            let name = entry.file_name().to_bytes();
            if name != b"." && name != b".." {
                names.push(OsStr::from_bytes(name).to_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    /// What is at a name; `None` when nothing is.
    pub(crate) fn stat(&self, name: &OsStr) -> io::Result<Option<Stat>> {
        match nix::sys::stat::fstatat(&self.0, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(found) => Ok(Some(Stat::of(&found))),
            Err(Errno::ENOENT) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The same, for reading only: one without the rights to it is given all rights of its owner.
    pub(crate) fn for_reading(&self, name: &OsStr) -> io::Result<Self> {
        match self.stat(name)? {
            Some(found) if found.mode & READER != READER => self.enter(name),
            _ => self.look_into(name),
        }
    }

    /// Opens a folder in this one that this process may list and go into, and changes nothing;
    /// `None` for any other.
    pub(crate) fn peek(&self, name: &OsStr) -> Option<Self> {
        let opened = self.look_into(name).ok()?;
        let rights = AccessFlags::R_OK | AccessFlags::X_OK;
        let is_open = nix::unistd::faccessat(&opened.0, ".", rights, AtFlags::empty());
        is_open.is_ok().then_some(opened)
    }

    /// Opens the folder that this one is in.
    pub(super) fn parent(&self) -> io::Result<Self> {
        self.look_into("..".as_ref())
    }

    /// Device and inode, by which a folder is recognized.
    pub(super) fn identity(&self) -> io::Result<(u64, u64)> {
        let stamp = self.status()?.stamp;
        Ok((stamp.device, stamp.inode))
    }

    /// What the file system says of this folder.
    pub(super) fn status(&self) -> io::Result<Stat> {
        Stat::of_open(&self.0)
    }

    /// Reads a plain file, at most so many bytes of it and one more.
    pub(crate) fn read(&self, name: &OsStr, cap: u64) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        let mut file = self.open_file(name)?.take(cap.saturating_add(1));
        file.read_to_end(&mut content)?;
        Ok(content)
    }

    /// Opens a plain file for reading.
    pub(crate) fn open_file(&self, name: &OsStr) -> io::Result<File> {
        // Opening a FIFO must not wait for somebody who writes into it.
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
        let opened = match nix::fcntl::openat(&self.0, name, flags, Mode::empty()) {
            Err(Errno::EACCES) => {
                self.allow(name, 0o600)?;
                nix::fcntl::openat(&self.0, name, flags, Mode::empty())?
            }
            opened => opened?,
        };
        if Stat::of_open(&opened)?.kind != Kind::File {
            return Err(Errno::ELOOP.into());
        }
        Ok(opened.into())
    }

    /// Makes a file that only its owner may read and write; there is nothing at its name.
    pub(super) fn create_file(&self, name: &OsStr) -> io::Result<File> {
        Ok(nix::fcntl::openat(&self.0, name, CREATE, bits(0o600))?.into())
    }

    /// Where a link leads.
    pub(crate) fn read_link(&self, name: &OsStr) -> io::Result<OsString> {
        Ok(nix::fcntl::readlinkat(&self.0, name)?)
    }

    /// Writes a new file, which belongs to an owner when one is named; there is nothing at its
    /// name.
    pub(crate) fn write(
        &self,
        name: &OsStr,
        content: &[u8],
        mode: u32,
        owner: Option<Owner>,
    ) -> io::Result<Stamp> {
        let opened = nix::fcntl::openat(&self.0, name, CREATE, bits(mode))?;
        let mut file = File::from(opened);
        file.write_all(content)?;
        if let Some(owner) = owner {
            nix::unistd::fchown(&file, Some(owner.user()), Some(owner.group()))?;
        }
        Ok(Stat::of_open(&file)?.stamp)
    }

    /// Makes a link, which belongs to an owner when one is named; there is nothing at its name.
    pub(crate) fn link(
        &self,
        name: &OsStr,
        target: &OsStr,
        owner: Option<Owner>,
    ) -> io::Result<Stamp> {
        nix::unistd::symlinkat(target, &self.0, name)?;
        if let Some(owner) = owner {
            self.give_entry(name, owner)?;
        }
        let made = self.stat(name)?;
        made.map(|made| made.stamp)
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// Hides what layers below have at a name; there is nothing at it in this one.
    pub(crate) fn hide(&self, name: &OsStr) -> io::Result<()> {
        let (kind, nobody) = (SFlag::S_IFCHR, Mode::empty());
        Ok(nix::sys::stat::mknodat(&self.0, name, kind, nobody, 0)?)
    }

    /// True for a folder of a layer through which nothing of the layers below is seen.
    pub(crate) fn is_opaque(&self) -> io::Result<bool> {
        let mut value = [0; 1];
        match rustix::fs::fgetxattr(&self.0, OPAQUE, &mut value) {
            Ok(length) => Ok(value[..length] == *b"y"),
            // None, one that says something else, and a file system that has none.
            Err(Attribute::NODATA | Attribute::RANGE | Attribute::NOTSUP) => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// What an upper layer says of where a folder that was moved comes from.
    pub(super) fn moved_from(&self) -> io::Result<Option<OsString>> {
        let mut value = [0; PATH_MAX];
        match rustix::fs::fgetxattr(&self.0, MOVED, &mut value) {
            Ok(length) => Ok(Some(OsStr::from_bytes(&value[..length]).to_owned())),
            Err(Attribute::NODATA | Attribute::NOTSUP) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Has nothing of the layers below be seen through this folder of an upper layer.
    pub(crate) fn make_opaque(&self) -> io::Result<()> {
        rustix::fs::fsetxattr(&self.0, OPAQUE, b"y", XattrFlags::empty())?;
        match rustix::fs::fremovexattr(&self.0, MOVED) {
            Err(Attribute::NODATA) => Ok(()),
            removed => Ok(removed?),
        }
    }

    /// Whose folder it is.
    pub(crate) fn owner(&self) -> io::Result<Owner> {
        Ok(self.status()?.owner())
    }

    /// Gives this folder, without what is in it, to an owner.
    pub(crate) fn give(&self, owner: Owner) -> io::Result<()> {
        if self.owner()? != owner {
            nix::unistd::fchown(&self.0, Some(owner.user()), Some(owner.group()))?;
        }
        Ok(())
    }

    /// Gives what is at a name to an owner; a link itself, not where it leads.
    pub(crate) fn give_entry(&self, name: &OsStr, owner: Owner) -> io::Result<()> {
        let (user, group) = (Some(owner.user()), Some(owner.group()));
        let flags = AtFlags::AT_SYMLINK_NOFOLLOW;
        Ok(nix::unistd::fchownat(&self.0, name, user, group, flags)?)
    }

    /// The same, if what is at the name is still what was found there; nobody knows what else it
    /// would be.
    pub(crate) fn give_found(&self, name: &OsStr, found: &Stat, owner: Owner) -> io::Result<()> {
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let opened = nix::fcntl::openat(&self.0, name, flags, Mode::empty())?;
        if Stat::of_open(&opened)?.stamp != found.stamp {
            return Err(io::Error::other("it was changed while it was looked at"));
        }
        let (user, group) = (Some(owner.user()), Some(owner.group()));
        let flags = AtFlags::AT_EMPTY_PATH | AtFlags::AT_SYMLINK_NOFOLLOW;
        Ok(nix::unistd::fchownat(&opened, "", user, group, flags)?)
    }

    /// Moves what is at a name to a place of the same file system.
    pub(crate) fn rename(&self, name: &OsStr, to: &Self, new: &OsStr) -> io::Result<()> {
        if self.stat(name)?.is_some_and(|it| it.kind == Kind::Folder) {
            // A folder can be moved by who may write it.
            self.enter(name)?;
        }
        Ok(nix::fcntl::renameat(&self.0, name, &to.0, new)?)
    }

    /// Makes a folder that only its owner may enter, and enters it; nothing is at its name.
    pub(super) fn make_new(&self, name: &OsStr) -> io::Result<Self> {
        nix::sys::stat::mkdirat(&self.0, name, bits(OWNER))?;
        self.enter(name)
    }

    /// Enters a folder that is made when nothing is there.
    pub(crate) fn make(&self, name: &OsStr) -> io::Result<Self> {
        match nix::sys::stat::mkdirat(&self.0, name, bits(0o777)) {
            Ok(()) | Err(Errno::EEXIST) => self.enter(name),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes what is at a name, with all that is in it; nothing there is no error.
    pub(crate) fn remove(&self, name: &OsStr) -> io::Result<()> {
        match self.stat(name)?.map(|found| found.kind) {
            None => Ok(()),
            Some(Kind::Folder) => {
                let Some(folder) = unless_absent(self.enter(name))? else {
                    return Ok(());
                };
                // What lay too deep to be entered was brought up, so there may be more to do.
                while unless_absent(folder.names())?.is_some_and(|names| !names.is_empty()) {
                    folder.clear(&folder, 0)?;
                }
                absent_is_well(nix::unistd::unlinkat(
                    &self.0,
                    name,
                    UnlinkatFlags::RemoveDir,
                ))
            }
            Some(_) => self.unlink(name),
        }
    }

    fn unlink(&self, name: &OsStr) -> io::Result<()> {
        absent_is_well(nix::unistd::unlinkat(
            &self.0,
            name,
            UnlinkatFlags::NoRemoveDir,
        ))
    }

    /// Removes all that is in this folder, which lies so deep below `top`. Somebody else may be
    /// doing the same.
    fn clear(&self, top: &Self, depth: usize) -> io::Result<()> {
        for name in unless_absent(self.names())?.into_iter().flatten() {
            match self.stat(&name)?.map(|found| found.kind) {
                Some(Kind::Folder) if depth == DEPTH => {
                    let raised = format!(".deep-{}", uuid::Uuid::now_v7());
                    self.rename(&name, top, raised.as_ref())?;
                }
                Some(Kind::Folder) => {
                    if let Some(folder) = unless_absent(self.enter(&name))? {
                        folder.clear(top, depth + 1)?;
                    }
                    let flag = UnlinkatFlags::RemoveDir;
                    absent_is_well(nix::unistd::unlinkat(&self.0, name.as_os_str(), flag))?;
                }
                Some(_) => self.unlink(&name)?,
                None => {}
            }
        }
        Ok(())
    }

    /// Adds rights of the owner.
    fn allow(&self, name: &OsStr, rights: u32) -> io::Result<()> {
        let mode = self.stat(name)?.map_or(0, |found| found.mode);
        let flag = FchmodatFlags::NoFollowSymlink;
        Ok(nix::sys::stat::fchmodat(
            &self.0,
            name,
            bits(mode | rights),
            flag,
        )?)
    }
}

impl AsFd for Folder {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn bits(mode: u32) -> Mode {
    Mode::from_bits_truncate(mode)
}

/// `None` for what is gone, as when somebody else removes the same.
fn unless_absent<T>(found: io::Result<T>) -> io::Result<Option<T>> {
    match found {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        found => found.map(Some),
    }
}

fn absent_is_well(removed: nix::Result<()>) -> io::Result<()> {
    match removed {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_link_is_opened_as_nothing() {
        let place = tempfile::tempdir().unwrap();
        std::fs::create_dir(place.path().join("folder")).unwrap();
        std::fs::write(place.path().join("folder/file"), "secret").unwrap();
        symlink("folder", place.path().join("to-folder")).unwrap();
        symlink("folder/file", place.path().join("to-file")).unwrap();
        let here = Folder::open(place.path()).unwrap();
        assert!(here.enter(OsStr::new("folder")).is_ok());
        let (to_folder, to_file) = (OsStr::new("to-folder"), OsStr::new("to-file"));
        assert!(here.enter(to_folder).is_err());
        assert!(here.look_into(to_folder).is_err());
        assert!(here.open_file(to_file).is_err());
        assert!(Folder::open(&place.path().join("to-folder")).is_err());
    }
}
