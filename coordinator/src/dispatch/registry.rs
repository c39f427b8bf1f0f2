//! Who is connected to this process, with what room, and the way to each session.
//!
//! Memory only: after a restart agents register again and the registry is as before. An agent has
//! one session; a newer stream takes the place of an older one.

mod entry;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use patchfleet_domain::{Agent, AgentId, AgentState, AgentType, SessionId, Work};
use patchfleet_telemetry::Metrics;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::scheduler::experience::{Experience, Topic};
use crate::scheduler::plan::AgentView;
use crate::store::Assignment;
use entry::Entry;
pub(super) use entry::{Ended, Presence};

/// How long a newer stream waits for the older one to end.
const SUPERSEDE_WITHIN: Duration = Duration::from_secs(2);
/// Agents whose last process and experience are remembered after they left.
const REMEMBERED: usize = 4096;

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
    /// How long it may be silent before it gets nothing new.
    pub(super) patience: Duration,
    /// The way to it.
    pub(super) orders: mpsc::Sender<Order>,
    /// Cancelled when a newer stream takes its place.
    pub(super) superseded: CancellationToken,
    /// Cancelled by the session when it has ended.
    pub(super) ended: CancellationToken,
}

/// What is remembered of an agent over its sessions.
#[derive(Debug, Default)]
struct Known {
    instance: Option<Uuid>,
    experience: Arc<Experience>,
}

#[derive(Debug, Default)]
struct Tables {
    connected: BTreeMap<AgentId, Entry>,
    known: BTreeMap<AgentId, Known>,
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
            tables: Arc::default(),
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
        let Tables { connected, known } = &*tables;
        let open = connected.iter().filter(|(_, entry)| entry.room() > 0);
        let view = |(id, entry): (&AgentId, &Entry)| {
            let past = known.get(id).map(|known| known.experience.clone());
            entry.view(past.unwrap_or_default())
        };
        open.map(view).collect()
    }

    /// The connected agents as they are now.
    pub fn connected(&self) -> Vec<Agent> {
        self.lock().connected.values().map(Entry::seen).collect()
    }

    /// Hands an assignment to the agent's session. False when there is none, or it is stuck.
    #[must_use = "an assignment that was not handed over has to be given up"]
    pub fn assign(&self, agent: &AgentId, handover: Handover) -> bool {
        let work = handover.assignment.work;
        let topic = handover.topic.clone();
        self.with(agent, |entry| {
            let taken = entry.order(Order::Assign(Box::new(handover)));
            if taken {
                entry.hold(work, Some(topic));
            }
            taken
        })
        .unwrap_or(false)
    }

    /// Ends the agent's session, if it has one, and waits for its end for a moment.
    pub(super) async fn supersede(&self, agent: &AgentId) {
        let removed = self.lock().connected.remove(agent);
        if let Some(entry) = removed {
            self.count(&entry.agent, -1);
            entry.superseded.cancel();
            let ended = tokio::time::timeout(SUPERSEDE_WITHIN, entry.ended.cancelled());
            if ended.await.is_err() {
                tracing::warn!(agent.id = %agent, "an older stream ends slowly");
            }
        }
    }

    /// True when the agent's last session was with this very process.
    pub(super) fn is_same_process(&self, agent: &AgentId, instance: Uuid) -> bool {
        let tables = self.lock();
        let known = tables.known.get(agent);
        known.is_some_and(|known| known.instance == Some(instance))
    }

    /// Makes the session the agent's one; from here on it may get assignments.
    pub(super) fn connect(&self, connection: Connection) {
        let id = connection.agent.id.clone();
        let mut tables = self.lock();
        if tables.known.len() >= REMEMBERED && !tables.known.contains_key(&id) {
            tables.known.pop_first();
        }
        tables.known.entry(id.clone()).or_default().instance = Some(connection.instance);
        self.count(&connection.agent, 1);
        let older = tables.connected.insert(id, Entry::new(connection));
        drop(tables);
        if let Some(older) = older {
            self.count(&older.agent, -1);
            older.superseded.cancel();
        }
        self.wake();
    }

    /// Forgets the session; false when another one has taken its place already.
    pub(super) fn disconnect(&self, agent: &AgentId, session: SessionId) -> bool {
        let mut tables = self.lock();
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

    /// The agent, when it gives another reason for taking nothing than the store has of it.
    pub(super) fn changed_reason(&self, agent: &AgentId) -> Option<Agent> {
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

    /// The agent's leases were renewed. Tells the attempts among them that it has not named for
    /// as long as `patience`.
    pub(super) fn renewed(
        &self,
        agent: &AgentId,
        live: Vec<Work>,
        patience: Duration,
    ) -> Vec<Work> {
        let forgotten = self.with(agent, |entry| {
            let forgotten = entry.forgotten(&live, patience);
            entry.order(Order::Renewed(live));
            forgotten
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
            let Tables { connected, known } = &mut *tables;
            let topic = connected
                .get_mut(agent)
                .and_then(|entry| entry.release(work, how));
            if let (Some(topic), Ended::Finished { succeeded }) = (topic, how) {
                let known = known.entry(agent.clone()).or_default();
                Arc::make_mut(&mut known.experience).record(topic, succeeded);
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
