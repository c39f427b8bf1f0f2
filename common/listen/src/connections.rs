//! Who is connected, and who goes when there is no room.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::phase::Phase;

/// All connections of a listener. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct Connections {
    bound: usize,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    next: u64,
    seats: HashMap<u64, (Arc<watch::Sender<Phase>>, CancellationToken)>,
}

/// A connection's place; it is free again when this is dropped.
pub(crate) struct Seat {
    /// What the connection does.
    pub(crate) phase: Arc<watch::Sender<Phase>>,
    /// Cancelled when it has to make room.
    pub(crate) shed: CancellationToken,
    number: u64,
    connections: Connections,
}

impl Connections {
    pub(crate) fn new(bound: usize) -> Self {
        Self {
            bound,
            table: Arc::default(),
        }
    }

    /// A place for a new connection, for which another one may have to go; nothing when every other
    /// one is being answered.
    pub(crate) fn enter(&self) -> Option<Seat> {
        let mut table = self.table();
        if table.seats.len() >= self.bound && !table.shed() {
            return None;
        }
        let number = table.next;
        table.next += 1;
        let phase = Arc::new(watch::Sender::new(Phase::idle()));
        let shed = CancellationToken::new();
        let seat = (Arc::clone(&phase), shed.clone());
        table.seats.insert(number, seat);
        Some(Seat {
            phase,
            shed,
            number,
            connections: self.clone(),
        })
    }

    /// Closes the connection that has done nothing for longest.
    pub(crate) fn shed(&self) {
        self.table().shed();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// False when all are being answered.
    fn shed(&mut self) -> bool {
        let idle = self.seats.iter().filter_map(|(number, (phase, _))| {
            let since = phase.borrow().quiet_since()?;
            Some((since, *number))
        });
        let Some((_, number)) = idle.min() else {
            tracing::warn!(connections = self.seats.len(), "all connections are in use");
            return false;
        };
        if let Some((_, shed)) = self.seats.remove(&number) {
            tracing::debug!("an idle connection makes room for a new one");
            shed.cancel();
        }
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.table().seats.remove(&self.number);
    }
}
