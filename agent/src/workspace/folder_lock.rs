//! One attempt at a time in a task's folder.
//!
//! An attempt that was called off goes on until its processes are dead and its files are written.
//! The next attempt of the same task waits for that, and so does the sweep.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use patchfleet_domain::TaskId;

use crate::git::FolderLock;

/// The locks of all tasks' folders of one agent.
#[derive(Debug, Clone, Default)]
pub(super) struct FolderLocks(Arc<Mutex<BTreeMap<TaskId, Weak<tokio::sync::Mutex<()>>>>>);

impl FolderLocks {
    /// Waits until nobody works in the task's folder.
    pub(super) async fn lock(&self, task: TaskId) -> FolderLock {
        Arc::new(self.of(task).lock_owned().await)
    }

    /// The lock, when nobody works in the task's folder.
    pub(super) fn try_lock(&self, task: TaskId) -> Option<FolderLock> {
        self.of(task).try_lock_owned().ok().map(Arc::new)
    }

    fn of(&self, task: TaskId) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(&task).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::default();
        locks.insert(task, Arc::downgrade(&lock));
        lock
    }
}
