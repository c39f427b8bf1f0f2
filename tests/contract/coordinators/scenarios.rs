//! What every coordinator does on the session, whatever tasks it has.

use std::time::Duration;

use patchfleet_proto::v1::agent_message::Body as Say;
use patchfleet_proto::v1::coordinator_message::Body as Hear;
use patchfleet_proto::{FREE_WITHIN, PROTOCOL, PUSHBACK, v1};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::client::Client;
use crate::parts::{KEY, Part, Terms};

mod attempts;

pub(crate) use attempts::*;

fn register(instance: Uuid) -> v1::Register {
    v1::Register {
        agent_id: "general-1".to_owned(),
        agent_type: "general".to_owned(),
        clearance: "internal".to_owned(),
        slots: 2,
        protocol: PROTOCOL,
        instance: instance.to_string(),
        ..v1::Register::default()
    }
}

async fn open(part: &impl Part) -> Client {
    Client::open(&part.url(), KEY).await.unwrap()
}

/// A stream of that process that was welcomed, or why not.
async fn welcomed(part: &impl Part, instance: Uuid) -> Result<Client, Status> {
    let mut client = open(part).await;
    client.say(Say::Register(register(instance))).await;
    let Hear::Welcome(welcome) = client.hear().await? else {
        panic!("the first message is no welcome");
    };
    assert!(welcome.lease_ttl_ms > 0 && welcome.heartbeat_interval_ms > 0);
    Ok(client)
}

async fn here(part: &impl Part) -> Client {
    welcomed(part, Uuid::now_v7()).await.unwrap()
}

pub(crate) async fn a_wrong_key_is_refused<P: Part>() {
    let part = P::start(Terms::default()).await;
    let refused = Client::open(&part.url(), "wrong").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

pub(crate) async fn the_first_message_is_a_registration<P: Part>() {
    let part = P::start(Terms::default()).await;
    let client = open(&part).await;
    client.say(Say::Heartbeat(v1::Heartbeat::default())).await;
    let refused = client.end().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

pub(crate) async fn a_wrong_registration_is_refused_by_field<P: Part>() {
    let part = P::start(Terms::default()).await;
    let refused = async |change: fn(&mut v1::Register)| {
        let client = open(&part).await;
        let mut register = register(Uuid::now_v7());
        change(&mut register);
        client.say(Say::Register(register)).await;
        client.end().await.unwrap_err()
    };
    let protocol = refused(|it| it.protocol = 99).await;
    assert_eq!(protocol.code(), Code::FailedPrecondition);
    assert!(protocol.message().contains("register.protocol"));
    let slots = refused(|it| it.slots = 0).await;
    assert_eq!(slots.code(), Code::InvalidArgument);
    assert!(slots.message().contains("register.slots"));
    let id = refused(|it| "../x".clone_into(&mut it.agent_id)).await;
    assert!(id.message().contains("register.agent_id"));
    let instance = refused(|it| "1".clone_into(&mut it.instance)).await;
    assert!(instance.message().contains("register.instance"));
    let resume = refused(|it| it.resume.push(v1::Work::default())).await;
    assert!(resume.message().contains("work.task_id"));
}

pub(crate) async fn a_registration_comes_once<P: Part>() {
    let part = P::start(Terms::default()).await;
    let client = here(&part).await;
    client.say(Say::Register(register(Uuid::now_v7()))).await;
    let refused = client.end().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

pub(crate) async fn a_second_process_is_refused_until_the_first_is_gone<P: Part>() {
    let part = P::start(Terms::default()).await;
    let first = here(&part).await;
    let second = Uuid::now_v7();
    let refused = welcomed(&part, second).await.err().unwrap();
    assert_eq!(refused.code(), Code::AlreadyExists);
    assert!(refused.message().contains("`general-1` is connected"));
    assert!(refused.metadata().contains_key(FREE_WITHIN));
    drop(first);
    // The end of the first stream needs a moment to arrive.
    while let Err(refused) = welcomed(&part, second).await {
        assert_eq!(refused.code(), Code::AlreadyExists);
    }
}

pub(crate) async fn a_newer_stream_of_the_same_process_takes_over<P: Part>() {
    let part = P::start(Terms::default()).await;
    let instance = Uuid::now_v7();
    let older = welcomed(&part, instance).await.unwrap();
    let newer = welcomed(&part, instance).await.unwrap();
    assert_eq!(older.end().await.unwrap_err().code(), Code::Aborted);
    newer.say(Say::Goodbye(v1::Goodbye {})).await;
    newer.end().await.unwrap();
}

pub(crate) async fn one_agent_too_many_is_asked_to_come_back<P: Part>() {
    let part = P::start(Terms {
        max_agents: 1,
        ..Terms::default()
    })
    .await;
    let first = here(&part).await;
    let refused = Client::open(&part.url(), KEY).await.err().unwrap();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.metadata().contains_key(PUSHBACK));
    drop(first);
    // The end of the first stream needs a moment to arrive.
    while let Err(refused) = Client::open(&part.url(), KEY).await {
        assert_eq!(refused.code(), Code::ResourceExhausted);
    }
}

pub(crate) async fn an_agent_that_falls_silent_is_cut_off<P: Part>() {
    let part = P::start(Terms {
        lease: Duration::from_millis(300),
        heartbeat: Duration::from_millis(100),
        ..Terms::default()
    })
    .await;
    let cut = here(&part).await.end().await.unwrap_err();
    assert_eq!(cut.code(), Code::DeadlineExceeded);
}

pub(crate) async fn a_heartbeat_that_can_not_be_understood_ends_the_stream<P: Part>() {
    let part = P::start(Terms::default()).await;
    let client = here(&part).await;
    let state = "asleep".to_owned();
    client
        .say(Say::Heartbeat(v1::Heartbeat {
            state,
            ..v1::Heartbeat::default()
        }))
        .await;
    let refused = client.end().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("heartbeat.state"));
}

pub(crate) async fn a_report_of_no_attempt_ends_the_stream<P: Part>() {
    let part = P::start(Terms::default()).await;
    let client = here(&part).await;
    client.say(Say::Report(v1::Report::default())).await;
    let refused = client.end().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
    assert!(refused.message().contains("report.work"));
}

pub(crate) async fn a_shutdown_sends_agents_away_to_come_back<P: Part>() {
    let part = P::start(Terms::default()).await;
    let client = here(&part).await;
    part.shut_down();
    let ended = client.end().await.unwrap_err();
    assert_eq!(ended.code(), Code::Unavailable);
}

pub(crate) async fn a_kind_of_message_that_is_not_known_is_left_out<P: Part>() {
    let part = P::start(Terms::default()).await;
    let client = here(&part).await;
    // Thus arrives what an older agent acknowledges.
    client.say(None).await;
    client.say(Say::Goodbye(v1::Goodbye {})).await;
    client.end().await.unwrap();
}

pub(crate) async fn a_goodbye_ends_the_stream<P: Part>() {
    let part = P::start(Terms::default()).await;
    let client = here(&part).await;
    client.say(Say::Goodbye(v1::Goodbye {})).await;
    client.end().await.unwrap();
    welcomed(&part, Uuid::now_v7()).await.unwrap();
}
