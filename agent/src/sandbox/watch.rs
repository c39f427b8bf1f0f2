//! What a run has written, looked at now and then: ordinary users have no quota on ordinary file
//! systems.
//!
//! Between two looks a run may write more than its limit; it ends at the next look then. A disk
//! that is as good as full ends those runs that filled it, whatever their limit is: the agent
//! itself has to go on writing.

mod unnamed;

use std::ffi::OsString;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use super::Exceeded;
use crate::disk::{Folder, Kind};
use crate::host::is_disk_full;
use crate::process::{Finished, Meter, Spawn, SpawnError};

/// The pause between two looks, at the least.
const PAUSE: Duration = Duration::from_secs(1);
/// A look may take this part of the time, where there is much to look at.
const SHARE: u32 = 10;
/// What the smallest file takes: its entry and its inode are paid for too.
const LEAST: u64 = 1024;
/// Who has written less than this has not filled the disk.
const PART: u64 = 256 << 20;
/// Folders that are open at a time. More are needed only for trees that are made to be in the way.
const MOST_OPEN: usize = 400;

/// What a run writes to.
pub(super) struct Written {
    /// The folders that it may write.
    pub(super) folders: Vec<PathBuf>,
    /// Its processes.
    pub(super) meter: Meter,
    /// Ends the run when it fires.
    pub(super) enough: CancellationToken,
}

/// Runs a child to its end, and ends it when it has written more MiB than it may.
pub(super) async fn watched(
    spawn: Spawn,
    (written, disk_mib): (Written, u64),
    cancel: &CancellationToken,
) -> (Result<Finished, SpawnError>, Option<Exceeded>) {
    let (full, limit) = (written.enough.child_token(), disk_mib << 20);
    let look = watch(written, limit, &full);
    let mut found = None;
    let running = spawn.stop(full.clone()).run(cancel);
    tokio::pin!(look, running);
    let finished = loop {
        tokio::select! {
            finished = &mut running => break finished,
            limit = &mut look, if found.is_none() => found = Some(limit),
        }
    };
    (finished, found)
}

/// Looks until more than the limit is there, or the disk is full and this run had its part in it;
/// fires then, and gives what was found. Ends never otherwise.
async fn watch(written: Written, limit: u64, full: &CancellationToken) -> Exceeded {
    let written = Arc::new(written);
    let mut before = None;
    loop {
        let started = Instant::now();
        let looked = Arc::clone(&written);
        let look = tokio::task::spawn_blocking(move || {
            let Written { folders, meter, .. } = &*looked;
            let is_full = folders.iter().any(|folder| is_disk_full(folder));
            let unnamed = unnamed::size(&meter.processes(), folders);
            (used(folders, limit).saturating_add(unnamed), is_full)
        });
        match look.await {
            Ok((used, is_full)) => {
                let before = *before.get_or_insert(used);
                if let Some(exceeded) = judge((before, used), limit, is_full) {
                    full.cancel();
                    return exceeded;
                }
            }
            Err(error) => tracing::warn!(%error, "what a run has written can't be looked at"),
        }
        tokio::time::sleep(PAUSE.max(started.elapsed() * SHARE)).await;
    }
}

/// Whether a run has to end that had so much at its first look and has so much now.
fn judge((before, used): (u64, u64), limit: u64, is_full: bool) -> Option<Exceeded> {
    let written = used.saturating_sub(before);
    if used > limit {
        let (used_mib, limit_mib) = (used >> 20, limit >> 20);
        Some(Exceeded::DiskLimit {
            used_mib,
            limit_mib,
        })
    } else if is_full && written > PART {
        let written_mib = written >> 20;
        Some(Exceeded::DiskFull { written_mib })
    } else {
        None
    }
}

/// Bytes on disk in all folders; counting ends when there is more than the limit.
fn used(folders: &[PathBuf], limit: u64) -> u64 {
    let mut sum = 0;
    for folder in folders {
        // What is not there takes no room.
        if let Ok(folder) = Folder::open(folder) {
            sum = add(folder, sum, limit);
        }
    }
    sum
}

/// Adds what is in a folder. By handles, so that no link leads out and no depth is too deep: a
/// folder is closed as soon as none in it is left to enter.
fn add(top: Folder, mut sum: u64, limit: u64) -> u64 {
    let mut open: Vec<(Arc<Folder>, Vec<OsString>)> = Vec::new();
    let mut next = Some(top);
    loop {
        if let Some(folder) = next.take() {
            let (bytes, inside) = here(&folder).unwrap_or_default();
            sum = sum.saturating_add(bytes);
            if !inside.is_empty() {
                open.push((Arc::new(folder), inside));
            }
        }
        if sum > limit {
            return sum;
        }
        if open.len() > MOST_OPEN {
            return u64::MAX;
        }
        let Some((folder, inside)) = open.last_mut() else {
            return sum;
        };
        let name = inside.pop();
        let folder = Arc::clone(folder);
        if inside.is_empty() {
            open.pop();
        }
        next = name.and_then(|name| folder.look_into(&name).ok());
    }
}

/// Bytes of what is directly in a folder, and the folders in it.
fn here(folder: &Folder) -> io::Result<(u64, Vec<OsString>)> {
    let (mut sum, mut inside) = (0_u64, Vec::new());
    for name in folder.names()? {
        if let Ok(Some(found)) = folder.stat(&name) {
            sum = sum.saturating_add(found.on_disk.max(LEAST));
            if found.kind == Kind::Folder {
                inside.push(name);
            }
        }
    }
    Ok((sum, inside))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_is_on_disk_counts_and_links_and_holes_do_not() {
        let root = tempfile::tempdir().unwrap();
        let (tree, other) = (root.path().join("tree"), root.path().join("other"));
        fs::create_dir_all(tree.join("a/b")).unwrap();
        fs::create_dir(&other).unwrap();
        fs::write(other.join("big"), vec![1; 4 << 20]).unwrap();
        symlink(&other, tree.join("link")).unwrap();
        fs::File::create(tree.join("hole"))
            .unwrap()
            .set_len(1 << 30)
            .unwrap();
        fs::write(tree.join("a/b/file"), vec![1; 1 << 20]).unwrap();
        let found = used(&[tree, root.path().join("absent")], u64::MAX);
        assert!((1 << 20..2 << 20).contains(&found), "{found}");
    }

    #[test]
    fn a_full_disk_ends_who_filled_it_and_nobody_else() {
        let (mib, limit) = (1 << 20, 4096 << 20);
        assert_eq!(judge((0, limit), limit, false), None);
        let over = judge((0, limit + mib), limit, false).unwrap();
        assert!(matches!(
            over,
            Exceeded::DiskLimit {
                limit_mib: 4096,
                ..
            }
        ));
        assert_eq!(judge((900 * mib, 1000 * mib), limit, true), None);
        let full = judge((900 * mib, 1200 * mib), limit, true).unwrap();
        assert_eq!(full, Exceeded::DiskFull { written_mib: 300 });
        assert!(full.voids_result());
    }

    #[test]
    fn files_without_content_take_room_too() {
        let root = tempfile::tempdir().unwrap();
        for number in 0..64 {
            fs::write(root.path().join(number.to_string()), []).unwrap();
        }
        assert!(used(&[root.path().to_owned()], u64::MAX) >= 64 * LEAST);
    }

    #[test]
    fn depth_hides_nothing() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(root.path()).unwrap();
        for _ in 0..2000 {
            folder = folder.make("deep".as_ref()).unwrap();
        }
        folder
            .write("file".as_ref(), &vec![1; 1 << 20], 0o600, None)
            .unwrap();
        assert!(used(&[root.path().to_owned()], u64::MAX) > 3 << 20);
        crate::disk::remove_all(&root.path().join("deep")).unwrap();
    }

    #[test]
    fn a_tree_that_can_not_be_measured_counts_as_too_much() {
        let root = tempfile::tempdir().unwrap();
        let mut folder = Folder::open(root.path()).unwrap();
        for _ in 0..=MOST_OPEN + 1 {
            folder.make("a".as_ref()).unwrap();
            folder = folder.make("b".as_ref()).unwrap();
        }
        assert_eq!(used(&[root.path().to_owned()], u64::MAX - 1), u64::MAX);
        for name in ["a", "b"] {
            crate::disk::remove_all(&root.path().join(name)).unwrap();
        }
    }
}
