//! Parts of the queue that are held back.

use std::num::NonZeroU32;

use patchfleet_coordinator::store::{Caps, Scope, Store as _};
use patchfleet_domain::{Outcome, TaskState, WorkEvent};

use super::fleet::{Fleet, Setup, assigned, hold};

#[tokio::test]
async fn a_paused_repository_waits_until_it_is_resumed() {
    let fleet = Fleet::start().await;
    let orders = Scope::Repository("acme/orders".parse().unwrap());
    fleet.store.pause(&orders, "operator", None).await.unwrap();
    let paused = fleet.task("acme/orders", 1).await;
    let other = fleet.task("acme/other", 1).await;
    let agent = fleet.agent("backend-1", hold()).await;
    fleet.wait_state(other, TaskState::InProgress).await;
    // Queued while an agent has room: heard of at once, and left where it is.
    let late = fleet.task("acme/orders", 2).await;
    let next = fleet.task("acme/other", 2).await;
    fleet.wait_state(next, TaskState::InProgress).await;
    for id in [paused, late] {
        let task = fleet.store.task(id).await.unwrap().unwrap();
        assert_eq!(task.state, TaskState::Queued);
    }
    fleet.store.resume(&orders).await.unwrap();
    let done = WorkEvent::Finished(Outcome::Answer {
        summary: String::new(),
    });
    agent.report(assigned(&agent, 1).await, done);
    fleet.wait_state(paused, TaskState::InProgress).await;
}

#[tokio::test]
async fn a_limit_holds_and_what_ends_makes_room() {
    let one = NonZeroU32::new(1);
    let fleet = Fleet::with(Setup {
        caps: Caps {
            per_repository: one,
            ..Caps::default()
        },
        ..Setup::default()
    })
    .await;
    let first = fleet.task("acme/orders", 1).await;
    let second = fleet.task("acme/orders", 2).await;
    let agent = fleet.agent("backend-1", hold()).await;
    let work = assigned(&agent, 1).await;
    assert_eq!(work.task, first);
    let other = fleet.task("acme/other", 1).await;
    fleet.wait_state(other, TaskState::InProgress).await;
    let task = fleet.store.task(second).await.unwrap().unwrap();
    assert_eq!(task.state, TaskState::Queued);
    let done = WorkEvent::Finished(Outcome::Answer {
        summary: String::new(),
    });
    agent.report(work, done);
    fleet.wait_state(second, TaskState::InProgress).await;
}
