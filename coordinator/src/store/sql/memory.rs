//! Tasks that are on their way to an agent or that agents are at work on, as this process left them.
//!
//! A memory may be old: somebody else may have been at the task since. It comes with the version of
//! the task's row, and only a change of that very version counts ([`super::unit`]). Whoever takes a
//! memory removes it, so what has failed once is not believed again: it is remembered anew when it
//! was found to be true.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};

use lru::LruCache;
use patchfleet_domain::{TaskId, TaskState};

use super::stored::Version;
use crate::store::held::Held;

/// Most tasks at work that are remembered: as many as the agents of one coordinator work on.
const AT_WORK: NonZeroUsize = NonZeroUsize::new(20_000).unwrap();
/// Most tasks that are on their way. Those of a long queue are read when their turn comes.
const COMING: NonZeroUsize = NonZeroUsize::new(1024).unwrap();

type Known = LruCache<TaskId, (Held, Version)>;

/// What is remembered. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Memory(Arc<Mutex<Tables>>);

#[derive(Debug)]
struct Tables {
    coming: Known,
    at_work: Known,
}

impl Default for Memory {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Tables {
            coming: LruCache::new(COMING),
            at_work: LruCache::new(AT_WORK),
        })))
    }
}

impl Memory {
    /// Takes out what is remembered of those of the tasks that were left in such a state.
    pub(super) fn take(
        &self,
        tasks: &BTreeSet<TaskId>,
        in_state: fn(TaskState) -> bool,
    ) -> Vec<(Held, Version)> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = |task| known.pop_in(task, in_state);
        tasks.iter().filter_map(known).collect()
    }

    /// Remembers those of the tasks that may be asked for soon, and forgets the others.
    pub(super) fn keep(&self, tasks: impl Iterator<Item = (Held, Version)>) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (held, version) in tasks {
            let (id, state) = (held.task.id, held.task.state);
            known.pop(&id);
            if state.has_live_attempt() {
                known.at_work.put(id, (held, version));
            } else if matches!(state, TaskState::Pending | TaskState::Queued) {
                known.coming.put(id, (held, version));
            }
        }
    }
}

impl Tables {
    fn pop_in(
        &mut self,
        task: &TaskId,
        in_state: fn(TaskState) -> bool,
    ) -> Option<(Held, Version)> {
        let known = self.at_work.peek(task).or_else(|| self.coming.peek(task));
        known.filter(|(held, _)| in_state(held.task.state))?;
        self.pop(task)
    }

    fn pop(&mut self, task: &TaskId) -> Option<(Held, Version)> {
        self.at_work.pop(task).or_else(|| self.coming.pop(task))
    }
}
