//! What only shows after hours: streams that have carried thousands of messages.

use std::time::Duration;

use patchfleet_coordinator::store::{Commanded, Store as _};
use patchfleet_domain::{AgentState, Phase, TaskId, TaskState, Work, WorkEvent};
use patchfleet_testkit::mock_agent::{Conduct, MockAgent};

use super::fleet::{Fleet, Setup, assigned, hold};

/// Signs of life that an idle agent gives before there is work for it.
const RENEWALS: usize = 1000;
/// Reports of one attempt.
const REPORTS: u64 = 1000;

/// Calls the agent's attempt off and waits until the agent knows.
async fn call_off(fleet: &Fleet, agent: &MockAgent, id: TaskId) {
    let commanded = fleet.store.cancel(id, "octocat").await.unwrap();
    assert_eq!(commanded, Commanded::Done(TaskState::Cancelled));
    let told = |seen: &patchfleet_testkit::mock_agent::Seen| {
        let mut cancelled = seen.cancelled.iter();
        cancelled.any(|(work, _)| work.task == id)
    };
    agent.wait("a cancellation", told).await.unwrap();
}

#[tokio::test]
async fn an_agent_that_was_idle_for_a_thousand_renewals_gets_work_and_can_be_stopped() {
    let fleet = Fleet::with(Setup {
        heartbeat: Some(Duration::from_millis(2)),
        ..Setup::default()
    })
    .await;
    let agent = fleet.agent("backend-1", hold()).await;
    // A state that the store has is a renewal that was made.
    for state in [AgentState::Maintenance, AgentState::Idle].repeat(RENEWALS / 2) {
        agent.set_state(state);
        fleet.wait_agent("backend-1", state).await;
    }
    let id = fleet.task("acme/orders", 1).await;
    assigned(&agent, 1).await;
    fleet.wait_state(id, TaskState::InProgress).await;
    call_off(&fleet, &agent, id).await;
    assert_eq!((agent.seen().welcomes, agent.calls()), (1, 1));
}

#[tokio::test]
async fn a_task_with_a_thousand_reports_can_be_called_off_and_the_next_is_given() {
    let fleet = Fleet::start().await;
    let agent = fleet.agent("backend-1", hold()).await;
    let id = fleet.task("acme/orders", 1).await;
    let work: Work = assigned(&agent, 1).await;
    for number in 0..REPORTS {
        agent.report(
            work,
            WorkEvent::Progress {
                phase: Phase::Test,
                detail: format!("test {number}"),
            },
        );
    }
    agent
        .wait("all acknowledgements", |seen| seen.unacknowledged == 0)
        .await
        .unwrap();
    call_off(&fleet, &agent, id).await;
    let next = fleet.task("acme/orders", 2).await;
    fleet.wait_state(next, TaskState::InProgress).await;
    assert_eq!((agent.seen().welcomes, agent.calls()), (1, 2));
}

#[tokio::test]
async fn leases_and_heartbeats_of_no_length_end_nothing() {
    let fleet = Fleet::with(Setup {
        heartbeat: Some(Duration::ZERO),
        ..Setup::default()
    })
    .await;
    let _agent = fleet.agent("backend-1", Conduct::pull_request(1)).await;
    let id = fleet.task("acme/orders", 1).await;
    fleet.wait_state(id, TaskState::Review).await;
}
