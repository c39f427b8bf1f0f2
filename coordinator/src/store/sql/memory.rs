//! Tasks that agents are at work on, as this process left them.
//!
//! A memory may be old: somebody else may have been at the task since. It comes with the version of
//! the task's row, and only a change of that very version counts ([`super::unit`]). Whoever takes a
//! memory removes it, so what has failed once is not believed again.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use patchfleet_domain::TaskId;

use super::unit::Version;
use crate::store::held::Held;

/// Most tasks that are remembered: as many as the agents of one coordinator are at work on.
const MOST: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();

/// What is remembered. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Mutex<LruCache<TaskId, (Held, Version)>>>);

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(MOST))))
    }
}

impl Memory {
    /// Takes out what is remembered of the tasks.
    pub(super) fn take(&self, tasks: &BTreeSet<TaskId>) -> Vec<(Held, Version)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.iter().filter_map(|task| known.pop(task)).collect()
    }

    /// Remembers those of the tasks that agents are at work on, and forgets the others.
    pub(super) fn keep(&self, tasks: impl Iterator<Item = (Held, Version)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (held, version) in tasks {
            let id = held.task.id;
            if held.task.state.has_live_attempt() {
                known.put(id, (held, version));
            } else {
                known.pop(&id);
            }
        }
    }
}
