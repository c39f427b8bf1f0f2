//! Files that have no name any more and are still open: they take room until they are closed, and
//! no folder shows them.
//!
//! Not found: one that is in no process but on its way through a socket and, unless the agent is
//! root, one that is mapped and not open.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use nix::sys::statfs::{TMPFS_MAGIC, statfs};
use nix::unistd::Pid;

/// The unit of `st_blocks`, whatever the file system's own is.
const BLOCK: u64 = 512;

/// Bytes on disk of files without a name that these processes have; each file counts once. Memory
/// counts as memory, unless it is a device on which `folders` are.
pub(super) fn size(processes: &[Pid], folders: &[impl AsRef<Path>]) -> u64 {
    let folders = folders.iter().filter_map(|it| fs::metadata(it).ok());
    let devices: BTreeSet<_> = folders.map(|it| it.dev()).collect();
    let mut files = BTreeMap::new();
    for process in processes {
        for kind in ["fd", "map_files"] {
            let held = Path::new("/proc").join(process.to_string()).join(kind);
            // A process may have ended meanwhile.
            for entry in fs::read_dir(held).into_iter().flatten().flatten() {
                let path = entry.path();
                // These links lead to the file itself, whatever its name was.
                let Ok(found) = fs::metadata(&path) else {
                    continue;
                };
                let is_unnamed = found.is_file() && found.nlink() == 0;
                if is_unnamed && (devices.contains(&found.dev()) || !is_memory(&path)) {
                    files.insert((found.dev(), found.ino()), found.blocks() * BLOCK);
                }
            }
        }
    }
    files.values().sum()
}

fn is_memory(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == TMPFS_MAGIC)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use nix::unistd::getpid;

    use super::*;

    #[test]
    fn a_file_that_was_deleted_counts_once_for_as_long_as_it_is_open() {
        let folder = tempfile::tempdir().unwrap();
        let before = size(&[getpid()], &[folder.path()]);
        let mut file = tempfile::tempfile_in(folder.path()).unwrap();
        file.write_all(&vec![1; 4 << 20]).unwrap();
        let again = file.try_clone().unwrap();
        let found = size(&[getpid(), getpid()], &[folder.path()]) - before;
        assert!((4 << 20..5 << 20).contains(&found), "{found}");
        drop((file, again));
        assert!(size(&[getpid()], &[folder.path()]) < before + (4 << 20));
    }
}
