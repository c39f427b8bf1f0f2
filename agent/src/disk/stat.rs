//! What the file system says of a place.

use std::io;
use std::os::fd::AsFd;

use nix::sys::stat::{FileStat, SFlag};
use nix::unistd::{Gid, Uid};

/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK: u64 = 512;

/// What is at a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Folder,
    File,
    Link,
    /// The device 0:0, which any user can make: in a layer of an overlay, it hides what layers below
    /// have at its name.
    Whiteout,
    /// A FIFO, a socket or another device.
    Special,
}

/// What the file system says of a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) kind: Kind,
    pub(crate) mode: u32,
    pub(crate) size: u64,
    /// Bytes that its content takes on disk; holes take none.
    pub(crate) on_disk: u64,
    /// How many names it has; each hard link is one.
    pub(crate) links: nix::libc::nlink_t,
    pub(crate) stamp: Stamp,
}

/// What differs after each change of a file. The time of the last change of its state can't be
/// set by whoever changed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) device: u64,
    pub(crate) inode: u64,
    pub(crate) size: u64,
    pub(crate) mode: u32,
    pub(crate) owner: u32,
    pub(crate) group: u32,
    pub(crate) modified: (i64, i64),
    pub(crate) changed: (i64, i64),
}

/// To whom files are given, as only root can.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The group's number.
    pub gid: u32,
}

impl Owner {
    pub(super) const fn user(self) -> Uid {
        Uid::from_raw(self.uid)
    }

    pub(super) const fn group(self) -> Gid {
        Gid::from_raw(self.gid)
    }
}

impl Stamp {
    /// True for a file that belongs to an owner.
    pub(crate) const fn is_of(&self, owner: Owner) -> bool {
        self.owner == owner.uid && self.group == owner.gid
    }
}

impl Stat {
    /// Whose it is.
    pub(crate) const fn owner(&self) -> Owner {
        Owner {
            uid: self.stamp.owner,
            gid: self.stamp.group,
        }
    }

    /// Of what is open.
    pub(super) fn of_open(opened: impl AsFd) -> io::Result<Self> {
        Ok(Self::of(&nix::sys::stat::fstat(opened)?))
    }

    pub(super) fn of(found: &FileStat) -> Self {
        let kind = match SFlag::from_bits_truncate(found.st_mode) & SFlag::S_IFMT {
            SFlag::S_IFDIR => Kind::Folder,
            SFlag::S_IFREG => Kind::File,
            SFlag::S_IFLNK => Kind::Link,
            SFlag::S_IFCHR if found.st_rdev == 0 => Kind::Whiteout,
            _ => Kind::Special,
        };
        let size = u64::try_from(found.st_size).unwrap_or_default();
        Self {
            kind,
            mode: found.st_mode,
            size,
            on_disk: u64::try_from(found.st_blocks).unwrap_or_default() * BLOCK,
            links: found.st_nlink,
            stamp: Stamp {
                device: found.st_dev,
                inode: found.st_ino,
                size,
                mode: found.st_mode,
                owner: found.st_uid,
                group: found.st_gid,
                modified: (found.st_mtime, found.st_mtime_nsec),
                changed: (found.st_ctime, found.st_ctime_nsec),
            },
        }
    }
}
