//! Agents that come, give signs of life and go; and what becomes of their leases.

use std::collections::BTreeSet;
use std::time::Duration;

use patchfleet_coordinator::store::{Cas, NewPresence, Renewal, TakenAway, Terms, WorkEvent};
use patchfleet_domain::outcome::Outcome;
use patchfleet_domain::{
    Agent, AgentId, AgentState, AgentType, SecurityLevel, SessionId, TaskState,
};

use uuid::Uuid;

use crate::fixture::{Fixture, LEASE, TERMS, agent, failure};

pub(crate) fn description(id: AgentId) -> Agent {
    Agent {
        id,
        agent_type: AgentType::general(),
        capabilities: BTreeSet::new(),
        clearance: SecurityLevel::Internal,
        slots: 2,
        free_slots: 2,
        state: AgentState::Idle,
        reason: None,
        load: 0.5,
        warm_repositories: BTreeSet::new(),
        version: "1".to_owned(),
    }
}

/// A new process of an agent.
pub(crate) fn presence(session: SessionId, present: Duration) -> NewPresence {
    NewPresence {
        session,
        instance: Uuid::now_v7(),
        present,
    }
}

async fn state(fixture: &Fixture) -> AgentState {
    let agents = fixture.store.agents().await.unwrap();
    let [agent] = agents.as_slice() else {
        panic!("one agent, not {agents:?}");
    };
    agent.state
}

pub(crate) async fn an_agent_is_offline_when_it_left_or_gives_no_sign_of_life(fixture: &Fixture) {
    let known = description(agent("backend-1"));
    let (first, second) = (SessionId::new(), SessionId::new());
    let store = &fixture.store;
    let same = presence(first, LEASE);
    let registered = store.register_agent(&known, same).await.unwrap();
    assert_eq!(registered, Cas::Applied(()));
    assert_eq!(store.agents().await.unwrap(), std::slice::from_ref(&known));
    fixture.renew(&[&known.id]).await;
    assert_eq!(state(fixture).await, AgentState::Busy);
    let again = NewPresence {
        session: second,
        ..same
    };
    let registered = store.register_agent(&known, again).await.unwrap();
    assert_eq!(registered, Cas::Applied(()), "it is the same process");
    store.agent_left(&known.id, first, None).await.unwrap();
    assert_eq!(
        state(fixture).await,
        AgentState::Idle,
        "a newer one is here"
    );
    store.agent_left(&known.id, second, None).await.unwrap();
    assert_eq!(state(fixture).await, AgentState::Offline);
    // One whose coordinator was killed says nothing any more.
    let killed = presence(second, Duration::ZERO);
    let registered = store.register_agent(&known, killed).await.unwrap();
    assert_eq!(registered, Cas::Applied(()));
    assert_eq!(state(fixture).await, AgentState::Offline);
    store.ping().await.unwrap();
}

pub(crate) async fn signs_of_life_renew_the_leases_of_many_agents(fixture: &Fixture) {
    let (one, two, other) = (agent("one"), agent("two"), agent("other"));
    let mut works = Vec::new();
    for (issue, who) in [(1, &one), (2, &two), (3, &other), (4, &one)] {
        let queued = fixture.queued(issue).await;
        let won = fixture.store.claim(&queued, who, Duration::ZERO).await;
        let Cas::Applied(assignment) = won.unwrap() else {
            panic!("nobody else wanted it");
        };
        let accepted = WorkEvent::Accepted;
        fixture.applied(assignment.work, 1, accepted).await;
        works.push((who.clone(), assignment.work));
    }
    let mut renewed = fixture.renew(&[&one, &two]).await;
    renewed.sort();
    let lost = works.remove(2);
    works.sort();
    assert_eq!(renewed, works);
    let expired = fixture.store.expire().await.unwrap();
    let expired: Vec<_> = expired
        .iter()
        .map(|it| (it.agent.clone(), it.work))
        .collect();
    assert_eq!(expired, [lost]);
    assert_eq!(fixture.renew(&[]).await, []);
}

/// An agent that lives may hang: before it accepts, or for longer than anything may take.
pub(crate) async fn work_that_hangs_loses_its_lease(fixture: &Fixture) {
    let me = agent("backend-1");
    let sign = [(me.clone(), AgentState::Busy)];
    let queued = fixture.queued(1).await;
    let unaccepted = fixture.claim(&queued, Duration::ZERO).await.work;
    let accepted = fixture.started(2).await;
    let mut live = fixture.store.renew(&sign, TERMS).await.unwrap();
    live.sort();
    let renewal = |work, is_accepted| Renewal {
        agent: me.clone(),
        work,
        is_accepted,
    };
    let both = [renewal(unaccepted, false), renewal(accepted, true)];
    assert_eq!(live, both);
    let over = async || {
        let expired = fixture.store.expire().await.unwrap();
        expired.into_iter().map(|it| it.work).collect::<Vec<_>>()
    };
    assert_eq!(over().await, [unaccepted]);
    let hurried = Terms {
        deadline: Duration::ZERO,
        ..TERMS
    };
    fixture.store.renew(&sign, hurried).await.unwrap();
    assert_eq!(over().await, [accepted]);
}

pub(crate) async fn a_broken_stream_leaves_a_grace_unless_there_is_a_newer_one(fixture: &Fixture) {
    let known = description(agent("backend-1"));
    let (old, new) = (SessionId::new(), SessionId::new());
    let store = &fixture.store;
    let registered = store.register_agent(&known, presence(new, LEASE)).await;
    assert_eq!(registered.unwrap(), Cas::Applied(()));
    let work = fixture.started(1).await;
    let none = Some(Duration::ZERO);
    store.agent_left(&known.id, old, none).await.unwrap();
    assert_eq!(store.expire().await.unwrap(), []);
    store.agent_left(&known.id, new, None).await.unwrap();
    assert_eq!(store.expire().await.unwrap(), []);
    // A grace never prolongs a lease.
    let long = Some(LEASE * 1000);
    store.agent_left(&known.id, new, long).await.unwrap();
    store.agent_left(&known.id, new, none).await.unwrap();
    let expired = store.expire().await.unwrap();
    assert_eq!(expired.iter().map(|it| it.work).collect::<Vec<_>>(), [work]);
    assert_eq!(fixture.task(work.task).await.state, TaskState::Queued);
}

pub(crate) async fn what_is_taken_away_is_told_and_what_ended_by_itself_is_not(fixture: &Fixture) {
    let (start, none) = fixture.store.taken_away(None).await.unwrap();
    assert_eq!(none, []);
    let cancelled = fixture.started(1).await;
    let lost = fixture.started(2).await;
    let finished = fixture.started(3).await;
    fixture.store.cancel(cancelled.task, "mona").await.unwrap();
    let _ = fixture.store.lose(lost, "test").await.unwrap();
    let done = WorkEvent::Finished(failure(true, false));
    fixture.applied(finished, 2, done).await;
    let (now, mut taken) = fixture.store.taken_away(Some(start)).await.unwrap();
    assert!(now >= start);
    taken.sort_by_key(|taken| taken.work);
    let told = |work, called_off| TakenAway {
        work,
        agent: agent("backend-1"),
        called_off,
    };
    assert_eq!(taken, [told(cancelled, true), told(lost, false)]);
    let returned = fixture.started(4).await;
    let stopped = WorkEvent::Finished(Outcome::Cancelled { by_operator: false });
    fixture.applied(returned, 2, stopped).await;
    let works = [cancelled, lost, finished, returned];
    let called_off = async |agent: &AgentId| {
        let called_off = fixture.store.called_off(agent, &works).await;
        called_off.unwrap().into_iter().collect::<Vec<_>>()
    };
    assert_eq!(called_off(&agent("backend-1")).await, [cancelled]);
    assert_eq!(called_off(&agent("stranger")).await, []);
}
