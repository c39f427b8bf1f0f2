//! Tests that stay red send the task back to the draft, three times at most.

use patchfleet_domain::{FailureKind, TaskState};

use crate::world::{Plan, World, kit};

fn answer(path: &str) -> String {
    std::fs::read_to_string(kit(path)).unwrap()
}

#[tokio::test]
async fn a_second_round_mends_what_the_first_left_red() {
    let world = World::with(Plan {
        answers: vec![
            answer("sample/answers-two-rounds/1.diff"),
            answer("sample/answers-two-rounds/2.diff"),
        ],
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    world.merge_and_check(issue).await;
    let id = world.tasks().await[0].id;
    let events = world
        .get(&format!("api/v1/tasks/{id}/events"))
        .await
        .unwrap();
    let again = events["events"].as_array().unwrap().iter();
    let again = again.filter(|it| it["from"] == "testing" && it["to"] == "in_progress");
    assert_eq!(again.count(), 1, "{events:#}");
}

#[tokio::test]
async fn three_rounds_that_stay_red_open_no_pull_request() {
    let first = answer("sample/answers-two-rounds/1.diff");
    let world = World::with(Plan {
        answers: vec![first.clone(), first.clone(), first],
        ..Plan::default()
    })
    .await;
    let issue = world.open();
    world.label(issue);
    let task = world.task_in(TaskState::Failed).await;
    assert_eq!(task.failure.unwrap().kind, FailureKind::TestsFailed);
    let told = world.status_says(issue, "tests_failed").await;
    assert!(
        told.contains("test_"),
        "the failing tests are named: {told}"
    );
    assert_eq!(
        world.github.pulls(crate::world::REPOSITORY).unwrap().len(),
        0
    );
}
