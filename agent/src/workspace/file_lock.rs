//! Locks that other processes see, beside those in memory.
//!
//! Two processes meet on one root while an agent is replaced by its successor. The kernel lets go
//! of a lock when its process ends, however it ends, so none is ever stale; the files stay.

use std::fs::{File, TryLockError};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

/// How often a lock that somebody else has is tried again.
const PAUSE: Duration = Duration::from_millis(50);

/// With whom a lock is had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sharing {
    Shared,
    Alone,
}

/// A lock on a file, until this value is dropped.
#[derive(Debug)]
pub(super) struct FileLock(#[expect(dead_code, reason = "closing it gives the lock back")] File);

impl FileLock {
    /// The lock, when nobody else has it in the way.
    pub(super) fn try_take(path: &Path, sharing: Sharing) -> io::Result<Option<Self>> {
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder)?;
        }
        let file = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)?;
        Self::of(file, sharing)
    }

    /// The same for a file that goes with what it stands for; nothing when it just went, too.
    pub(super) fn try_take_existing(path: &Path, sharing: Sharing) -> io::Result<Option<Self>> {
        let file = File::open(path)?;
        let opened = file.metadata()?;
        let lock = Self::of(file, sharing)?;
        let now = std::fs::metadata(path)?;
        let is_same = (opened.dev(), opened.ino()) == (now.dev(), now.ino());
        Ok(lock.filter(|_| is_same))
    }

    fn of(file: File, sharing: Sharing) -> io::Result<Option<Self>> {
        let taken = match sharing {
            Sharing::Shared => file.try_lock_shared(),
            Sharing::Alone => file.try_lock(),
        };
        match taken {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The lock, once nobody else has it in the way.
    pub(super) async fn take(path: &Path, sharing: Sharing) -> io::Result<Self> {
        let mut tries = tokio::time::interval(PAUSE);
        loop {
            tries.tick().await;
            if let Some(lock) = Self::try_take(path, sharing)? {
                return Ok(lock);
            }
        }
    }
}
