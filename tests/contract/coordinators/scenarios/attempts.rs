//! What becomes of attempts: reported on, resumed, lost, called off.

use patchfleet_domain::{AttemptNumber, TaskId, Work};
use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body as Say;
use patchfleet_proto::v1::coordinator_message::Body as Hear;
use patchfleet_proto::v1::credential::Answer;
use patchfleet_proto::v1::report::Event;
use uuid::Uuid;

use super::{open, register};
use crate::client::Client;
use crate::parts::{Part, REPOSITORY, TOKEN, Terms};

/// An attempt of nobody.
fn work() -> v1::Work {
    let work = Work {
        task: TaskId::new(),
        attempt: AttemptNumber(1),
    };
    work.into()
}

/// A welcome stream and what was kept and dropped of what it resumed.
async fn resumed(part: &impl Part, instance: Uuid, resume: &[&v1::Work]) -> (Client, v1::Welcome) {
    let mut client = open(part).await;
    let mut register = register(instance);
    register.resume = resume.iter().copied().cloned().collect();
    client.say(Say::Register(register)).await;
    let welcome = client
        .wait("a welcome", |heard| match heard {
            Hear::Welcome(welcome) => Some(welcome.clone()),
            _ => None,
        })
        .await;
    (client, welcome)
}

/// A coordinator, the stream of an agent, and the attempt that was assigned to it.
async fn assigned<P: Part>(instance: Uuid) -> (P, Client, v1::Work) {
    let part = P::start(Terms::default()).await;
    let (mut client, _) = resumed(&part, instance, &[]).await;
    part.assign().await;
    let assign = assignment(&mut client).await;
    let task = assign.task.unwrap();
    assert_eq!(
        (task.kind.as_str(), task.repository.as_str()),
        ("issue", REPOSITORY)
    );
    (part, client, assign.work.unwrap())
}

/// The same when it has accepted.
async fn at_work<P: Part>(instance: Uuid) -> (P, Client, v1::Work) {
    let (part, mut client, work) = assigned::<P>(instance).await;
    report(&client, &work, 1, accept()).await;
    acknowledged(&mut client, &work, 1).await;
    (part, client, work)
}

async fn assignment(client: &mut Client) -> v1::Assign {
    let assign = |heard: &Hear| match heard {
        Hear::Assign(assign) => Some(assign.clone()),
        _ => None,
    };
    client.wait("an assignment", assign).await
}

async fn report(client: &Client, work: &v1::Work, seq: u64, event: Event) {
    let report = v1::Report {
        work: Some(work.clone()),
        seq,
        event: Some(event),
    };
    client.say(Say::Report(report)).await;
}

fn accept() -> Event {
    Event::Accept(v1::Accept {})
}

fn progress() -> Event {
    Event::Progress(v1::Progress {
        phase: "analyze".to_owned(),
        detail: "inspect".to_owned(),
    })
}

fn answered() -> Event {
    let summary = "It is a question.".to_owned();
    Event::Finished(v1::Finished {
        outcome: Some(v1::finished::Outcome::Answer(v1::Answer { summary })),
    })
}

/// Waits for what becomes of the newest report of an attempt: its number when it counted.
async fn verdict(client: &mut Client, work: &v1::Work) -> Option<u64> {
    let look = |heard: &Hear| match heard {
        Hear::ReportAck(ack) if ack.work.as_ref() == Some(work) => Some(Some(ack.seq)),
        Hear::Stale(stale) if stale.work.as_ref() == Some(work) => Some(None),
        _ => None,
    };
    client.wait("what becomes of a report", look).await
}

async fn acknowledged(client: &mut Client, work: &v1::Work, seq: u64) {
    assert_eq!(verdict(client, work).await, Some(seq));
}

async fn stale(client: &mut Client, work: &v1::Work) {
    assert_eq!(verdict(client, work).await, None);
}

async fn beat(client: &Client, current: &[&v1::Work]) {
    let heartbeat = v1::Heartbeat {
        state: "busy".to_owned(),
        free_slots: 1,
        current: current.iter().copied().cloned().collect(),
        ..v1::Heartbeat::default()
    };
    client.say(Say::Heartbeat(heartbeat)).await;
}

/// Asks for a token; gives the request's name.
async fn ask(client: &Client, work: &v1::Work, scope: v1::CredentialScope) -> String {
    let request_id = Uuid::now_v7().to_string();
    let request = v1::CredentialRequest {
        work: Some(work.clone()),
        scope: scope.into(),
        request_id: request_id.clone(),
    };
    client.say(Say::CredentialRequest(request)).await;
    request_id
}

async fn credential(client: &mut Client, work: &v1::Work, scope: v1::CredentialScope) -> Answer {
    let request_id = ask(client, work, scope).await;
    let look = |heard: &Hear| match heard {
        Hear::Credential(it) if it.request_id == request_id => it.answer.clone(),
        _ => None,
    };
    client.wait("an answer", look).await
}

pub(crate) async fn an_assignment_is_accepted_reported_on_and_finished<P: Part>() {
    let (_part, mut client, work) = at_work::<P>(Uuid::now_v7()).await;
    report(&client, &work, 2, progress()).await;
    acknowledged(&mut client, &work, 2).await;
    report(&client, &work, 3, answered()).await;
    acknowledged(&mut client, &work, 3).await;
    report(&client, &work, 4, progress()).await;
    stale(&mut client, &work).await;
}

pub(crate) async fn a_report_that_comes_twice_is_acknowledged_twice<P: Part>() {
    let (_part, mut client, work) = at_work::<P>(Uuid::now_v7()).await;
    report(&client, &work, 2, answered()).await;
    acknowledged(&mut client, &work, 2).await;
    // Its acknowledgement was lost with a stream, and the attempt is over by now.
    report(&client, &work, 2, answered()).await;
    acknowledged(&mut client, &work, 2).await;
}

pub(crate) async fn an_assignment_is_answered_once_before_anything_else<P: Part>() {
    let (_part, mut client, work) = assigned::<P>(Uuid::now_v7()).await;
    report(&client, &work, 1, progress()).await;
    stale(&mut client, &work).await;
    report(&client, &work, 1, accept()).await;
    acknowledged(&mut client, &work, 1).await;
    report(&client, &work, 2, accept()).await;
    stale(&mut client, &work).await;
    report(&client, &work, 2, progress()).await;
    acknowledged(&mut client, &work, 2).await;
}

pub(crate) async fn a_refusal_ends_the_attempt<P: Part>() {
    let (_part, mut client, work) = assigned::<P>(Uuid::now_v7()).await;
    let reason = "no disk".to_owned();
    report(&client, &work, 1, Event::Refuse(v1::Refuse { reason })).await;
    acknowledged(&mut client, &work, 1).await;
    report(&client, &work, 2, accept()).await;
    stale(&mut client, &work).await;
}

pub(crate) async fn a_report_that_can_not_be_understood_ends_the_attempt<P: Part>() {
    let (_part, mut client, work) = at_work::<P>(Uuid::now_v7()).await;
    let unintelligible = v1::Checkpoint {
        node: "inspect".to_owned(),
        visit: 1,
        output: "not JSON".to_owned(),
    };
    report(&client, &work, 2, Event::Checkpoint(unintelligible)).await;
    stale(&mut client, &work).await;
    report(&client, &work, 3, progress()).await;
    stale(&mut client, &work).await;
}

pub(crate) async fn what_is_said_of_an_attempt_of_nobody_is_stale<P: Part>() {
    let part = P::start(Terms::default()).await;
    let (mut client, _) = resumed(&part, Uuid::now_v7(), &[]).await;
    let work = work();
    report(&client, &work, 1, accept()).await;
    stale(&mut client, &work).await;
}

pub(crate) async fn what_is_said_of_the_attempt_of_another_agent_is_stale<P: Part>() {
    let (part, mut client, work) = at_work::<P>(Uuid::now_v7()).await;
    let mut other = open(&part).await;
    let mut registration = register(Uuid::now_v7());
    "general-2".clone_into(&mut registration.agent_id);
    registration.resume = vec![work.clone()];
    other.say(Say::Register(registration)).await;
    let Hear::Welcome(welcome) = other.hear().await.unwrap() else {
        panic!("the first message is no welcome");
    };
    assert_eq!(welcome.drop, std::slice::from_ref(&work));
    report(&other, &work, 2, answered()).await;
    stale(&mut other, &work).await;
    let read = v1::CredentialScope::Read;
    let refused = credential(&mut other, &work, read).await;
    assert!(matches!(refused, Answer::Refused(_)), "{refused:?}");
    report(&client, &work, 2, answered()).await;
    acknowledged(&mut client, &work, 2).await;
}

pub(crate) async fn a_heartbeat_renews_what_is_its_own<P: Part>() {
    let (_part, mut client, accepted) = at_work::<P>(Uuid::now_v7()).await;
    beat(&client, &[&accepted, &work()]).await;
    let renewed = client
        .wait("a renewal", |heard| match heard {
            Hear::Renewed(renewed) => Some(renewed.works.clone()),
            _ => None,
        })
        .await;
    assert_eq!(renewed, [accepted]);
}

/// Whatever the heartbeat names: an assignment that was not accepted has its first lease and no other.
pub(crate) async fn a_renewal_names_all_that_was_accepted_and_nothing_else<P: Part>() {
    let (part, mut client, accepted) = at_work::<P>(Uuid::now_v7()).await;
    part.assign().await;
    let unanswered = assignment(&mut client).await.work.unwrap();
    beat(&client, &[&unanswered]).await;
    let renewed = client
        .wait("a renewal", |heard| match heard {
            Hear::Renewed(renewed) => Some(renewed.works.clone()),
            _ => None,
        })
        .await;
    assert_eq!(renewed, [accepted]);
}

pub(crate) async fn what_a_heartbeat_names_and_is_not_its_own_is_stale_once<P: Part>() {
    let (_part, mut client, accepted) = at_work::<P>(Uuid::now_v7()).await;
    let strange = work();
    for _ in 0..3 {
        beat(&client, &[&accepted, &strange]).await;
    }
    stale(&mut client, &strange).await;
    // Nothing else is said of it before the answer to what was said later.
    report(&client, &accepted, 2, progress()).await;
    let next = client
        .wait("an answer", |heard| match heard {
            Hear::ReportAck(ack) => ack.work.clone(),
            Hear::Stale(stale) => stale.work.clone(),
            _ => None,
        })
        .await;
    assert_eq!(next, accepted);
}

pub(crate) async fn the_same_process_keeps_what_it_resumes_and_nothing_else<P: Part>() {
    let instance = Uuid::now_v7();
    let (part, client, accepted) = at_work::<P>(instance).await;
    drop(client);
    let strange = work();
    let (mut client, welcome) = resumed(&part, instance, &[&accepted, &strange]).await;
    assert_eq!(welcome.keep, std::slice::from_ref(&accepted));
    assert_eq!(welcome.drop, [strange]);
    report(&client, &accepted, 2, answered()).await;
    acknowledged(&mut client, &accepted, 2).await;
    drop(client);
    let (_client, welcome) = resumed(&part, instance, &[&accepted]).await;
    assert_eq!(welcome.drop, [accepted], "it is over");
}

pub(crate) async fn what_a_new_process_does_not_know_is_lost<P: Part>() {
    let instance = Uuid::now_v7();
    let (part, client, accepted) = at_work::<P>(instance).await;
    drop(client);
    let (mut client, welcome) = resumed(&part, instance, &[]).await;
    assert_eq!((welcome.keep, welcome.drop), (vec![], vec![]));
    report(&client, &accepted, 2, answered()).await;
    stale(&mut client, &accepted).await;
}

pub(crate) async fn an_assignment_that_was_not_answered_comes_again<P: Part>() {
    let instance = Uuid::now_v7();
    let (part, client, work) = assigned::<P>(instance).await;
    drop(client);
    let (mut client, _) = resumed(&part, instance, &[]).await;
    assert_eq!(assignment(&mut client).await.work, Some(work.clone()));
    report(&client, &work, 1, accept()).await;
    acknowledged(&mut client, &work, 1).await;
}

pub(crate) async fn a_goodbye_gives_the_attempts_up<P: Part>() {
    let instance = Uuid::now_v7();
    let (part, client, accepted) = at_work::<P>(instance).await;
    client.say(Say::Goodbye(v1::Goodbye {})).await;
    client.end().await.unwrap();
    let (_client, welcome) = resumed(&part, instance, &[&accepted]).await;
    assert_eq!(welcome.drop, [accepted]);
}

/// Waits for the end of an attempt and gives it: true when it is `Cancel`.
async fn is_cancelled(client: &mut Client, work: &v1::Work) -> bool {
    let look = |heard: &Hear| match heard {
        Hear::Cancel(cancel) if cancel.work.as_ref() == Some(work) => Some(true),
        Hear::Stale(stale) if stale.work.as_ref() == Some(work) => Some(false),
        _ => None,
    };
    client.wait("the end of an attempt", look).await
}

/// Says that the work ended, as an agent does that heard `Cancel`; it does not count.
async fn stops(client: &mut Client, work: &v1::Work) {
    let outcome = v1::finished::Outcome::Cancelled(v1::Cancelled::default());
    let outcome = Some(outcome);
    let finished = Event::Finished(v1::Finished { outcome });
    report(client, work, 2, finished).await;
    stale(client, work).await;
}

/// It hears `Cancel`, also when a renewal of its leases finds the end first, and nothing more of it:
/// an agent that heard `Cancel` has the time to say how the work ended.
pub(crate) async fn what_is_called_off_is_stopped_and_over<P: Part>() {
    let (part, mut client, accepted) = at_work::<P>(Uuid::now_v7()).await;
    part.call_off(&accepted).await;
    beat(&client, &[&accepted]).await;
    assert!(is_cancelled(&mut client, &accepted).await);
    beat(&client, &[&accepted]).await;
    ask(&client, &accepted, v1::CredentialScope::Read).await;
    let after = client
        .wait("the answer to the request", |heard| match heard {
            Hear::Cancel(_) | Hear::Stale(_) => Some("the end again"),
            Hear::Credential(_) => Some("a refusal"),
            _ => None,
        })
        .await;
    assert_eq!(after, "a refusal");
    stops(&mut client, &accepted).await;
}

/// A registration that resumes it is answered with `Cancel` instead of a place in `drop`.
pub(crate) async fn what_is_called_off_while_the_agent_is_away_is_cancelled_when_it_is_back<
    P: Part,
>() {
    let instance = Uuid::now_v7();
    let (part, client, accepted) = at_work::<P>(instance).await;
    drop(client);
    part.call_off(&accepted).await;
    for _ in 0..2 {
        let (mut client, welcome) = resumed(&part, instance, &[&accepted]).await;
        assert_eq!((welcome.keep, welcome.drop), (vec![], vec![]));
        assert!(is_cancelled(&mut client, &accepted).await);
        // It hears it once a stream, however often it names what it has not stopped yet.
        beat(&client, &[&accepted]).await;
        let strange = work();
        beat(&client, &[&accepted, &strange]).await;
        stale(&mut client, &strange).await;
    }
    let (mut client, _) = resumed(&part, instance, &[&accepted]).await;
    assert!(is_cancelled(&mut client, &accepted).await);
    stops(&mut client, &accepted).await;
}

pub(crate) async fn what_was_called_off_is_cancelled_also_when_the_agent_names_it_late<P: Part>() {
    let instance = Uuid::now_v7();
    let (part, client, accepted) = at_work::<P>(instance).await;
    drop(client);
    part.call_off(&accepted).await;
    let (mut client, welcome) = resumed(&part, instance, &[]).await;
    assert_eq!((welcome.keep, welcome.drop), (vec![], vec![]));
    beat(&client, &[&accepted]).await;
    assert!(is_cancelled(&mut client, &accepted).await);
}

pub(crate) async fn what_was_called_off_is_cancelled_also_when_a_report_on_it_is_faster<P: Part>() {
    let (part, mut client, accepted) = at_work::<P>(Uuid::now_v7()).await;
    part.call_off(&accepted).await;
    report(&client, &accepted, 2, progress()).await;
    assert!(is_cancelled(&mut client, &accepted).await);
}

pub(crate) async fn a_credential_is_for_a_live_attempt_of_the_agent<P: Part>() {
    let (_part, mut client, accepted) = at_work::<P>(Uuid::now_v7()).await;
    let (read, publish) = (v1::CredentialScope::Read, v1::CredentialScope::Publish);
    for scope in [read, publish] {
        let Answer::Token(token) = credential(&mut client, &accepted, scope).await else {
            panic!("no token");
        };
        assert_eq!(token.token, TOKEN);
    }
    let unspecified = v1::CredentialScope::Unspecified;
    let refused = credential(&mut client, &accepted, unspecified).await;
    let Answer::Refused(why) = refused else {
        panic!("a token for nothing");
    };
    assert!(why.contains("credential_request.scope"), "{why}");
    let of_nobody = credential(&mut client, &work(), read).await;
    report(&client, &accepted, 2, answered()).await;
    acknowledged(&mut client, &accepted, 2).await;
    let over = credential(&mut client, &accepted, read).await;
    for refused in [of_nobody, over] {
        let Answer::Refused(why) = refused else {
            panic!("a token for an attempt that is not live");
        };
        assert!(why.contains("not this agent's"), "{why}");
    }
}
