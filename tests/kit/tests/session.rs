//! Mock agent and stub coordinator, held against each other over real gRPC.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use patchfleet_domain::{AttemptNumber, Checkpoint, TaskId, Work, WorkEvent};
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_proto::v1::credential::Answer as Credential;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent, Profile};
use patchfleet_testkit::stub_coordinator::{
    Answer, Answers, Resume, Step, StubCoordinator, sample_assign,
};

async fn stub() -> StubCoordinator {
    StubCoordinator::start(Answers::default()).await.unwrap()
}

fn profile(stub: &StubCoordinator) -> Profile {
    Profile::new(&stub.url(), stub.key(), &"mock-1".parse().unwrap())
}

fn work() -> Work {
    Work {
        task: TaskId::new(),
        attempt: AttemptNumber(1),
    }
}

fn steps(stub: &StubCoordinator, work: Work) -> Vec<(u64, Step)> {
    let of_work = |report: &v1::Report| report.work == Some(work.into());
    let reports = stub.reports().into_iter().filter(of_work);
    reports
        .map(|report| (report.seq, Step::of(&report).unwrap()))
        .collect()
}

#[tokio::test]
async fn an_assignment_is_accepted_and_finished() {
    let stub = stub().await;
    let agent = MockAgent::start(profile(&stub), |_| Conduct::pull_request(7));
    let work = work();
    stub.assign(sample_assign(work));
    let finished = stub.wait_for_report(Step::Finished).await.unwrap();
    assert_eq!(finished.work, Some(work.into()));
    assert_eq!(steps(&stub, work), [(1, Step::Accept), (2, Step::Finished)]);
    agent
        .wait("acknowledgements", |seen| seen.unacknowledged == 0)
        .await
        .unwrap();
    assert_eq!(agent.calls(), 1);
}

#[tokio::test]
async fn what_was_not_acknowledged_is_said_again_in_order() {
    let stub = stub().await;
    stub.answer_once(Step::Accept, Answer::Silence);
    stub.answer_once(Step::Checkpoint, Answer::Cut);
    let agent = MockAgent::start(profile(&stub), |_| Conduct::Hold {
        events: vec![WorkEvent::Checkpoint(Checkpoint {
            node: "inspect".to_owned(),
            visit: 1,
            output: serde_json::Value::Null,
        })],
    });
    let work = work();
    stub.assign(sample_assign(work));
    let seen = agent
        .wait("acknowledgements", |seen| {
            seen.welcomes == 2 && seen.unacknowledged == 0
        })
        .await
        .unwrap();
    assert_eq!(seen.kept, [work]);
    let once = [(1, Step::Accept), (2, Step::Checkpoint)];
    assert_eq!(steps(&stub, work), [once, once].concat());
    assert_eq!(stub.streams(), 2);
}

#[tokio::test]
async fn dropped_stale_and_cancelled_work_stops() {
    let stub = stub().await;
    let agent = MockAgent::start(profile(&stub), |_| Conduct::Hold { events: Vec::new() });
    let (cancelled, dropped) = (work(), work());
    stub.assign(sample_assign(cancelled));
    stub.wait_for_report(Step::Accept).await.unwrap();
    stub.send(Body::Cancel(v1::Cancel {
        work: Some(cancelled.into()),
        reason: "no need".to_owned(),
    }));
    stub.wait_for_report(Step::Finished).await.unwrap();

    stub.assign(sample_assign(dropped));
    agent
        .wait("an acknowledged job", |seen| {
            seen.assigns.len() == 2 && seen.acknowledged == 3
        })
        .await
        .unwrap();
    stub.on_resume(Resume::Drop);
    stub.cut();
    let seen = agent.wait("a drop", |seen| !seen.dropped.is_empty()).await;
    assert_eq!(seen.unwrap().dropped, [dropped]);
    stub.cut();
    let seen = agent
        .wait("a third welcome", |seen| seen.welcomes == 3)
        .await;
    assert!(seen.unwrap().dropped.is_empty(), "it is not resumed");
}

#[tokio::test]
async fn more_than_the_slots_is_refused() {
    let stub = stub().await;
    let agent = MockAgent::start(profile(&stub), |_| Conduct::Hold { events: Vec::new() });
    for _ in 0..3 {
        stub.assign(sample_assign(work()));
    }
    stub.wait_for_report(Step::Refuse).await.unwrap();
    assert_eq!((agent.seen().most_jobs, agent.seen().overbooked), (2, 1));
}

#[tokio::test]
async fn credentials_are_what_the_stub_was_given() {
    let token = v1::Token {
        token: "secret".to_owned(),
        expires_unix_ms: 1,
        api_url: "http://127.0.0.1:1".to_owned(),
    };
    let answers = Answers {
        credential: Ok(token.clone()),
        ..Answers::default()
    };
    let stub = StubCoordinator::start(answers).await.unwrap();
    let agent = MockAgent::start(profile(&stub), |_| Conduct::Ignore);
    let work = work();
    stub.assign(sample_assign(work));
    agent
        .wait("an assignment", |seen| !seen.assigns.is_empty())
        .await
        .unwrap();
    agent.request_credential(work, v1::CredentialScope::Read, "1");
    let seen = agent
        .wait("a credential", |seen| !seen.credentials.is_empty())
        .await
        .unwrap();
    assert_eq!(seen.credentials["1"], Credential::Token(token));
}

#[tokio::test]
async fn a_wrong_key_is_refused_and_a_goodbye_is_heard() {
    let stub = stub().await;
    let mut wrong = profile(&stub);
    "wrong".clone_into(&mut wrong.key);
    let refused = MockAgent::start(wrong, |_| Conduct::Ignore);
    let seen = refused
        .wait("the end", |seen| seen.endings > 0)
        .await
        .unwrap();
    assert_eq!(seen.closed.unwrap().code, tonic::Code::Unauthenticated);

    let agent = MockAgent::start(profile(&stub), |_| Conduct::Ignore);
    agent.wait_connected().await.unwrap();
    agent.goodbye();
    let goodbye = |body: &v1::agent_message::Body| {
        matches!(body, v1::agent_message::Body::Goodbye(_)).then_some(())
    };
    stub.wait_for("a goodbye", |heard| {
        heard
            .iter()
            .find_map(|it| it.message.body.as_ref().and_then(goodbye))
    })
    .await
    .unwrap();
    let seen = agent
        .wait("the end", |seen| seen.endings > 0)
        .await
        .unwrap();
    assert_eq!(seen.closed.unwrap().code, tonic::Code::Ok);
}
