//! Who owns what a command may write: an agent of root gives it to the user that the command is.
//!
//! By handles, so that no link is followed and no depth is too deep. A file with further names
//! outside of the folder is somebody else's as well, and stays as it is.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::path::Path;

use nix::unistd::geteuid;

use super::plan::User;
use super::{Run, SandboxError};
use crate::disk::{Folder, Kind, Owner, Stat, walk};

/// Gives what a run's command may write to the user that it runs as, where that is another one.
pub(super) async fn own(user: Option<User>, run: &Run<'_>) -> Result<(), SandboxError> {
    let Some(user) = user else { return Ok(()) };
    for folder in [run.cwd.to_owned(), run.home()] {
        let path = folder.clone();
        let given = move || hand_over(&path, geteuid().as_raw(), user);
        let given = tokio::task::spawn_blocking(given).await;
        let given = given.map_err(io::Error::other).flatten();
        given.map_err(|source| SandboxError::NoFolder {
            path: folder,
            source,
        })?;
    }
    Ok(())
}

/// Gives a folder that a run's user had back to who it belonged to before.
pub(super) fn give_back(
    user: Option<User>,
    folder: &Path,
    (uid, gid): (u32, u32),
) -> io::Result<()> {
    let Some(user) = user else { return Ok(()) };
    hand_over(folder, user.uid, User { uid, gid })
}

/// Gives a folder, with what is in it and belongs to `from`, to a user.
pub(super) fn hand_over(folder: &Path, from: u32, to: User) -> io::Result<()> {
    let to = Owner {
        uid: to.uid,
        gid: to.gid,
    };
    let top = match Folder::open(folder) {
        // Whoever opens it for the command refuses what is no folder, and says so.
        Err(error) if matches!(error.kind(), io::ErrorKind::NotADirectory) => return Ok(()),
        opened => opened?,
    };
    if top.owner()?.uid == from {
        top.give(to)?;
    }
    let mut names = Names::default();
    let open = |folder: &Folder, name: &OsStr| folder.look_into(name).map(Some);
    walk(top, open, |folder, _| {
        let mut folders = Vec::new();
        for name in folder.names()? {
            let Some(found) = folder.stat(&name)? else {
                continue;
            };
            let is_due = found.owner().uid == from && found.owner() != to;
            if is_due && names.are_all_here(&found) {
                folder.give_found(&name, &found, to)?;
            }
            if found.kind == Kind::Folder {
                folders.push(name);
            }
        }
        Ok(folders)
    })
}

/// Names that were met of files with several.
#[derive(Default)]
struct Names(HashMap<(u64, u64), nix::libc::nlink_t>);

impl Names {
    /// True once every name of a file was met.
    fn are_all_here(&mut self, found: &Stat) -> bool {
        if found.kind == Kind::Folder || found.links <= 1 {
            return true;
        }
        let met = self.0.entry((found.stamp.device, found.stamp.inode));
        let met = met.or_default();
        *met += 1;
        *met >= found.links
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt as _, symlink};
    use std::path::PathBuf;

    use super::*;

    const TO: User = User {
        uid: 65534,
        gid: 65534,
    };

    /// A folder to hand over, as only root can.
    fn folder() -> Option<(tempfile::TempDir, PathBuf)> {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("folder");
        fs::create_dir(&folder).unwrap();
        geteuid().is_root().then_some((root, folder))
    }

    fn owner(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().uid()
    }

    #[test]
    fn a_file_with_a_name_elsewhere_stays_whose_it_is_and_one_with_all_names_here_does_not() {
        let Some((root, folder)) = folder() else {
            return;
        };
        let outside = root.path().join("outside");
        fs::write(&outside, "x").unwrap();
        fs::hard_link(&outside, folder.join("name")).unwrap();
        symlink(&outside, folder.join("link")).unwrap();
        fs::create_dir(folder.join("sub")).unwrap();
        fs::write(folder.join("one"), "x").unwrap();
        fs::hard_link(folder.join("one"), folder.join("sub/two")).unwrap();
        hand_over(&folder, 0, TO).unwrap();
        assert_eq!(owner(&outside), 0);
        for name in ["link", "one", "sub", "sub/two", ""] {
            assert_eq!(owner(&folder.join(name)), TO.uid, "{name}");
        }
    }

    #[test]
    fn no_depth_is_too_deep_to_be_handed_over() {
        let Some((_root, folder)) = folder() else {
            return;
        };
        let mut inner = Folder::open(&folder).unwrap();
        for _ in 0..3000 {
            inner = inner.make("deep".as_ref()).unwrap();
        }
        inner.write("file".as_ref(), b"x", 0o600, None).unwrap();
        hand_over(&folder, 0, TO).unwrap();
        let found = inner.stat("file".as_ref()).unwrap().unwrap();
        assert_eq!(found.owner().uid, TO.uid);
        crate::disk::remove_all(&folder).unwrap();
    }
}
