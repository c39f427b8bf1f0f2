//! A task from its assignment to its outcome.

use patchfleet_domain::{AttemptNumber, Work};
use patchfleet_proto::v1;
use patchfleet_proto::v1::finished::Outcome;
use patchfleet_proto::v1::report::Event;
use patchfleet_testkit::stub_coordinator::Heard;

use crate::scene::{Agent, FIX, Scene, reports_of, work};

async fn failure(scene: &Scene, work: Work) -> v1::Failed {
    match scene.outcome(work).await {
        Outcome::Failed(failed) => failed,
        other => panic!("a failure was expected: {other:?}"),
    }
}

fn checkpoints(work: Work, heard: &[Heard]) -> Vec<v1::Checkpoint> {
    let checkpoint = |report: v1::Report| match report.event {
        Some(Event::Checkpoint(checkpoint)) => Some(checkpoint),
        _ => None,
    };
    let reports = reports_of(work, heard).into_iter();
    reports.filter_map(checkpoint).collect()
}

#[tokio::test]
async fn an_issue_becomes_a_pull_request_with_tests_red_before_and_green_after() {
    let scene = Scene::new().await;
    let agent = scene.agent(&format!("echo about to mend it; {FIX}"));
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    let ended = scene.outcome(work).await;
    let Outcome::PullRequest(opened) = ended else {
        panic!("no pull request: {ended:?}");
    };
    let pulls = scene.github.pulls("acme/orders").unwrap();
    assert_eq!(pulls.len(), 1);
    assert_eq!(opened.number, pulls[0].number);
    assert_eq!(opened.head, "patchfleet/7-totals-are-wrong");
    assert!(opened.draft);
    let returncode = |verdict: Option<v1::TestVerdict>| verdict.unwrap().returncode;
    assert_eq!(returncode(opened.tests_before), Some(1));
    assert_eq!(returncode(opened.tests_after), Some(0));

    let heard = scene.stub.heard();
    let reports = reports_of(work, &heard);
    let phases = reports.iter().filter_map(|report| match &report.event {
        Some(Event::Progress(progress)) => Some(progress.phase.as_str()),
        _ => None,
    });
    let phases: Vec<_> = phases.collect();
    assert_eq!(
        phases.join(" "),
        "workspace analyze generate apply test review review publish report"
    );
    let lines = reports.iter().flat_map(|report| match &report.event {
        Some(Event::Log(log)) => log.lines.clone(),
        _ => Vec::new(),
    });
    assert!(lines.into_iter().any(|line| line == "about to mend it"));
    let warm =
        |beat: &v1::Heartbeat| beat.warm_repositories == ["acme/orders"] && beat.current.is_empty();
    scene.heartbeat("a mirror, and free slots", 1, warm).await;
    agent.end().await;
}

#[tokio::test]
async fn a_later_attempt_on_another_host_goes_on_from_the_checkpoints() {
    let scene = Scene::new().await;
    let first = scene.agent(FIX);
    let one = work(1);
    scene.stub.assign(scene.assign(one));
    scene.outcome(one).await;
    first.end().await;

    let mut config = scene.config("echo paid twice >&2; exit 1");
    config.id = "general-2".parse().unwrap();
    let second = Agent::start(config);
    let two = Work {
        task: one.task,
        attempt: AttemptNumber(2),
    };
    let mut known = checkpoints(one, &scene.stub.heard());
    known.retain(|it| ["inspect", "draft", "patch"].contains(&it.node.as_str()));
    assert_eq!(known.len(), 3);
    let mut assign = scene.assign(two);
    assign.checkpoints = known;
    scene.stub.assign(assign);
    let ended = scene.outcome(two).await;
    assert!(matches!(ended, Outcome::PullRequest(_)), "{ended:?}");
    assert_eq!(scene.github.pulls("acme/orders").unwrap().len(), 1);
    let nodes: Vec<_> = checkpoints(two, &scene.stub.heard())
        .into_iter()
        .map(|it| it.node)
        .collect();
    assert_eq!(
        nodes.join(" "),
        "test review route publish summarize",
        "only what was not checkpointed is done"
    );
    second.end().await;
}

#[tokio::test]
async fn tests_that_stay_red_fail_the_task_without_a_pull_request() {
    let scene = Scene::new().await;
    let agent = scene.agent("echo '# no fix' >> calc.py");
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    let failed = failure(&scene, work).await;
    assert_eq!(failed.kind, "tests_failed");
    assert!(!failed.retryable && failed.discard_checkpoints);
    assert!(failed.message.contains("test_add"), "{}", failed.message);
    assert_eq!(scene.github.pulls("acme/orders").unwrap().len(), 0);
    agent.end().await;
}

#[tokio::test]
async fn a_draft_command_that_fails_fails_the_task_and_frees_the_slot() {
    let scene = Scene::new().await;
    let agent = scene.agent("echo no model today >&2; exit 3");
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    let failed = failure(&scene, work).await;
    assert_eq!(failed.kind, "draft_failed");
    assert!(
        failed.message.contains("no model today"),
        "{}",
        failed.message
    );
    let rests = |beat: &v1::Heartbeat| beat.current.is_empty() && beat.free_slots == 2;
    scene.heartbeat("free slots", 1, rests).await;
    agent.end().await;
}

#[tokio::test]
async fn a_repository_that_can_not_be_cloned_fails_the_task() {
    let scene = Scene::new().await;
    let agent = scene.agent(FIX);
    let work = work(1);
    let mut assign = scene.assign(work);
    assign.task.as_mut().unwrap().clone_url = scene.github.clone_url("acme/nothing");
    scene.stub.assign(assign);
    let failed = failure(&scene, work).await;
    assert_eq!(failed.kind, "clone_failed");
    agent.end().await;
}

/// Everything that was said to the coordinator of an attempt, as text.
fn said(work: Work, heard: &[Heard]) -> String {
    let reports = reports_of(work, heard).into_iter();
    let events = reports.filter_map(|report| report.event);
    let read = events.filter(|event| !matches!(event, Event::Checkpoint(_)));
    format!("{:?}", read.collect::<Vec<_>>())
}

#[tokio::test]
async fn a_failure_names_files_as_in_the_repository_and_no_folder_of_the_host() {
    let scene = Scene::new().await;
    let agent = scene.agent("echo $PWD/calc.py: no model, see $HOME/log | tee /dev/stderr; exit 3");
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    let failed = failure(&scene, work).await;
    assert_eq!(failed.kind, "draft_failed");
    let (message, folder) = (&failed.message, scene.file("").display().to_string());
    assert!(message.contains("\ncalc.py: no model"), "{message}");
    assert!(message.contains("see <workspaces>/general-1/"), "{message}");
    let all = said(work, &scene.stub.heard());
    assert!(
        all.contains("calc.py: no model") && !all.contains(&folder),
        "{all}"
    );
    agent.end().await;
}

#[tokio::test]
async fn a_work_tree_that_is_gone_is_not_told_with_its_place_on_the_host() {
    let scene = Scene::new().await;
    let agent = scene.agent("rm -rf \"$PWD\"");
    let work = work(1);
    scene.stub.assign(scene.assign(work));
    let failed = failure(&scene, work).await;
    let folder = scene.file("").display().to_string();
    assert!(failed.message.contains("No such file"), "{failed:?}");
    assert!(!failed.message.contains(&folder), "{failed:?}");
    agent.end().await;
}
