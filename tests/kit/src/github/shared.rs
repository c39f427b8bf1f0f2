//! What the simulator's handle, its server and its tasks share.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::interference::Interference;
use super::journal::Journal;
use super::state::State;

/// The inside of a running simulator.
pub(crate) struct Shared {
    state: Mutex<State>,
    /// Faults and gates, under their own lock: they act before state is touched.
    pub(crate) interference: Interference,
    pub(crate) journal: Journal,
    /// Rings after every request, delivery and act.
    pub(crate) changed: Notify,
    pub(crate) stop: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

impl Shared {
    pub(crate) fn new(state: State) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            interference: Interference::default(),
            journal: Journal::default(),
            changed: Notify::new(),
            stop: CancellationToken::new(),
            tasks: TaskTracker::new(),
        })
    }

    /// The state, locked. Never held across an await.
    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        // A panic of one test must not hide behind a second one here.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
