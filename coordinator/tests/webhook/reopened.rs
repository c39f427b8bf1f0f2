//! Pull requests that are closed and opened again, in whatever order that is heard of.

use anyhow::Result;
use patchfleet_domain::TaskState;
use patchfleet_testkit::github::Order;

use crate::endings::{open_pull, review_of};
use crate::scene::{REPOSITORY, Scene};
use crate::sweep::{self, sweep};

/// An issue whose task is in review with a pull request that GitHub has.
async fn in_review() -> Result<(Scene, u64, u64)> {
    let scene = Scene::start().await?;
    scene.connect();
    let (issue, number) = reviewed(&scene).await?;
    Ok((scene, issue, number))
}

async fn reviewed(scene: &Scene) -> Result<(u64, u64)> {
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    let number = open_pull(scene, &scene.task(issue).await?).await?;
    review_of(scene, issue, number).await?;
    Ok((issue, number))
}

async fn is_in(scene: &Scene, issue: u64, state: TaskState) -> Result<()> {
    scene.settled().await?;
    let task = scene.task(issue).await?;
    assert_eq!(task.state, state, "{:?}", task.failure);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_request_that_is_closed_and_opened_again_is_in_review_and_its_merge_completes()
-> Result<()> {
    let (scene, issue, number) = in_review().await?;
    let task = scene.task(issue).await?.id;
    scene.simulator.close_pull(REPOSITORY, "mona", number)?;
    is_in(&scene, issue, TaskState::Failed).await?;
    scene.simulator.reopen_issue(REPOSITORY, "mona", number)?;
    is_in(&scene, issue, TaskState::Review).await?;
    // Once more, as people do who want the checks to run again.
    scene.simulator.close_pull(REPOSITORY, "mona", number)?;
    is_in(&scene, issue, TaskState::Failed).await?;
    scene.simulator.reopen_issue(REPOSITORY, "mona", number)?;
    is_in(&scene, issue, TaskState::Review).await?;
    scene.simulator.merge_pull(REPOSITORY, "mona", number)?;
    is_in(&scene, issue, TaskState::Completed).await?;
    let merged = scene.task(issue).await?;
    assert_eq!(merged.id, task);
    assert_eq!(merged.attempt.0, 1);
    assert!(merged.pull_request.unwrap().merged);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_closing_that_is_heard_of_after_the_opening_changes_nothing() -> Result<()> {
    let (scene, issue, number) = in_review().await?;
    scene.simulator.hold_deliveries();
    scene.simulator.close_pull(REPOSITORY, "mona", number)?;
    scene.simulator.reopen_issue(REPOSITORY, "mona", number)?;
    scene.simulator.release_deliveries(Order::Reversed);
    is_in(&scene, issue, TaskState::Review).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_that_is_heard_of_after_the_next_closing_changes_nothing() -> Result<()> {
    let (scene, issue, number) = in_review().await?;
    scene.simulator.close_pull(REPOSITORY, "mona", number)?;
    scene.settled().await?;
    scene.simulator.hold_deliveries();
    scene.simulator.reopen_issue(REPOSITORY, "mona", number)?;
    scene.simulator.close_pull(REPOSITORY, "mona", number)?;
    scene.simulator.release_deliveries(Order::Reversed);
    is_in(&scene, issue, TaskState::Failed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_merge_counts_although_the_opening_before_it_was_lost() -> Result<()> {
    let (scene, issue, number) = in_review().await?;
    scene.simulator.close_pull(REPOSITORY, "mona", number)?;
    is_in(&scene, issue, TaskState::Failed).await?;
    scene.simulator.lose_next(1);
    scene.simulator.reopen_issue(REPOSITORY, "mona", number)?;
    scene.settled().await?;
    scene.simulator.merge_pull(REPOSITORY, "mona", number)?;
    is_in(&scene, issue, TaskState::Completed).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_finds_what_was_opened_again_and_what_was_merged_after_all() -> Result<()> {
    let (scene, sweeper) = sweep::scene().await?;
    scene.connect();
    let (issue, number) = reviewed(&scene).await?;
    scene.simulator.close_pull(REPOSITORY, "mona", number)?;
    is_in(&scene, issue, TaskState::Failed).await?;
    assert_eq!(sweep(&sweeper).await?, 0);
    scene.simulator.lose_next(usize::MAX);
    scene.simulator.reopen_issue(REPOSITORY, "mona", number)?;
    assert_eq!(sweep(&sweeper).await?, 1);
    is_in(&scene, issue, TaskState::Review).await?;
    assert_eq!(sweep(&sweeper).await?, 0);
    scene.simulator.close_pull(REPOSITORY, "mona", number)?;
    assert_eq!(sweep(&sweeper).await?, 1);
    is_in(&scene, issue, TaskState::Failed).await?;
    scene.simulator.reopen_issue(REPOSITORY, "mona", number)?;
    scene.simulator.merge_pull(REPOSITORY, "mona", number)?;
    assert!(sweep(&sweeper).await? >= 1);
    is_in(&scene, issue, TaskState::Completed).await
}
