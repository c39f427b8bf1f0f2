//! Repositories and branches that get another name while a task is at work, and a GitHub that does not
//! take the pull request at once.

use patchfleet_domain::TaskState;
use patchfleet_testkit::github::{Fault, Matcher};

use crate::world::{REPOSITORY, World};

const SHOP: &str = "acme/shop";

#[tokio::test]
async fn a_repository_that_is_renamed_while_its_task_is_at_work_gets_its_pull_request() {
    let world = World::new().await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.drafting().await;
    let owner = REPOSITORY.split('/').next().unwrap();
    world
        .github
        .rename_repository(REPOSITORY, owner, SHOP)
        .unwrap();
    gate.open();
    let task = world.task_in(TaskState::Review).await;
    assert_eq!(task.repository.as_str(), SHOP);
    let pulls = world.github.pulls(SHOP).unwrap();
    assert_eq!(pulls.len(), 1, "{pulls:#?}");
    let look = async || {
        let comments = world.github.comments(SHOP, issue).unwrap();
        let ready = |body: &str| body.contains("ready for review");
        comments.into_iter().find(|it| ready(&it.body))
    };
    world
        .eventually("the status under the new name", look)
        .await;
    world
        .github
        .merge_pull(SHOP, "maintainer", pulls[0].number)
        .unwrap();
    world.task_in(TaskState::Completed).await;
    assert_eq!(world.drafts(), 1);
}

#[tokio::test]
async fn a_default_branch_that_is_renamed_while_a_task_is_at_work_is_asked_for_anew() {
    let world = World::new().await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.drafting().await;
    let owner = REPOSITORY.split('/').next().unwrap();
    world
        .github
        .rename_default_branch(REPOSITORY, owner, "trunk")
        .unwrap();
    gate.open();
    let pull = world.pull_request().await;
    assert_eq!(pull.pull.unwrap().base, "trunk");
    assert_eq!(world.drafts(), 1);
}

/// GitHub has not seen the branch yet, then the App is suspended for a moment: the work is done and is
/// not paid for again.
#[tokio::test]
async fn a_pull_request_that_github_does_not_take_at_once_is_offered_again() {
    let world = World::new().await;
    let opening = || Matcher::regex("POST", "/pulls$").unwrap();
    let unknown = Fault::Invalid {
        resource: "PullRequest",
        field: "head",
    };
    world.github.fault(opening(), unknown, 1);
    let suspended = Fault::Refusal(403, "This installation has been suspended");
    world.github.fault(opening(), suspended, 1);
    let issue = world.open();
    world.label(issue);
    let task = world.task_in(TaskState::Review).await;
    assert_eq!((task.attempt.0, task.failures), (1, 0));
    assert_eq!(world.drafts(), 1);
    assert_eq!(world.github.pulls(REPOSITORY).unwrap().len(), 1);
}
