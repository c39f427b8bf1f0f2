//! What one task costs of GitHub's hourly limit.

use patchfleet_testkit::github::RequestRecord;

use crate::world::World;

/// What a task takes from its label to its merged pull request, when all that can be told of it is told:
/// three to judge the label, two for the first word and its label, one for the pull request, three each
/// for "ready for review" and "done".
const MOST: usize = 12;
/// What it takes more where it waits for an agent for so long that this is told, too: the machine is busy.
const WAITING: usize = 3;

/// Requests that count against the limit, as lines.
fn counted(world: &World) -> Vec<String> {
    let counts = |it: &RequestRecord| {
        let of_task = it.path.starts_with("/repos/") && !it.path.contains(".git/");
        of_task && it.status != Some(304)
    };
    let requests = world.github.requests().into_iter().filter(counts);
    let line = |it: RequestRecord| format!("{} {}", it.method, it.path);
    requests.map(line).collect()
}

/// At each step everything is told before the next one, so that nothing is saved by being quick.
#[tokio::test]
async fn a_task_takes_at_most_twelve_requests_from_its_label_to_its_merge() {
    let world = World::new().await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.status_says(issue, "Patchfleet: at work").await;
    world.has_label(issue, "patchfleet:working").await;
    gate.open();
    world
        .status_says(issue, "Patchfleet: ready for review")
        .await;
    world.has_label(issue, "patchfleet:review").await;
    world.merge_and_check(issue).await;
    world.has_label(issue, "patchfleet:done").await;
    let made = counted(&world);
    let waited = made
        .iter()
        .any(|line| line.starts_with("DELETE") && line.contains("queued"));
    let most = if waited { MOST + WAITING } else { MOST };
    assert!(made.len() <= most, "{} requests: {made:#?}", made.len());
}
