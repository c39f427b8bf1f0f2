//! Who is connected, and who goes when there is no room.
//!
//! Room is shared by source address: of the connections on which nothing is answered, the oldest of
//! the source that has the most goes. A host that opens thousands takes room from itself, and from
//! another one only when that has as many. A newcomer gets in as long as there is one that may go.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::phase::Phase;
use crate::{Limits, Source};

/// All connections of a listener. Cheap to clone; clones share them.
#[derive(Clone)]
pub(crate) struct Connections {
    bound: usize,
    quiet: usize,
    table: Arc<Mutex<Table>>,
}

#[derive(Default)]
struct Table {
    next: u64,
    entries: HashMap<u64, Entry>,
}

/// What is known of a connection from outside its task.
struct Entry {
    source: Source,
    phase: Arc<watch::Sender<Phase>>,
    shed: CancellationToken,
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

/// The quiet connections of one source: how many, and since when the oldest is and its number.
struct Quiet {
    count: usize,
    oldest: (Instant, u64),
}

impl Connections {
    pub(crate) fn new(limits: Limits) -> Self {
        Self {
            bound: limits.connections,
            quiet: limits.quiet,
            table: Arc::default(),
        }
    }

    /// A place for a new connection, for which a quiet one may have to go; nothing when there is
    /// no room and none is quiet.
    pub(crate) fn enter(&self, source: Source, phase: Phase) -> Option<Seat> {
        let mut table = self.table();
        let is_full = table.entries.len() >= self.bound || table.has_quiet(self.quiet);
        if is_full && !table.shed() {
            return None;
        }
        let number = table.next;
        table.next += 1;
        let phase = Arc::new(watch::Sender::new(phase));
        let shed = CancellationToken::new();
        let entry = Entry {
            source,
            phase: Arc::clone(&phase),
            shed: shed.clone(),
        };
        table.entries.insert(number, entry);
        Some(Seat {
            phase,
            shed,
            number,
            connections: self.clone(),
        })
    }

    /// Closes a quiet connection, because the system has no more descriptors.
    pub(crate) fn shed(&self) {
        self.table().shed();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    /// Each connection on which nothing is answered: whose, since when, and its number.
    fn quiet(&self) -> impl Iterator<Item = (Source, (Instant, u64))> {
        self.entries.iter().filter_map(|(number, entry)| {
            let since = entry.phase.borrow().quiet_since()?;
            Some((entry.source, (since, *number)))
        })
    }

    /// Whether there are that many quiet ones.
    fn has_quiet(&self, many: usize) -> bool {
        self.entries.len() >= many && self.quiet().take(many).count() == many
    }

    /// Closes the oldest of the source that has the most; false when all are being answered.
    fn shed(&mut self) -> bool {
        let mut sources: HashMap<Source, Quiet> = HashMap::new();
        for (source, oldest) in self.quiet() {
            let quiet = sources.entry(source).or_insert(Quiet { count: 0, oldest });
            quiet.count += 1;
            quiet.oldest = quiet.oldest.min(oldest);
        }
        let weight = |quiet: &Quiet| (quiet.count, Reverse(quiet.oldest));
        let Some(heaviest) = sources.into_values().max_by_key(weight) else {
            tracing::warn!(
                connections = self.entries.len(),
                "all connections are in use"
            );
            return false;
        };
        if let Some(entry) = self.entries.remove(&heaviest.oldest.1) {
            tracing::debug!(source = %entry.source, "a quiet connection makes room for a new one");
            entry.shed.cancel();
        }
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.connections.table().entries.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phase::Answering;

    fn source(last: u8) -> Source {
        std::net::SocketAddr::from(([192, 0, 2, last], 40_000)).into()
    }

    /// Room for six connections, four of which may be quiet.
    fn connections() -> Connections {
        Connections::new(Limits {
            connections: 6,
            quiet: 4,
            ..Limits::default()
        })
    }

    fn enter(connections: &Connections, last: u8) -> Option<Seat> {
        connections.enter(source(last), Phase::idle())
    }

    #[test]
    fn a_source_with_many_connections_takes_room_from_itself_alone() {
        let connections = connections();
        let flood: Vec<_> = (0..4).map(|_| enter(&connections, 1).unwrap()).collect();
        let other = enter(&connections, 2).unwrap();
        assert!(flood[0].shed.is_cancelled() && !flood[1].shed.is_cancelled());
        let _more: Vec<_> = (0..20).map(|_| enter(&connections, 1).unwrap()).collect();
        assert!(flood.iter().all(|seat| seat.shed.is_cancelled()));
        assert!(!other.shed.is_cancelled());
    }

    #[test]
    fn of_sources_with_as_many_connections_the_one_that_waits_longest_goes() {
        let connections = connections();
        let seats: Vec<_> = (1..=4).map(|last| enter(&connections, last)).collect();
        let _fifth = enter(&connections, 5).unwrap();
        let gone = seats.iter().flatten().map(|seat| seat.shed.is_cancelled());
        assert_eq!(gone.collect::<Vec<_>>(), [true, false, false, false]);
    }

    #[test]
    fn what_is_answered_never_makes_room_and_takes_none_of_those_who_wait() {
        let connections = connections();
        let answer = |_| {
            let seat = enter(&connections, 1).unwrap();
            let answering = Answering::begin(&seat.phase);
            (seat, answering)
        };
        let mut answered: Vec<_> = (0..2).map(answer).collect();
        let strangers: Vec<_> = (2..6).map(|last| enter(&connections, last)).collect();
        assert!(
            strangers
                .iter()
                .flatten()
                .all(|seat| !seat.shed.is_cancelled()),
            "there is room for four quiet ones beside them"
        );
        let _more: Vec<_> = (6..20).map(|last| enter(&connections, last)).collect();
        assert!(answered.iter().all(|(seat, _)| !seat.shed.is_cancelled()));
        answered.extend((0..4).map(answer));
        assert!(enter(&connections, 9).is_none(), "all six are answered");
        answered.pop();
        assert!(enter(&connections, 9).is_some());
    }
}
