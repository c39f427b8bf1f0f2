//! The whole way of an issue in containers, where this host has Podman.

use patchfleet_domain::TaskState;

use crate::sandbox::{ASKS, INSTALLS, model};
use crate::world::{Part, Plan, World};

/// The image that agents run; says so where there is none.
#[expect(
    clippy::print_stdout,
    reason = "whoever reads the test's output has to know"
)]
fn image() -> Option<String> {
    if !nix::unistd::geteuid().is_root() {
        println!("can't run here: Podman of a plain user needs more than its package");
        return None;
    }
    let image = patchfleet_testkit::container::image();
    image
        .inspect_err(|why| println!("can't run here: {why}"))
        .ok()
}

#[tokio::test]
async fn an_issue_becomes_a_pull_request_in_containers() {
    let Some(image) = image() else { return };
    let (base, asked, _server) = model().await;
    let program = ASKS.replace("@UPSTREAM@", &base);
    let world = World::with(Plan {
        container: Some(image),
        model: Some((program, base)),
        repository_config: Some(INSTALLS),
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let body = world.pull_request().await.body.unwrap_or_default();
    for line in [
        "Dependencies were installed by `python3 -c open(",
        "The draft command ran in the sandbox `container`, without network but for the operator's \
         model",
        "The tests ran in the sandbox `container`, without network",
    ] {
        assert!(body.contains(line), "{line}\n{body}");
    }
    world.merge_and_check(issue).await;
    world.no_key_was_seen();
    let keys: Vec<_> = asked
        .lock()
        .unwrap()
        .iter()
        .map(|it| it.1.clone())
        .collect();
    assert_eq!(keys, [format!("Bearer {}", world.keys.model)]);
    world.idle_agent().await;
    world.nothing_is_left().await;
}

#[tokio::test]
async fn an_agent_that_is_killed_leaves_no_container_once_it_is_back() {
    let Some(image) = image() else { return };
    let mut world = World::with(Plan {
        container: Some(image),
        ..Plan::default()
    })
    .await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.drafting().await;
    world.kill(Part::Agent).await;
    world.start(Part::Agent).await;
    gate.open();
    world.task_in(TaskState::Review).await;
    world.merge_and_check(issue).await;
    world.nothing_is_left().await;
}
