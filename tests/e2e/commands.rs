//! What a maintainer says on the issue.

use patchfleet_domain::TaskState;
use patchfleet_testkit::github::{OpenState, Permission};

use crate::world::{REPOSITORY, World};

#[tokio::test]
async fn run_cancel_and_run_again() {
    let world = World::new().await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.say(issue, "/patchfleet run --priority high");
    world.drafting().await;
    world.say(issue, "/patchfleet cancel");
    world.task_in(TaskState::Cancelled).await;
    world.status_says(issue, "Patchfleet: called off").await;
    gate.open();
    // The slot is free again: the draft command was ended with all that it started.
    world.idle_agent().await;
    world.say(issue, "/patchfleet run");
    world.pull_request().await;
    let tasks = world.tasks().await;
    let states: Vec<_> = tasks.iter().map(|task| task.state).collect();
    assert_eq!(states, [TaskState::Review, TaskState::Cancelled]);
    assert_eq!(world.status_comments(issue).len(), 2, "one for each task");
}

#[tokio::test]
async fn status_is_told_on_request_and_strangers_are_not_obeyed() {
    let world = World::new().await;
    let issue = world.open();
    world
        .github
        .comment(REPOSITORY, "stranger", issue, "/patchfleet run")
        .unwrap();
    world.say(issue, "/patchfleet status");
    let look = async || {
        let comments = world.github.comments(REPOSITORY, issue).unwrap();
        comments
            .into_iter()
            .find(|it| it.body.contains("no task for this issue"))
    };
    world.eventually("an answer", look).await;
    assert_eq!(world.tasks().await.len(), 0);
    world
        .github
        .set_permission(REPOSITORY, "stranger", Permission::Write)
        .unwrap();
    world
        .github
        .comment(REPOSITORY, "stranger", issue, "/patchfleet run")
        .unwrap();
    world.pull_request().await;
}

#[tokio::test]
async fn a_pull_request_closed_without_a_merge_fails_and_may_be_tried_again() {
    let world = World::new().await;
    let issue = world.open();
    world.label(issue);
    let pull = world.pull_request().await;
    world
        .github
        .close_pull(REPOSITORY, "maintainer", pull.number)
        .unwrap();
    world.task_in(TaskState::Failed).await;
    world.status_says(issue, "pull_request_closed").await;
    world.say(issue, "/patchfleet retry");
    world.task_in(TaskState::Review).await;
    let pulls = world.github.pulls(REPOSITORY).unwrap();
    let open: Vec<_> = pulls
        .iter()
        .filter(|it| it.state == OpenState::Open)
        .map(|it| it.number)
        .collect();
    assert_eq!(open.len(), 1, "{pulls:#?}");
    world
        .github
        .merge_pull(REPOSITORY, "maintainer", open[0])
        .unwrap();
    world.task_in(TaskState::Completed).await;
    assert_eq!(world.drafts(), 2, "what was closed is not offered again");
}
