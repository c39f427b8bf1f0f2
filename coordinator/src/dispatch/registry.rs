//! Who is connected to this process, with what room, and the way to each session.
//!
//! Memory only: after a restart agents register again and the registry is as before. An agent has
//! one session, from its reservation on: a newer stream of the same process takes the place of an
//! older one, and another process gets it only when the first is not heard any more.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lru::LruCache;
use patchfleet_domain::{Agent, AgentId, AgentState, AgentType, FollowUp, SessionId, Work};
use patchfleet_telemetry::Metrics;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::scheduler::experience::{Experience, Topic};
use crate::scheduler::plan::AgentView;
use crate::store::{Assignment, Renewal};
use entry::Entry;
pub(super) use entry::{Ended, Presence, queue_of_orders};

/// How long a newer stream waits for the older one to end.
const SUPERSEDE_WITHIN: Duration = Duration::from_secs(2);
/// Agents whose experience is remembered after they left: those that were here last.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(32_768).unwrap();

/// An assignment on its way to a session.
#[derive(Debug)]
pub struct Handover {
    /// What the agent gets.
    pub assignment: Assignment,
    /// What experience with it is filed under.
    pub topic: Topic,
    /// How long the task had been queued when it was planned.
    pub waited: Duration,
    /// When that was.
    pub planned: Instant,
}

/// What a session is to do.
#[derive(Debug)]
pub(super) enum Order {
    /// Give the agent an attempt.
    Assign(Box<Handover>),
    /// Tell it that those leases live on.
    Renewed(Vec<Work>),
    /// Send it a follow-up of an attempt's task.
    FollowUp {
        /// Which.
        work: Work,
        /// The comment.
        follow_up: FollowUp,
    },
    /// Tell it to stop an attempt that is not its own any more.
    Stop {
        /// Which.
        work: Work,
        /// A person called the task off.
        called_off: bool,
    },
}

/// A sign of life that the store is to hear of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sign {
    pub(super) agent: AgentId,
    pub(super) state: AgentState,
    /// The attempts that it had by then.
    pub(super) held: Vec<Work>,
}

/// A session that takes its place.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) session: SessionId,
    pub(super) agent: Agent,
    pub(super) instance: Uuid,
    /// The attempts that it has already.
    pub(super) held: Vec<Work>,
    /// Those that it was told to stop and that take their slots until it has.
    pub(super) revoked: Vec<Work>,
    /// How long it may be silent before it gets nothing new.
    pub(super) patience: Duration,
    /// The way to it.
    pub(super) orders: mpsc::Sender<Order>,
    /// Cancelled when a newer stream takes its place.
    pub(super) superseded: CancellationToken,
    /// Cancelled by the session when it has ended.
    pub(super) ended: CancellationToken,
}

/// Another process with the agent's id is connected and heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Occupied;

/// A session that registers: it has the agent's place, and gets nothing yet.
#[derive(Debug)]
pub(super) struct Reservation {
    pub(super) session: SessionId,
    pub(super) instance: Uuid,
    /// Cancelled when a newer stream takes its place.
    pub(super) superseded: CancellationToken,
}

#[derive(Debug)]
struct Tables {
    reserved: BTreeMap<AgentId, Reservation>,
    connected: BTreeMap<AgentId, Entry>,
    experience: LruCache<AgentId, Arc<Experience>>,
}

/// The connected agents. Cheap to clone; clones see the same.
#[derive(Debug, Clone)]
pub struct Registry {
    tables: Arc<Mutex<Tables>>,
    changed: watch::Sender<u64>,
    metrics: Metrics,
}

impl Registry {
    /// A registry without agents.
    pub fn new(metrics: Metrics) -> Self {
        Self {
            tables: Arc::new(Mutex::new(Tables {
                reserved: BTreeMap::new(),
                connected: BTreeMap::new(),
                experience: LruCache::new(REMEMBERED),
            })),
            changed: watch::Sender::new(0),
            metrics,
        }
    }

    pub(super) const fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Changes when an agent may have got room.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// How many assignments the connected agents could take.
    pub fn room(&self) -> usize {
        let tables = self.lock();
        let entries = tables.connected.values();
        entries.map(|entry| entry.room() as usize).sum()
    }

    /// The types of the connected agents.
    pub fn types(&self) -> BTreeSet<AgentType> {
        let tables = self.lock();
        let entries = tables.connected.values();
        entries
            .map(|entry| entry.agent.agent_type.clone())
            .collect()
    }

    /// The connected agents that have room, as the planner needs them.
    pub fn open(&self) -> Vec<AgentView> {
        let tables = self.lock();
        let Tables {
            connected,
            experience,
            ..
        } = &*tables;
        let open = connected.iter().filter(|(_, entry)| entry.room() > 0);
        let view = |(id, entry): (&AgentId, &Entry)| {
            entry.view(experience.peek(id).cloned().unwrap_or_default())
        };
        open.map(view).collect()
    }

    /// The connected agents as they are now.
    pub fn connected(&self) -> Vec<Agent> {
        self.lock().connected.values().map(Entry::seen).collect()
    }

    /// Hands an assignment to the agent's session. False when there is none, or its channel is
    /// full; the agent has no room then until its next heartbeat.
    #[must_use = "an assignment that was not handed over has to be given up"]
    pub fn assign(&self, agent: &AgentId, handover: Handover) -> bool {
        let work = handover.assignment.work;
        let topic = handover.topic.clone();
        self.with(agent, |entry| {
            let order = Order::Assign(Box::new(handover));
            entry.give(order, (work, topic))
        })
        .unwrap_or(false)
    }

    /// Gives the agent's place to a new session. An older one of the same process, or one that was
    /// not heard for as long as `silence`, is ended, and its end is waited for, for a moment.
    pub(super) async fn reserve(
        &self,
        agent: &AgentId,
        newer: Reservation,
        silence: Duration,
    ) -> Result<(), Occupied> {
        let Some(older) = self.displace(agent, newer, silence)? else {
            return Ok(());
        };
        let ended = tokio::time::timeout(SUPERSEDE_WITHIN, older.ended.cancelled());
        if ended.await.is_err() {
            tracing::warn!(agent.id = %agent, "an older stream ends slowly");
        }
        Ok(())
    }

    fn displace(
        &self,
        agent: &AgentId,
        newer: Reservation,
        silence: Duration,
    ) -> Result<Option<Entry>, Occupied> {
        let mut tables = self.lock();
        let connected = tables.connected.get(agent);
        let is_heard = connected
            .is_some_and(|older| older.instance != newer.instance && older.was_heard(silence));
        let registers = tables.reserved.get(agent);
        if is_heard || registers.is_some_and(|older| older.instance != newer.instance) {
            return Err(Occupied);
        }
        if let Some(older) = tables.reserved.insert(agent.clone(), newer) {
            older.superseded.cancel();
        }
        let older = tables.connected.remove(agent);
        drop(tables);
        if let Some(older) = &older {
            self.count(&older.agent, -1);
            older.superseded.cancel();
        }
        Ok(older)
    }

    /// Makes the session that has the agent's place the agent's one; from here on it may get
    /// assignments. False when a newer one has the place.
    #[must_use = "a session without the place has to end"]
    pub(super) fn connect(&self, connection: Connection) -> bool {
        let id = connection.agent.id.clone();
        let mut tables = self.lock();
        let reserved = tables.reserved.get(&id);
        if reserved.is_none_or(|reserved| reserved.session != connection.session) {
            return false;
        }
        tables.reserved.remove(&id);
        self.count(&connection.agent, 1);
        tables.connected.insert(id, Entry::new(connection));
        drop(tables);
        self.wake();
        true
    }

    /// Forgets the session; false when another one has taken its place already.
    pub(super) fn disconnect(&self, agent: &AgentId, session: SessionId) -> bool {
        let mut tables = self.lock();
        let registers = tables.reserved.get(agent);
        if registers.is_some_and(|reserved| reserved.session == session) {
            tables.reserved.remove(agent);
            return true;
        }
        let is_current = tables
            .connected
            .get(agent)
            .is_some_and(|entry| entry.session == session);
        if is_current && let Some(entry) = tables.connected.remove(agent) {
            self.count(&entry.agent, -1);
        }
        is_current
    }

    /// Takes in a heartbeat; tells the attempts that it names and that were not given to it.
    pub(super) fn heartbeat(&self, agent: &AgentId, presence: Presence) -> BTreeSet<Work> {
        let taken_in = self.with(agent, |entry| {
            let (before, room) = (entry.agent.state, entry.room());
            let strange = entry.heartbeat(presence);
            let changed = before != entry.agent.state;
            if changed {
                self.count_in(&entry.agent, before, -1);
                self.count(&entry.agent, 1);
            }
            (strange, changed || entry.room() > room)
        });
        let (strange, news) = taken_in.unwrap_or_default();
        if news {
            self.wake();
        }
        strange
    }

    /// The agent and its instance, when it gives another reason for taking nothing than the store
    /// has of it.
    pub(super) fn changed_reason(&self, agent: &AgentId) -> Option<(Agent, Uuid)> {
        self.with(agent, Entry::changed_reason).flatten()
    }

    /// Takes the signs of life that the store has not heard of, or not within `every`.
    pub(super) fn signs(&self, every: Duration) -> Vec<Sign> {
        let mut tables = self.lock();
        let entries = tables.connected.values_mut();
        entries.filter_map(|entry| entry.sign(every)).collect()
    }

    /// The store could not hear of them: they are taken again next time.
    pub(super) fn untold(&self, signs: &[Sign]) {
        for sign in signs {
            self.with(&sign.agent, Entry::untold);
        }
    }

    /// The leases of the agent's accepted attempts were renewed, which it hears. Tells the live
    /// attempts that it has not named for as long as `patience`.
    pub(super) fn renewed(
        &self,
        agent: &AgentId,
        live: &[Renewal],
        patience: Duration,
    ) -> Vec<Work> {
        let works: Vec<_> = live.iter().map(|live| live.work).collect();
        let accepted = live.iter().filter(|live| live.is_accepted);
        let accepted: Vec<_> = accepted.map(|live| live.work).collect();
        let forgotten = self.with(agent, |entry| {
            if !accepted.is_empty() {
                entry.order(Order::Renewed(accepted));
            }
            entry.forgotten(&works, patience)
        });
        forgotten.unwrap_or_default()
    }

    /// Has the agent told to stop an attempt, if it has it.
    pub(super) fn stop(&self, agent: &AgentId, work: Work, called_off: bool) {
        self.with(agent, |entry| {
            if entry.has(work) {
                entry.order(Order::Stop { work, called_off });
            }
        });
    }

    /// Has a follow-up sent to the agent, if it has that attempt.
    pub(super) fn send_follow_up(&self, agent: &AgentId, work: Work, follow_up: FollowUp) {
        self.with(agent, |entry| entry.send_follow_up(work, follow_up));
    }

    /// True when the attempt was given to the agent in this session.
    pub(super) fn holds(&self, agent: &AgentId, work: Work) -> bool {
        self.with(agent, |entry| entry.holds(work)).unwrap_or(false)
    }

    /// The agent turned out to have an attempt.
    pub(super) fn hold(&self, agent: &AgentId, work: Work) {
        self.with(agent, |entry| entry.hold(work, None));
    }

    /// Remembers that the agent was told to stop; false when it was told before. The slot stays
    /// taken until the agent has stopped.
    pub(super) fn revoke(&self, agent: &AgentId, work: Work) -> bool {
        self.with(agent, |entry| entry.revoke(work))
            .unwrap_or(false)
    }

    /// The attempt ended at the agent: its slot is free, and how it went is remembered.
    pub(super) fn release(&self, agent: &AgentId, work: Work, how: Ended) {
        {
            let mut tables = self.lock();
            let topic = tables
                .connected
                .get_mut(agent)
                .and_then(|entry| entry.release(work, how));
            if let (Some(topic), Ended::Finished { succeeded }) = (topic, how) {
                let past = tables
                    .experience
                    .get_or_insert_mut(agent.clone(), Arc::default);
                Arc::make_mut(past).record(topic, succeeded);
            }
        }
        self.wake();
    }

    fn wake(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    fn count(&self, agent: &Agent, by: i64) {
        self.count_in(agent, agent.state, by);
    }

    fn count_in(&self, agent: &Agent, state: AgentState, by: i64) {
        let labels = [state.as_str(), agent.agent_type.as_str()];
        self.metrics.agents.with_label_values(&labels).add(by);
    }

    fn lock(&self) -> MutexGuard<'_, Tables> {
        // Nothing panics while the lock is held, so what is inside is whole.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, agent: &AgentId, act: impl FnOnce(&mut Entry) -> T) -> Option<T> {
        self.lock().connected.get_mut(agent).map(act)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SILENCE: Duration = Duration::from_secs(30);

    fn id() -> AgentId {
        "backend-1".parse().unwrap()
    }

    fn reservation(instance: Uuid) -> Reservation {
        Reservation {
            session: SessionId::new(),
            instance,
            superseded: CancellationToken::new(),
        }
    }

    /// Connects a session; what it is given nobody reads.
    async fn connected(registry: &Registry, instance: Uuid) -> mpsc::Receiver<Order> {
        let newer = reservation(instance);
        let (orders, unread) = mpsc::channel(1);
        let connection = Connection {
            session: newer.session,
            agent: entry::tests::agent(id()),
            instance,
            held: Vec::new(),
            revoked: Vec::new(),
            patience: SILENCE,
            orders,
            superseded: newer.superseded.clone(),
            ended: CancellationToken::new(),
        };
        registry.reserve(&id(), newer, SILENCE).await.unwrap();
        assert!(registry.connect(connection));
        unread
    }

    #[tokio::test(start_paused = true)]
    async fn another_process_gets_the_place_when_the_first_is_silent_or_gone() {
        let registry = Registry::new(Metrics::new());
        let (first, second) = (Uuid::now_v7(), Uuid::now_v7());
        let reserve = async |instance| {
            let newer = reservation(instance);
            let session = newer.session;
            let reserved = registry.reserve(&id(), newer, SILENCE).await;
            reserved.map(|()| session)
        };
        let _orders = connected(&registry, first).await;
        assert_eq!(reserve(second).await, Err(Occupied));
        tokio::time::advance(SILENCE).await;
        assert_eq!(reserve(second).await, Err(Occupied));
        tokio::time::advance(Duration::from_secs(1)).await;
        let session = reserve(second).await.unwrap();
        assert_eq!(reserve(first).await, Err(Occupied), "it registers");
        let newer = reserve(second).await.unwrap();
        assert!(!registry.disconnect(&id(), session), "it was displaced");
        assert!(registry.disconnect(&id(), newer));
        assert!(reserve(first).await.is_ok());
    }
}
