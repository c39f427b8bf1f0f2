//! Hosts on which nothing can be done: the agent says so, takes nothing and recovers by itself.

use std::os::unix::fs::PermissionsExt as _;

use patchfleet_proto::v1;
use patchfleet_proto::v1::agent_message::Body as Said;
use patchfleet_proto::v1::finished::Outcome;
use patchfleet_proto::v1::report::Event;
use patchfleet_testkit::stub_coordinator::Heard;

use crate::scene::{Agent, FIX, Scene, draft_by, reports_of, work};

fn in_error(beat: &v1::Heartbeat) -> bool {
    beat.state == "error"
}

#[tokio::test]
async fn an_agent_whose_tool_is_missing_says_so_takes_nothing_and_recovers() {
    let scene = Scene::new().await;
    let tool = scene.file("coding-tool");
    let mut config = scene.config(FIX);
    config.draft = draft_by(vec![tool.to_str().unwrap().to_owned()]);
    let agent = Agent::start(config);
    let registered = |heard: &[Heard]| {
        heard.iter().find_map(|it| match &it.message.body {
            Some(Said::Register(register)) => Some(register.clone()),
            _ => None,
        })
    };
    let register = scene.stub.wait_for("a registration", registered).await;
    let register = register.unwrap();
    assert_eq!(register.state, "error", "before it could get anything");
    assert!(register.reason.contains("coding-tool"), "{register:?}");
    let folder = scene.file("").display().to_string();
    assert!(!register.reason.contains(&folder), "{register:?}");
    let beat = scene.heartbeat("an error", 1, in_error).await;
    assert!(beat.reason.contains("coding-tool"), "{beat:?}");
    assert!(!beat.reason.contains(&folder), "{beat:?}");
    // What was on its way nevertheless comes back with the reason.
    let early = work(1);
    scene.stub.assign(scene.assign(early));
    let refusal = |heard: &[Heard]| {
        let reports = reports_of(early, heard).into_iter();
        reports
            .filter_map(|report| report.event)
            .find_map(|event| match event {
                Event::Refuse(refuse) => Some(refuse.reason),
                _ => None,
            })
    };
    let reason = scene.stub.wait_for("a refusal", refusal).await.unwrap();
    assert!(reason.contains("coding-tool"), "{reason}");
    assert!(!reason.contains(&folder), "{reason}");

    std::fs::write(&tool, format!("#!/bin/sh\n{FIX}\n")).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let fit = |beat: &v1::Heartbeat| beat.state == "idle" && beat.reason.is_empty();
    scene.heartbeat("it is fit again", 1, fit).await;
    let next = work(1);
    scene.stub.assign(scene.assign(next));
    let ended = scene.outcome(next).await;
    assert!(matches!(ended, Outcome::PullRequest(_)), "{ended:?}");
    agent.end().await;
}

#[tokio::test]
async fn a_tool_that_goes_away_costs_the_task_nothing() {
    let scene = Scene::new().await;
    let tool = scene.file("coding-tool");
    std::fs::write(&tool, "#!/bin/sh\nrm -- \"$0\"\nexit 1\n").unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut config = scene.config(FIX);
    config.draft = draft_by(vec![tool.to_str().unwrap().to_owned()]);
    let agent = Agent::start(config);
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    let ended = scene.outcome(work).await;
    let Outcome::Failed(failed) = ended else {
        panic!("{ended:?}");
    };
    assert!(failed.host_fault && failed.retryable, "{failed:?}");
    assert!(failed.message.contains("coding-tool"), "{failed:?}");
    agent.end().await;
}

#[tokio::test]
async fn three_tasks_that_fail_early_and_alike_are_the_hosts_fault() {
    let scene = Scene::new().await;
    let agent = scene.agent("echo \"request $$: no model answers\" >&2; exit 3");
    for round in 1..=3 {
        let work = work(1);
        scene.stub.assign(scene.assign(work));
        let ended = scene.outcome(work).await;
        let Outcome::Failed(failed) = ended else {
            panic!("{ended:?}");
        };
        assert_eq!(failed.host_fault, round == 3, "{round}: {failed:?}");
    }
    let beat = scene.heartbeat("an error", 1, in_error).await;
    assert!(beat.reason.contains("no model answers"), "{beat:?}");
    // It said so before the third report, so that it could not get a fourth task.
    let heard = scene.stub.heard();
    let at = |is_it: &dyn Fn(&Heard) -> bool| heard.iter().position(is_it).unwrap();
    let error = at(&|it| matches!(&it.message.body, Some(Said::Heartbeat(beat)) if in_error(beat)));
    let third = at(&|it| match &it.message.body {
        Some(Said::Report(report)) => crate::scene::outcome(report.clone())
            .is_some_and(|ended| matches!(ended, Outcome::Failed(failed) if failed.host_fault)),
        _ => false,
    });
    assert!(error < third);
    agent.end().await;
}
