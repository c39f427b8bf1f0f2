//! Webhooks that come twice, late, out of order, or not at all.

use std::time::Duration;

use patchfleet_domain::TaskState;
use patchfleet_testkit::github::Order;

use crate::world::{MAINTAINER, Part, Plan, REPOSITORY, World};

const PATIENCE: Duration = Duration::from_secs(20);

#[tokio::test]
async fn doubled_deliveries_do_everything_once() {
    let world = World::new().await;
    world.github.duplicate_next(100);
    let issue = world.open();
    world.label(issue);
    world.merge_and_check(issue).await;
    assert_eq!(world.drafts(), 1);
}

#[tokio::test]
async fn deliveries_out_of_order_lead_to_the_same() {
    let world = World::new().await;
    world.github.hold_deliveries();
    let issue = world.open();
    world
        .github
        .add_label(REPOSITORY, MAINTAINER, issue, "urgent")
        .unwrap();
    world.label(issue);
    world.github.release_deliveries(Order::Reversed);
    world.merge_and_check(issue).await;
    assert_eq!(world.drafts(), 1);
}

#[tokio::test]
async fn a_delivery_that_met_no_coordinator_counts_when_it_is_sent_again() {
    let mut world = World::new().await;
    world.github.deliveries_settled(PATIENCE).await.unwrap();
    world.kill(Part::Coordinator).await;
    let issue = world.open();
    world.label(issue);
    world.github.deliveries_settled(PATIENCE).await.unwrap();
    world.start(Part::Coordinator).await;
    assert_eq!(world.tasks().await.len(), 0);
    let failed: Vec<_> = world.github.deliveries();
    let failed = failed.iter().filter(|it| it.status().is_none());
    let failed: Vec<_> = failed.map(|it| it.id).collect();
    assert!(!failed.is_empty());
    // A person presses "Redeliver", and presses it twice.
    for id in failed.iter().chain(&failed) {
        world.github.redeliver(*id).unwrap();
    }
    world.merge_and_check(issue).await;
    assert_eq!(world.drafts(), 1);
}

#[tokio::test]
async fn what_no_webhook_told_of_is_found() {
    let world = World::with(Plan {
        sweep: "400ms",
        ..Plan::default()
    })
    .await;
    world.github.deliveries_settled(PATIENCE).await.unwrap();
    world.github.lose_next(usize::MAX);
    let issue = world.open();
    world.label(issue);
    world.merge_and_check(issue).await;
    assert_eq!(world.drafts(), 1);
}

#[tokio::test]
async fn a_merge_that_is_told_before_the_agent_reports_completes_the_task() {
    let world = World::new().await;
    let gate = world
        .github
        .hold_after(patchfleet_testkit::github::Matcher::regex("POST", "/pulls$").unwrap());
    let issue = world.open();
    world.label(issue);
    gate.reached().await;
    let pulls = world.github.pulls(REPOSITORY).unwrap();
    world
        .github
        .merge_pull(REPOSITORY, MAINTAINER, pulls[0].number)
        .unwrap();
    world.github.deliveries_settled(PATIENCE).await.unwrap();
    gate.release();
    world.task_in(TaskState::Completed).await;
}
