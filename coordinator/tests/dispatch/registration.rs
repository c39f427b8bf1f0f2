//! Who gets in, who does not, and how streams end.

use std::time::Duration;

use patchfleet_coordinator::store::Store as _;
use patchfleet_domain::{AgentState, TaskState, WorkEvent};
use patchfleet_listen::Limits;
use patchfleet_testkit::mock_agent::{Closed, Conduct, MockAgent, Profile, sample_pull_request};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tonic::Code;

use super::fleet::{Fleet, KEY, Setup, assigned, hold};

async fn refusal(profile: Profile) -> Closed {
    let agent = MockAgent::start(profile, |_| hold());
    let seen = agent
        .wait("the end of the stream", |seen| seen.endings > 0)
        .await;
    let seen = seen.unwrap();
    assert_eq!(seen.welcomes, 0);
    seen.closed.unwrap()
}

#[tokio::test]
async fn a_wrong_key_is_refused_without_detail() {
    let fleet = Fleet::start().await;
    for key in ["", "wrong", &KEY[1..], "fleet-key-of-the-tests-and-more"] {
        let mut profile = fleet.profile("backend-1");
        key.clone_into(&mut profile.key);
        let closed = refusal(profile).await;
        let expected = Closed {
            code: Code::Unauthenticated,
            message: "authentication failed".to_owned(),
        };
        assert_eq!(closed, expected, "{key:?}");
    }
    assert!(fleet.registry.connected().is_empty());
    assert!(fleet.store.agents().await.unwrap().is_empty());
}

/// Makes a registration a bad one.
type Spoil = fn(&mut Profile);

#[tokio::test]
async fn a_bad_registration_is_told_which_field_is_wrong() {
    let fleet = Fleet::start().await;
    let cases: [(&str, Spoil); 4] = [
        ("register.agent_id", |it| it.id = "../x".to_owned()),
        ("register.agent_type", |it| {
            it.agent_type = "Back End".to_owned();
        }),
        ("register.clearance", |it| {
            it.clearance = "cosmic".to_owned();
        }),
        ("register.slots", |it| it.slots = 0),
    ];
    for (field, spoil) in cases {
        let mut profile = fleet.profile("backend-1");
        spoil(&mut profile);
        let closed = refusal(profile).await;
        assert_eq!(closed.code, Code::InvalidArgument);
        assert!(closed.message.contains(field), "{}", closed.message);
    }
}

#[tokio::test]
async fn another_protocol_is_told_which_one_is_spoken_here() {
    let fleet = Fleet::start().await;
    let mut profile = fleet.profile("backend-1");
    profile.protocol = 99;
    let closed = refusal(profile).await;
    assert_eq!(closed.code, Code::FailedPrecondition);
    assert!(
        closed.message.contains("speaks version 1"),
        "{}",
        closed.message
    );
}

#[tokio::test]
async fn a_second_process_with_the_id_is_refused_while_the_first_is_heard() {
    let fleet = Fleet::start().await;
    let first = fleet.agent("backend-1", hold()).await;
    let task = fleet.task("acme/orders", 1).await;
    let work = assigned(&first, 1).await;
    fleet.wait_state(task, TaskState::InProgress).await;

    let second = MockAgent::start(fleet.profile("backend-1"), |_| hold());
    let refused = second
        .wait("three refusals", |seen| seen.endings >= 3)
        .await;
    let closed = refused.unwrap().closed.unwrap();
    assert_eq!(closed.code, Code::AlreadyExists);
    let says = "another process with the id `backend-1` is connected";
    assert!(closed.message.contains(says), "{}", closed.message);

    first.report(work, WorkEvent::Finished(sample_pull_request(1)));
    fleet.wait_state(task, TaskState::Review).await;
    let (first_saw, second_saw) = (first.seen(), second.seen());
    assert_eq!((first_saw.welcomes, first_saw.endings), (1, 0));
    assert_eq!((second_saw.welcomes, second_saw.assigns.len()), (0, 0));
    assert_eq!(fleet.attempts(task).await.len(), 1);

    // The end of the first is seen at once, and makes the place free.
    first.crash();
    second.wait_connected().await.unwrap();
}

#[tokio::test]
async fn the_place_of_a_process_that_is_not_heard_any_more_is_free() {
    let fleet = Fleet::with_lease(Duration::from_secs(1)).await;
    let first = fleet.agent("backend-1", hold()).await;
    first.fall_silent();
    let second = fleet.agent("backend-1", Conduct::pull_request(1)).await;
    let task = fleet.task("acme/orders", 1).await;
    fleet.wait_state(task, TaskState::Review).await;
    assert_eq!((first.calls(), second.calls()), (0, 1));
}

#[tokio::test]
async fn a_shutdown_sends_agents_away_to_come_back() {
    let mut fleet = Fleet::start().await;
    let agent = fleet.agent("backend-1", hold()).await;
    let task = fleet.task("acme/orders", 1).await;
    assigned(&agent, 1).await;
    fleet.wait_state(task, TaskState::InProgress).await;
    fleet.shut_down().await;
    let seen = agent
        .wait("the end", |seen| seen.endings > 0)
        .await
        .unwrap();
    assert_eq!(seen.closed.unwrap().code, Code::Unavailable);
    let task = fleet.store.task(task).await.unwrap().unwrap();
    assert_eq!(task.state, TaskState::InProgress, "the lease goes on");
    let stored = fleet.store.agents().await.unwrap();
    assert_eq!(stored[0].state, AgentState::Offline);
}

#[tokio::test]
async fn an_agent_in_maintenance_gets_nothing_new() {
    let fleet = Fleet::start().await;
    let drained = fleet.agent("a-drained", Conduct::pull_request(1)).await;
    drained.set_state(AgentState::Maintenance);
    let mut changes = fleet.registry.changed();
    while fleet.registry.connected()[0].state != AgentState::Maintenance {
        changes.changed().await.unwrap();
    }
    let other = fleet.agent("b-open", Conduct::pull_request(1)).await;
    for issue in 1..=4 {
        let task = fleet.task("acme/orders", issue).await;
        fleet.wait_state(task, TaskState::Review).await;
    }
    assert_eq!((drained.calls(), other.calls()), (0, 4));
    fleet.wait_agent("a-drained", AgentState::Maintenance).await;
}

#[tokio::test]
async fn one_agent_too_many_is_asked_to_come_back() {
    let fleet = Fleet::with(Setup {
        max_agents: 1,
        ..Setup::default()
    })
    .await;
    let first = fleet.agent("backend-1", hold()).await;
    let second = MockAgent::start(fleet.profile("backend-2"), |_| hold());
    let seen = second
        .wait("a refusal", |seen| seen.endings > 0)
        .await
        .unwrap();
    assert_eq!(seen.closed.unwrap().code, Code::ResourceExhausted);
    first.crash();
    second.wait_connected().await.unwrap();
}

/// The preface of HTTP/2 and settings: a client that goes on to say nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn strangers_are_closed_and_an_agent_keeps_its_stream_for_as_long_as_it_likes() {
    let fleet = Fleet::with(Setup {
        limits: Some(Limits {
            head: Duration::from_secs(1),
            idle: Duration::from_secs(1),
            ..Limits::long_lived(1)
        }),
        ..Setup::default()
    })
    .await;
    let agent = fleet.agent("backend-1", hold()).await;
    let address = fleet.url.trim_start_matches("http://");
    for said in [&b""[..], PREFACE] {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        stranger.write_all(said).await.unwrap();
        // A reset is an end as well.
        let _ = stranger.read_to_end(&mut Vec::new()).await;
    }
    // They came later than the agent, and their time is over.
    let task = fleet.task("acme/orders", 1).await;
    let work = assigned(&agent, 1).await;
    agent.report(work, WorkEvent::Finished(sample_pull_request(1)));
    fleet.wait_state(task, TaskState::Review).await;
    let seen = agent.seen();
    assert_eq!((seen.welcomes, seen.endings), (1, 0));
}
