//! One connected agent: what it said last, what it has, how much room that leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::{Agent, AgentState, RepositoryName, SessionId, TaskId, Work};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::{Connection, Handover};
use crate::scheduler::experience::{Experience, Topic};
use crate::scheduler::plan::AgentView;

/// How long a refused task is rather given to others.
const DECLINED_FOR: Duration = Duration::from_mins(1);

/// What a heartbeat says.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::dispatch) struct Presence {
    pub(in crate::dispatch) state: AgentState,
    pub(in crate::dispatch) load: f32,
    pub(in crate::dispatch) free_slots: u32,
    pub(in crate::dispatch) warm_repositories: BTreeSet<RepositoryName>,
    pub(in crate::dispatch) current: BTreeSet<Work>,
}

/// How an attempt ended at the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dispatch) enum Ended {
    /// It was refused.
    Refused,
    /// It was finished.
    Finished {
        /// With the result that was wanted.
        succeeded: bool,
    },
    /// It stopped without a result that counts.
    Stopped,
}

#[derive(Debug, Default)]
struct Held {
    topic: Option<Topic>,
    /// The agent was told to stop.
    revoked: bool,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) session: SessionId,
    pub(super) agent: Agent,
    pub(super) handovers: mpsc::Sender<Handover>,
    pub(super) superseded: CancellationToken,
    pub(super) ended: CancellationToken,
    held: BTreeMap<Work, Held>,
    /// Slots that the agent uses for something that the coordinator did not give it.
    reserved: u32,
    /// It refused something and is left alone until its next heartbeat says why.
    resting: bool,
    declined: BTreeMap<TaskId, Instant>,
}

impl Entry {
    pub(super) fn new(connection: Connection) -> Self {
        let held = connection.held.into_iter();
        Self {
            session: connection.session,
            agent: connection.agent,
            handovers: connection.handovers,
            superseded: connection.superseded,
            ended: connection.ended,
            held: held.map(|work| (work, Held::default())).collect(),
            reserved: 0,
            resting: false,
            declined: BTreeMap::new(),
        }
    }

    /// The agent with its room: what it has minus what it was given, not what it last said, since
    /// a heartbeat is older than the last assignment.
    pub(super) fn view(&mut self, experience: Arc<Experience>) -> AgentView {
        self.declined.retain(|_, at| at.elapsed() < DECLINED_FOR);
        let given = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let taken = given.saturating_add(self.reserved);
        let free_slots = if self.resting {
            0
        } else {
            self.agent.slots.saturating_sub(taken)
        };
        AgentView {
            agent: Agent {
                free_slots,
                ..self.agent.clone()
            },
            declined: self.declined.keys().copied().collect(),
            experience,
        }
    }

    pub(super) fn heartbeat(&mut self, presence: Presence) {
        let current = u32::try_from(presence.current.len()).unwrap_or(u32::MAX);
        let unused = presence.free_slots.saturating_add(current);
        self.reserved = self.agent.slots.saturating_sub(unused);
        self.resting = false;
        self.agent.state = presence.state;
        self.agent.load = presence.load;
        self.agent.warm_repositories = presence.warm_repositories;
        self.held
            .retain(|work, held| !held.revoked || presence.current.contains(work));
    }

    pub(super) fn held(&self) -> Vec<Work> {
        let live = self.held.iter().filter(|(_, held)| !held.revoked);
        live.map(|(work, _)| *work).collect()
    }

    pub(super) fn holds(&self, work: Work) -> bool {
        self.held.contains_key(&work)
    }

    pub(super) fn hold(&mut self, work: Work, topic: Option<Topic>) {
        let held = self.held.entry(work).or_default();
        held.topic = topic.or(held.topic.take());
    }

    pub(super) fn revoke(&mut self, work: Work) -> bool {
        let held = self.held.entry(work).or_default();
        !std::mem::replace(&mut held.revoked, true)
    }

    pub(super) fn release(&mut self, work: Work, how: Ended) -> Option<Topic> {
        if how == Ended::Refused {
            self.resting = true;
            self.declined.insert(work.task, Instant::now());
        }
        self.held.remove(&work)?.topic
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchfleet_domain::{AttemptNumber, SecurityLevel};

    fn entry() -> Entry {
        let (handovers, _) = mpsc::channel(1);
        Entry::new(Connection {
            session: SessionId::new(),
            agent: Agent {
                id: "a".parse().unwrap(),
                agent_type: "general".parse().unwrap(),
                capabilities: BTreeSet::new(),
                clearance: SecurityLevel::Public,
                slots: 3,
                free_slots: 3,
                state: AgentState::Idle,
                load: 0.0,
                warm_repositories: BTreeSet::new(),
                version: "1".to_owned(),
            },
            instance: uuid::Uuid::now_v7(),
            held: Vec::new(),
            handovers,
            superseded: CancellationToken::new(),
            ended: CancellationToken::new(),
        })
    }

    fn work() -> Work {
        Work {
            task: TaskId::new(),
            attempt: AttemptNumber(1),
        }
    }

    fn said(free_slots: u32, current: &[Work]) -> Presence {
        Presence {
            state: AgentState::Busy,
            load: 0.5,
            free_slots,
            warm_repositories: BTreeSet::new(),
            current: current.iter().copied().collect(),
        }
    }

    fn room(entry: &mut Entry) -> u32 {
        entry.view(Arc::default()).agent.free_slots
    }

    #[test]
    fn room_is_what_was_not_given_away() {
        let mut entry = entry();
        let (first, second) = (work(), work());
        entry.hold(first, None);
        entry.hold(second, None);
        assert_eq!(room(&mut entry), 1);
        entry.heartbeat(said(3, &[]));
        assert_eq!(room(&mut entry), 1, "an older heartbeat makes no room");
        entry.release(first, Ended::Finished { succeeded: true });
        assert_eq!(room(&mut entry), 2);
        entry.heartbeat(said(1, &[second]));
        assert_eq!(room(&mut entry), 1, "one slot is used for something else");
    }

    #[test]
    fn a_revoked_attempt_takes_its_slot_until_the_agent_stopped() {
        let mut entry = entry();
        let work = work();
        entry.hold(work, None);
        assert!(entry.revoke(work));
        assert!(!entry.revoke(work), "told once");
        assert!(entry.held().is_empty());
        entry.heartbeat(said(2, &[work]));
        assert_eq!(room(&mut entry), 2);
        entry.heartbeat(said(3, &[]));
        assert_eq!(room(&mut entry), 3);
    }

    #[test]
    fn after_a_refusal_the_agent_is_left_alone_until_its_next_heartbeat() {
        let mut entry = entry();
        let work = work();
        entry.hold(work, None);
        entry.release(work, Ended::Refused);
        assert_eq!(room(&mut entry), 0);
        entry.heartbeat(said(3, &[]));
        let view = entry.view(Arc::default());
        assert_eq!(view.agent.free_slots, 3);
        assert!(view.declined.contains(&work.task));
    }
}
