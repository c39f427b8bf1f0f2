//! What an agent says of itself, and what it takes on.

use patchfleet_agent::NotAdmitted;
use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_proto::v1::coordinator_message::Body;
use patchfleet_testkit::stub_coordinator::{Heard, Step};

use crate::scene::{Agent, FIX, Scene, reports_of, work};

fn registers(heard: &[Heard]) -> Vec<v1::Register> {
    let register = |it: &Heard| match &it.message.body {
        Some(Said::Register(register)) => Some(register.clone()),
        _ => None,
    };
    heard.iter().filter_map(register).collect()
}

fn refusals(heard: &[Heard]) -> Vec<String> {
    let reason = |it: &Heard| match &it.message.body {
        Some(Said::Report(v1::Report {
            event: Some(v1::report::Event::Refuse(refuse)),
            ..
        })) => Some(refuse.reason.clone()),
        _ => None,
    };
    heard.iter().filter_map(reason).collect()
}

#[tokio::test]
async fn an_agent_says_who_it_is_and_how_it_does() {
    let scene = Scene::new().await;
    let agent = scene.agent(FIX);
    let beat = scene.heartbeat("a heartbeat", 1, |_| true).await;
    assert_eq!((beat.free_slots, beat.current), (2, Vec::new()));
    assert!((0.0..=1.0).contains(&beat.load));

    scene.stub.cut();
    scene.heartbeat("a new stream", 2, |_| true).await;
    let registers = registers(&scene.stub.heard());
    let [first, second] = registers.as_slice() else {
        panic!("one registration a stream: {registers:?}");
    };
    assert_eq!(first.agent_id, "general-1");
    assert_eq!(first.agent_type, "general");
    assert_eq!(first.capabilities, ["python"]);
    assert_eq!((first.clearance.as_str(), first.slots), ("internal", 2));
    assert_eq!(first.protocol, 1);
    assert_eq!(first, second, "the same process says the same");
    agent.end().await;
}

#[tokio::test]
async fn an_agent_with_a_wrong_key_stays_outside_and_ends_with_the_reason() {
    let scene = Scene::new().await;
    let mut config = scene.config(FIX);
    config.id = "outsider-1".parse().unwrap();
    config.coordinator.key = patchfleet_config::Secret::Inline("wrong".into());
    let refused = Agent::start(config).ended().await.unwrap_err();
    assert!(refused.is::<NotAdmitted>(), "{refused:#}");
    let says = refused.to_string();
    assert!(
        says.contains("does not admit the agent `outsider-1`: its key is wrong"),
        "{says}"
    );
    assert_eq!(registers(&scene.stub.heard()), []);
}

#[tokio::test]
async fn what_an_agent_can_not_take_on_it_refuses_with_a_reason() {
    let scene = Scene::new().await;
    let agent = scene.agent(&format!("cat {}", scene.gate().display()));
    let mut revision = scene.assign(work(1));
    revision.task.as_mut().unwrap().kind = "revision".to_owned();
    scene.stub.assign(revision);
    let (first, second) = (work(1), work(1));
    for work in [first, second] {
        scene.stub.assign(scene.assign(work));
        scene.wait_for_node(work, "draft").await;
    }
    scene.stub.assign(scene.assign(work(1)));
    scene.stub.send(Body::Drain(v1::Drain {
        reason: "an update".to_owned(),
    }));
    scene.stub.assign(scene.assign(work(1)));
    let all = |heard: &[Heard]| Some(refusals(heard)).filter(|all| all.len() == 3);
    let refusals = scene.stub.wait_for("three refusals", all).await.unwrap();
    assert_eq!(
        refusals,
        [
            "tasks of kind `revision` are not for this agent",
            "no slot is free",
            "the agent is draining",
        ]
    );
    // What it refused is named until the coordinator has taken that in.
    let resting = |beat: &v1::Heartbeat| beat.state == "maintenance" && beat.current.len() == 2;
    let beat = scene.heartbeat("a draining agent", 1, resting).await;
    assert_eq!(beat.free_slots, 0);
    agent.kill().await;
}

#[tokio::test]
async fn an_assignment_that_comes_twice_is_worked_on_once() {
    let scene = Scene::new().await;
    let agent = scene.agent(FIX);
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    scene.stub.assign(scene.assign(work));
    scene.outcome(work).await;
    let reports = reports_of(work, &scene.stub.heard());
    let accepts = reports
        .iter()
        .filter(|report| Step::of(report) == Some(Step::Accept));
    assert_eq!(accepts.count(), 1);
    agent.end().await;
}
