//! Who owns what a command may write: an agent of root gives it to the user that the command is.
//!
//! Only while nothing untrusted runs: no link is followed, and nobody swaps one in meanwhile.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::Path;

use super::plan::User;

/// Gives a folder, with what is in it and belongs to `from`, to a user.
pub(super) fn hand_over(folder: &Path, from: u32, to: User) -> io::Result<()> {
    let metadata = fs::symlink_metadata(folder)?;
    if metadata.uid() == from && (metadata.uid(), metadata.gid()) != (to.uid, to.gid) {
        lchown(folder, Some(to.uid), Some(to.gid))?;
    }
    if !metadata.is_dir() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            hand_over(&entry.path(), from, to)?;
        } else if entry.metadata()?.uid() == from {
            lchown(entry.path(), Some(to.uid), Some(to.gid))?;
        }
    }
    Ok(())
}
