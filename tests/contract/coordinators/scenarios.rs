//! What every coordinator does on the session, whatever tasks it has.

use patchfleet_domain::{AttemptNumber, TaskId, Work};
use patchfleet_proto::v1::agent_message::Body as Say;
use patchfleet_proto::v1::coordinator_message::Body as Hear;
use patchfleet_proto::v1::credential::Answer;
use patchfleet_proto::{FREE_WITHIN, PROTOCOL, v1};
use tonic::{Code, Status};
use uuid::Uuid;

use crate::client::Client;
use crate::parts::{KEY, Part};

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

fn work() -> v1::Work {
    let work = Work {
        task: TaskId::new(),
        attempt: AttemptNumber(1),
    };
    work.into()
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
    let part = P::start().await;
    let refused = Client::open(&part.url(), "wrong").await.err().unwrap();
    assert_eq!(refused.code(), Code::Unauthenticated);
}

pub(crate) async fn the_first_message_is_a_registration<P: Part>() {
    let part = P::start().await;
    let client = open(&part).await;
    client.say(Say::Heartbeat(v1::Heartbeat::default())).await;
    let refused = client.end().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

pub(crate) async fn a_wrong_registration_is_refused_by_field<P: Part>() {
    let part = P::start().await;
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
}

pub(crate) async fn a_registration_comes_once<P: Part>() {
    let part = P::start().await;
    let client = here(&part).await;
    client.say(Say::Register(register(Uuid::now_v7()))).await;
    let refused = client.end().await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument);
}

pub(crate) async fn a_second_process_is_refused_until_the_first_is_gone<P: Part>() {
    let part = P::start().await;
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
    let part = P::start().await;
    let instance = Uuid::now_v7();
    let older = welcomed(&part, instance).await.unwrap();
    let newer = welcomed(&part, instance).await.unwrap();
    assert_eq!(older.end().await.unwrap_err().code(), Code::Aborted);
    newer.say(Say::Goodbye(v1::Goodbye {})).await;
    newer.end().await.unwrap();
}

pub(crate) async fn a_kind_of_message_that_is_not_known_is_left_out<P: Part>() {
    let part = P::start().await;
    let client = here(&part).await;
    // Thus arrives what an older agent acknowledges.
    client.say(None).await;
    client.say(Say::Goodbye(v1::Goodbye {})).await;
    client.end().await.unwrap();
}

pub(crate) async fn a_goodbye_ends_the_stream<P: Part>() {
    let part = P::start().await;
    let client = here(&part).await;
    client.say(Say::Goodbye(v1::Goodbye {})).await;
    client.end().await.unwrap();
    welcomed(&part, Uuid::now_v7()).await.unwrap();
}

pub(crate) async fn what_is_said_of_an_attempt_of_nobody_is_stale<P: Part>() {
    let part = P::start().await;
    let mut client = here(&part).await;
    let work = Some(work());
    let accept = v1::Report {
        work: work.clone(),
        seq: 1,
        event: Some(v1::report::Event::Accept(v1::Accept {})),
    };
    client.say(Say::Report(accept)).await;
    let heard = client.hear().await.unwrap();
    assert_eq!(heard, Hear::Stale(v1::Stale { work }));
}

pub(crate) async fn a_credential_is_for_an_attempt_of_the_agent<P: Part>() {
    let part = P::start().await;
    let mut client = here(&part).await;
    let request = v1::CredentialRequest {
        work: Some(work()),
        scope: v1::CredentialScope::Read.into(),
        request_id: "1".to_owned(),
    };
    client.say(Say::CredentialRequest(request)).await;
    let Hear::Credential(credential) = client.hear().await.unwrap() else {
        panic!("no answer to the request");
    };
    assert_eq!(credential.request_id, "1");
    let Some(Answer::Refused(why)) = credential.answer else {
        panic!("{:?}", credential.answer);
    };
    assert!(why.contains("not this agent's"), "{why}");
}
