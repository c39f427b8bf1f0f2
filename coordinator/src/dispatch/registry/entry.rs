//! One connected agent: what it said last, what it has, how much room that leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::{Agent, AgentState, FollowUp, RepositoryName, SessionId, Work};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Connection, Order, Sign};
use crate::scheduler::experience::{Experience, Topic};
use crate::scheduler::plan::AgentView;

/// Most follow-ups that wait for a session.
const MOST_FOLLOW_UPS: usize = 16;

/// Most orders about attempts that wait for the session of an agent with so many slots: each slot's attempt
/// may be given, stopped and given again before the first was sent.
const fn most_orders(slots: u32) -> usize {
    slots as usize * 3 + 1
}

/// Most orders of any kind that wait for the session of an agent with so many slots.
pub(in crate::dispatch) const fn queue_of_orders(slots: u32) -> usize {
    most_orders(slots) + MOST_FOLLOW_UPS
}

/// What a heartbeat says.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::dispatch) struct Presence {
    pub(in crate::dispatch) state: AgentState,
    /// Why it takes nothing, in a state in which it does not.
    pub(in crate::dispatch) reason: Option<String>,
    pub(in crate::dispatch) load: f32,
    pub(in crate::dispatch) free_slots: u32,
    pub(in crate::dispatch) warm_repositories: BTreeSet<RepositoryName>,
    pub(in crate::dispatch) current: BTreeSet<Work>,
}

/// How an attempt ended at the agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::dispatch) enum Ended {
    /// It came back without work.
    Returned,
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
    /// Comments whose follow-ups the session was given to send.
    sent: BTreeSet<u64>,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) session: SessionId,
    pub(super) instance: Uuid,
    pub(super) agent: Agent,
    orders: mpsc::Sender<Order>,
    pub(super) superseded: CancellationToken,
    pub(super) ended: CancellationToken,
    held: BTreeMap<Work, Held>,
    /// Slots that the agent uses for something that the coordinator did not give it.
    reserved: u32,
    /// It gave something back, or takes nothing, and is left alone until its next heartbeat.
    resting: bool,
    /// What it named last.
    named: BTreeSet<Work>,
    /// Live attempts that it does not name, and since when.
    unnamed: BTreeMap<Work, Instant>,
    /// When it was heard last, and how long it may be silent before it gets nothing new.
    heard_at: Instant,
    patience: Duration,
    /// It was heard since its last sign of life was taken.
    heard: bool,
    /// Its last sign of life, and when it was taken, unless it has to be taken again.
    told: (AgentState, Option<Instant>),
    /// The reason that the store has of it.
    stored_reason: Option<String>,
}

impl Entry {
    pub(super) fn new(connection: Connection) -> Self {
        let held = connection.held.into_iter().map(|work| (work, false));
        let revoked = connection.revoked.into_iter().map(|work| (work, true));
        let held = held.chain(revoked).map(|(work, revoked)| {
            let held = Held {
                revoked,
                ..Held::default()
            };
            (work, held)
        });
        let state = connection.agent.state;
        let stored_reason = connection.agent.reason.clone();
        Self {
            session: connection.session,
            instance: connection.instance,
            agent: connection.agent,
            orders: connection.orders,
            superseded: connection.superseded,
            ended: connection.ended,
            held: held.collect(),
            reserved: 0,
            resting: false,
            named: BTreeSet::new(),
            unnamed: BTreeMap::new(),
            heard_at: Instant::now(),
            patience: connection.patience,
            heard: false,
            told: (state, Some(Instant::now())),
            stored_reason,
        }
    }

    /// The agent and its instance, when it gives another reason than the store has; it counts as
    /// stored from now on.
    pub(super) fn changed_reason(&mut self) -> Option<(Agent, Uuid)> {
        let reason = &self.agent.reason;
        if *reason == self.stored_reason {
            return None;
        }
        self.stored_reason.clone_from(reason);
        Some((self.agent.clone(), self.instance))
    }

    /// Has the session do something; false when it is stuck.
    pub(super) fn order(&self, order: Order) -> bool {
        self.orders.try_send(order).is_ok()
    }

    /// True when it gave a heartbeat within that time.
    pub(super) fn was_heard(&self, within: Duration) -> bool {
        self.heard_at.elapsed() <= within
    }

    /// Gives it an attempt. False when its session is stuck: it gets nothing new then until its
    /// next heartbeat, or the same would be tried again at once.
    pub(super) fn give(&mut self, order: Order, (work, topic): (Work, Topic)) -> bool {
        let given = self.order(order);
        if given {
            self.hold(work, Some(topic));
        } else {
            self.resting = true;
        }
        given
    }

    /// What it could take: its slots without what it was given, not what it last said, since a
    /// heartbeat is older than the last assignment.
    pub(super) fn room(&self) -> u32 {
        let given = u32::try_from(self.held.len()).unwrap_or(u32::MAX);
        let taken = given.saturating_add(self.reserved);
        let silent = !self.was_heard(self.patience);
        if silent || self.resting || !self.agent.state.takes_tasks() {
            0
        } else {
            self.agent.slots.saturating_sub(taken)
        }
    }

    /// The agent with its room.
    pub(super) fn seen(&self) -> Agent {
        Agent {
            free_slots: self.room(),
            ..self.agent.clone()
        }
    }

    /// The same as the planner needs it.
    pub(super) fn view(&self, experience: Arc<Experience>) -> AgentView {
        AgentView {
            agent: self.seen(),
            experience,
        }
    }

    /// Takes in what the agent says of itself; tells the attempts that were not given to it.
    pub(super) fn heartbeat(&mut self, presence: Presence) -> BTreeSet<Work> {
        let current = u32::try_from(presence.current.len()).unwrap_or(u32::MAX);
        let unused = presence.free_slots.saturating_add(current);
        self.reserved = self.agent.slots.saturating_sub(unused);
        self.resting = false;
        self.heard = true;
        self.heard_at = Instant::now();
        self.agent.state = presence.state;
        self.agent.reason = presence.reason;
        self.agent.load = presence.load;
        self.agent.warm_repositories = presence.warm_repositories;
        self.named = presence.current;
        self.held
            .retain(|work, held| !held.revoked || self.named.contains(work));
        let is_strange = |work: &&Work| !self.held.contains_key(work);
        self.named.iter().filter(is_strange).copied().collect()
    }

    /// Takes its sign of life, when it gave one and its state is another one than was told, or
    /// was told longer than `every` ago.
    pub(super) fn sign(&mut self, every: Duration) -> Option<Sign> {
        let (state, at) = self.told;
        let is_due = at.is_none_or(|at| at.elapsed() >= every) || state != self.agent.state;
        if !(self.heard && is_due) {
            return None;
        }
        self.heard = false;
        self.told = (self.agent.state, Some(Instant::now()));
        let live = self.held.iter().filter(|(_, held)| !held.revoked);
        Some(Sign {
            agent: self.agent.id.clone(),
            state: self.agent.state,
            held: live.map(|(work, _)| *work).collect(),
        })
    }

    /// Its sign of life was taken in vain.
    pub(super) fn untold(&mut self) {
        self.heard = true;
        self.told.1 = None;
    }

    /// Attempts that are live and that the agent has not named for so long.
    pub(super) fn forgotten(&mut self, live: &[Work], patience: Duration) -> Vec<Work> {
        let named = &self.named;
        self.unnamed
            .retain(|work, _| live.contains(work) && !named.contains(work));
        for work in live.iter().filter(|work| !named.contains(work)) {
            self.unnamed.entry(*work).or_insert_with(Instant::now);
        }
        let overdue = |since: &Instant| since.elapsed() >= patience;
        let forgotten = self.unnamed.iter().filter(|(_, since)| overdue(since));
        forgotten.map(|(work, _)| *work).collect()
    }

    /// Has the session send a follow-up of an attempt that the agent has, once. What the session has no room
    /// for is left for the next look: follow-ups take no room from orders about attempts.
    pub(super) fn send_follow_up(&mut self, work: Work, follow_up: FollowUp) {
        let comment = follow_up.comment;
        let held = self.held.get_mut(&work);
        let Some(held) = held.filter(|held| !held.revoked && !held.sent.contains(&comment)) else {
            return;
        };
        if self.orders.capacity() <= most_orders(self.agent.slots) {
            return;
        }
        let order = Order::FollowUp { work, follow_up };
        if self.orders.try_send(order).is_ok() {
            held.sent.insert(comment);
        }
    }

    /// True when it was given the attempt, or names it, and was not told to stop.
    pub(super) fn has(&self, work: Work) -> bool {
        match self.held.get(&work) {
            Some(held) => !held.revoked,
            None => self.named.contains(&work),
        }
    }

    pub(super) fn holds(&self, work: Work) -> bool {
        self.held.contains_key(&work)
    }

    pub(super) fn hold(&mut self, work: Work, topic: Option<Topic>) {
        let held = self.held.entry(work).or_default();
        held.topic = topic.or(held.topic.take());
    }

    /// Remembers that it was told to stop; false when it was told before, or has ended it.
    pub(super) fn revoke(&mut self, work: Work) -> bool {
        if !self.has(work) {
            return false;
        }
        self.held.entry(work).or_default().revoked = true;
        true
    }

    pub(super) fn release(&mut self, work: Work, how: Ended) -> Option<Topic> {
        // What its last heartbeat said of it is over.
        self.named.remove(&work);
        self.resting |= how == Ended::Returned;
        self.held.remove(&work)?.topic
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use patchfleet_domain::{AgentId, AttemptNumber, SecurityLevel, TaskId};

    /// A general agent with three slots.
    pub(in crate::dispatch::registry) fn agent(id: AgentId) -> Agent {
        Agent {
            id,
            agent_type: "general".parse().unwrap(),
            capabilities: BTreeSet::new(),
            clearance: SecurityLevel::Public,
            slots: 3,
            free_slots: 3,
            state: AgentState::Idle,
            reason: None,
            load: 0.0,
            warm_repositories: BTreeSet::new(),
            version: "1".to_owned(),
        }
    }

    fn entry() -> Entry {
        let (orders, _) = mpsc::channel(1);
        Entry::new(Connection {
            session: SessionId::new(),
            agent: agent("a".parse().unwrap()),
            instance: uuid::Uuid::now_v7(),
            held: Vec::new(),
            revoked: Vec::new(),
            patience: Duration::from_secs(15),
            orders,
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

    fn topic() -> Topic {
        Topic {
            agent_type: "general".parse().unwrap(),
            repository: "acme/orders".parse().unwrap(),
        }
    }

    fn said(free_slots: u32, current: &[Work]) -> Presence {
        Presence {
            state: AgentState::Busy,
            reason: None,
            load: 0.5,
            free_slots,
            warm_repositories: BTreeSet::new(),
            current: current.iter().copied().collect(),
        }
    }

    fn room(entry: &Entry) -> u32 {
        entry.room()
    }

    #[tokio::test(start_paused = true)]
    async fn an_agent_that_is_silent_too_long_gets_nothing_new() {
        let mut entry = entry();
        tokio::time::advance(Duration::from_secs(15)).await;
        assert_eq!(room(&entry), 3);
        tokio::time::advance(Duration::from_secs(1)).await;
        assert_eq!(room(&entry), 0);
        entry.heartbeat(said(3, &[]));
        assert_eq!(room(&entry), 3);
    }

    #[test]
    fn room_is_what_was_not_given_away() {
        let mut entry = entry();
        let (first, second) = (work(), work());
        entry.hold(first, None);
        entry.hold(second, None);
        assert_eq!(room(&entry), 1);
        entry.heartbeat(said(3, &[]));
        assert_eq!(room(&entry), 1, "an older heartbeat makes no room");
        entry.release(first, Ended::Finished { succeeded: true });
        assert_eq!(room(&entry), 2);
        entry.heartbeat(said(1, &[second]));
        assert_eq!(room(&entry), 1, "one slot is used for something else");
    }

    #[test]
    fn a_revoked_attempt_takes_its_slot_until_the_agent_stopped() {
        let mut entry = entry();
        let work = work();
        entry.hold(work, None);
        assert!(entry.revoke(work));
        assert!(!entry.revoke(work), "told once");
        assert!(!entry.has(work));
        entry.heartbeat(said(2, &[work]));
        assert_eq!(room(&entry), 2);
        entry.heartbeat(said(3, &[]));
        assert_eq!(room(&entry), 3);
    }

    #[test]
    fn a_stop_that_comes_after_the_end_takes_no_slot() {
        let mut entry = entry();
        let work = work();
        entry.hold(work, None);
        entry.heartbeat(said(2, &[work]));
        entry.release(work, Ended::Finished { succeeded: true });
        assert!(!entry.revoke(work), "there is nothing to stop");
        assert_eq!(room(&entry), 3);
    }

    #[test]
    fn an_agent_whose_channel_is_full_has_no_room_until_its_next_heartbeat() {
        let (orders, _unread) = mpsc::channel(1);
        let mut entry = Entry { orders, ..entry() };
        assert!(entry.give(Order::Renewed(Vec::new()), (work(), topic())));
        assert_eq!(room(&entry), 2);
        assert!(!entry.give(Order::Renewed(Vec::new()), (work(), topic())));
        assert_eq!(room(&entry), 0, "else it would be tried again at once");
        entry.heartbeat(said(3, &[]));
        assert_eq!(room(&entry), 2, "what it did not get takes no slot");
    }

    #[test]
    fn a_follow_up_is_sent_once_and_waits_for_a_session_that_has_no_room() {
        let mut entry = entry();
        let (orders, mut told) = mpsc::channel(most_orders(entry.agent.slots) + 1);
        entry.orders = orders;
        let (work, revoked) = (work(), work());
        let comment = |comment| FollowUp {
            comment,
            author: "mona".to_owned(),
            text: "Round up.".to_owned(),
        };
        let mut heard = || match told.try_recv() {
            Ok(Order::FollowUp { follow_up, .. }) => Some(follow_up.comment),
            _ => None,
        };
        entry.send_follow_up(work, comment(1));
        assert_eq!(heard(), None, "it does not have the attempt");
        entry.hold(work, None);
        entry.hold(revoked, None);
        assert!(entry.revoke(revoked));
        entry.send_follow_up(revoked, comment(1));
        assert_eq!(heard(), None, "it was told to stop");
        entry.send_follow_up(work, comment(1));
        entry.send_follow_up(work, comment(2));
        assert_eq!((heard(), heard()), (Some(1), None), "there was no room");
        assert!(entry.order(Order::Renewed(vec![work])));
        entry.send_follow_up(work, comment(2));
        assert_eq!(
            (heard(), heard()),
            (None, None),
            "orders have room of their own"
        );
        for again in [1, 2] {
            entry.send_follow_up(work, comment(again));
        }
        assert_eq!((heard(), heard()), (Some(2), None));
    }

    #[test]
    fn after_a_return_the_agent_is_left_alone_until_its_next_heartbeat() {
        let mut entry = entry();
        let work = work();
        entry.hold(work, None);
        entry.release(work, Ended::Returned);
        assert_eq!(room(&entry), 0);
        entry.heartbeat(said(3, &[]));
        assert_eq!(entry.view(Arc::default()).agent.free_slots, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn a_sign_of_life_is_told_when_it_is_news_or_time() {
        let every = Duration::from_secs(10);
        let mut entry = entry();
        assert_eq!(entry.sign(every), None, "it was not heard");
        let work = work();
        entry.hold(work, None);
        entry.heartbeat(said(2, &[work]));
        let sign = entry.sign(every).expect("it is busy now");
        assert_eq!((sign.state, sign.held), (AgentState::Busy, vec![work]));
        entry.heartbeat(said(2, &[work]));
        assert_eq!(entry.sign(every), None, "nothing is new");
        tokio::time::advance(every).await;
        assert!(entry.sign(every).is_some());
        tokio::time::advance(every).await;
        assert_eq!(entry.sign(every), None, "a silent agent gives none");
    }

    #[tokio::test(start_paused = true)]
    async fn an_attempt_that_is_never_named_is_forgotten_in_the_end() {
        let lease = Duration::from_secs(30);
        let mut entry = entry();
        let (named, unnamed) = (work(), work());
        let live = [named, unnamed];
        entry.heartbeat(said(2, &[named]));
        assert!(entry.forgotten(&live, lease).is_empty());
        tokio::time::advance(lease * 29 / 30).await;
        assert!(entry.forgotten(&live, lease).is_empty());
        tokio::time::advance(lease / 30).await;
        assert_eq!(entry.forgotten(&live, lease), [unnamed]);
        entry.heartbeat(said(1, &[named, unnamed]));
        assert!(entry.forgotten(&live, lease).is_empty());
    }
}
