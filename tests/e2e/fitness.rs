//! A host on which nothing can be done, beside one on which all can.

use patchfleet_domain::{TaskState, WaitReason};
use serde_json::Value;

use crate::world::{Part, World};

const TOOL: &str = "coding-tool-that-is-not-installed";

async fn agent(world: &World, id: &str) -> Option<Value> {
    let list = world.get("api/v1/agents").await?;
    let mut agents = list["agents"].as_array()?.iter();
    agents.find(|agent| agent["id"] == id).cloned()
}

/// Waits until the agent `a-broken` says that it is unfit, and gives its reason.
pub(crate) async fn unfit(world: &World) -> String {
    let look = async || {
        let broken = agent(world, "a-broken").await?;
        (broken["state"] == "error").then(|| broken["reason"].as_str().unwrap().to_owned())
    };
    world.eventually("an agent that is unfit", look).await
}

#[tokio::test]
async fn one_broken_host_does_not_eat_the_queue() {
    let mut world = World::new().await;
    world.start_beside("a-broken", TOOL);
    let reason = unfit(&world).await;
    assert!(reason.contains(TOOL), "{reason}");
    for _ in 0..4 {
        let issue = world.open();
        world.label(issue);
    }
    let look = async || {
        let tasks = world.tasks().await;
        let done = |state| state == TaskState::Review;
        (tasks.len() == 4 && tasks.iter().all(|task| done(task.state))).then_some(tasks)
    };
    let tasks = world.eventually("four pull requests", look).await;
    assert!(tasks.iter().all(|task| task.failures == 0), "{tasks:#?}");
    // The file names the coordinator's ports from the second start on.
    world.end(Part::Coordinator).await;
    world.start(Part::Coordinator).await;
    unfit(&world).await;
    let doctor = crate::operator::beside(&world, &["doctor"]).await;
    let told = String::from_utf8_lossy(&doctor.stdout).into_owned();
    assert!(told.contains("a-broken") && told.contains(TOOL), "{told}");
}

#[tokio::test]
async fn with_only_a_broken_host_the_issue_says_why_nothing_happens() {
    let mut world = World::new().await;
    world.end(Part::Agent).await;
    world.start_beside("a-broken", TOOL);
    unfit(&world).await;
    let issue = world.open();
    world.label(issue);
    let task = world.task_in(TaskState::Waiting).await;
    assert_eq!(task.wait_reason, Some(WaitReason::Agent));
    let told = world.status_says(issue, "No agent takes this task").await;
    assert!(told.contains(TOOL), "{told}");
    let mut shell = crate::output::Transcript::of_operator(&world);
    shell.run(&["task", "list"]).await;
    shell.run(&["task", "show", &task.id.to_string()]).await;
    shell.matches("no_agent_takes_it");
    // With a fit agent it goes on by itself.
    world.start(Part::Agent).await;
    world.merge_and_check(issue).await;
}
