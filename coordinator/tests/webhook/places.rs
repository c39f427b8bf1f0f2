//! Repositories that are renamed, transferred or deleted, and issues that are moved.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use chrono::TimeDelta;
use patchfleet_coordinator::intake::IntakePolicy;
use patchfleet_coordinator::intake::sweep::Sweeper;
use patchfleet_domain::{IssueNumber, Task, TaskState};
use serde_json::json;

use crate::endings::{open_pull, review_of};
use crate::scene::{REPOSITORY, Scene};
use crate::sweep::{self, sweep};

const SHOP: &str = "acme/shop";

/// The newest task of an issue under a name of the repository.
async fn task(scene: &Scene, repository: &str, issue: u64) -> Result<Option<Task>> {
    let found = scene
        .store
        .task_of_issue(&repository.parse()?, IssueNumber(issue))
        .await?;
    Ok(found)
}

async fn state(scene: &Scene, repository: &str, issue: u64) -> Result<Option<TaskState>> {
    Ok(task(scene, repository, issue).await?.map(|it| it.state))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_repository_takes_its_tasks_along() -> Result<()> {
    for to in [SHOP, "other/orders", "other/shop"] {
        let scene = Scene::start().await?;
        scene.connect();
        let issue = scene.open("mona", &["patchfleet"])?;
        scene.settled().await?;
        let number = open_pull(&scene, &scene.task(issue).await?).await?;
        review_of(&scene, issue, number).await?;
        scene.simulator.rename_repository(REPOSITORY, "acme", to)?;
        scene.settled().await?;
        assert_eq!(state(&scene, REPOSITORY, issue).await?, None);
        let moved = task(&scene, to, issue).await?.unwrap();
        assert_eq!(moved.state, TaskState::Review);
        assert_eq!(moved.request.clone_url, scene.simulator.clone_url(to));
        scene.simulator.merge_pull(to, "mona", number)?;
        scene.settled().await?;
        assert_eq!(state(&scene, to, issue).await?, Some(TaskState::Completed));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rename_that_nobody_told_of_is_seen_by_the_next_event_and_old_ones_find_their_way()
-> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    let first = scene.task(issue).await?.id;
    scene.simulator.lose_next(1);
    scene
        .simulator
        .rename_repository(REPOSITORY, "acme", SHOP)?;
    scene.settled().await?;
    let other = scene
        .simulator
        .open_issue(SHOP, "mona", "More", "…", &["patchfleet"])?;
    scene.settled().await?;
    assert_eq!(
        task(&scene, SHOP, issue).await?.map(|it| it.id),
        Some(first)
    );
    assert!(task(&scene, SHOP, other).await?.is_some());

    // Delivered again under the old name, which is nobody's: nothing goes back.
    scene.simulator.lose_next(1);
    scene.simulator.close_issue(SHOP, "mona", issue)?;
    scene.settled().await?;
    let late = scene
        .simulator
        .deliveries()
        .into_iter()
        .next_back()
        .unwrap();
    let mut payload = late.payload();
    payload["repository"]["full_name"] = json!(REPOSITORY);
    let (status, body) = scene.deliver("late", &late.event, &payload).await?;
    assert_eq!((status, &body["outcome"]), (202, &json!("acted")));
    assert_eq!(
        state(&scene, SHOP, issue).await?,
        Some(TaskState::Cancelled)
    );
    assert_eq!(task(&scene, REPOSITORY, issue).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_listed_by_its_old_name_stays_listed() -> Result<()> {
    let policy = IntakePolicy {
        repositories: Some([REPOSITORY.parse()?].into()),
        ..IntakePolicy::default()
    };
    let scene = Scene::with_policy(policy).await?;
    scene.connect();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    scene
        .simulator
        .rename_repository(REPOSITORY, "acme", SHOP)?;
    scene.settled().await?;
    scene.simulator.close_issue(SHOP, "mona", issue)?;
    scene.settled().await?;
    assert_eq!(
        state(&scene, SHOP, issue).await?,
        Some(TaskState::Cancelled)
    );
    // Another repository is another one, whatever it is called.
    scene.add_repository("acme/unlisted")?;
    let other = scene
        .simulator
        .open_issue("acme/unlisted", "mona", "x", "y", &["patchfleet"])?;
    scene.settled().await?;
    assert_eq!(task(&scene, "acme/unlisted", other).await?, None);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sweep_follows_a_rename_without_any_webhook() -> Result<()> {
    let (scene, sweeper) = sweep::scene().await?;
    let issue = scene.open("mona", &["patchfleet"])?;
    assert_eq!(sweep(&sweeper).await?, 1);
    scene
        .simulator
        .rename_repository(REPOSITORY, "acme", SHOP)?;
    scene.simulator.close_issue(SHOP, "mona", issue)?;
    sweep(&sweeper).await?;
    assert!(task(&scene, SHOP, issue).await?.is_some());
    let everywhere = Sweeper::new(
        Arc::new(patchfleet_coordinator::intake::Intake::new(
            Arc::clone(&scene.store),
            crate::scene::github_as(
                &scene.simulator,
                patchfleet_github::Credentials::Token(scene.simulator.bot_token().into()),
            )?,
            IntakePolicy::default(),
        )),
        scene.metrics.clone(),
    );
    let everywhere = everywhere.patient_for(Duration::ZERO);
    assert_eq!(sweep(&everywhere).await?, 1);
    assert_eq!(
        state(&scene, SHOP, issue).await?,
        Some(TaskState::Cancelled)
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_repository_ends_its_tasks_in_words() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    scene.simulator.delete_repository(REPOSITORY, "acme")?;
    scene.settled().await?;
    let ended = scene.task(issue).await?;
    assert_eq!(ended.state, TaskState::Cancelled);
    let history = scene.store.history(ended.id, 0).await?;
    assert!(
        history
            .iter()
            .any(|event| event.detail.contains("the repository was deleted"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_repository_that_is_hidden_for_a_day_ends_its_tasks_in_words() -> Result<()> {
    let (scene, sweeper) = sweep::scene().await?;
    let issue = scene.open("mona", &["patchfleet"])?;
    assert_eq!(sweep(&sweeper).await?, 1);
    assert_eq!(sweep(&sweeper).await?, 0);
    scene.simulator.delete_repository(REPOSITORY, "acme")?;
    sweep(&sweeper).await?;
    assert!(
        scene.task(issue).await?.state.is_active(),
        "it may come back"
    );
    let part = format!("shown {REPOSITORY}");
    let shown = scene.store.swept_until(&part).await?.unwrap();
    let a_day_ago = shown - TimeDelta::hours(25);
    scene.store.set_swept_until(&part, a_day_ago).await?;
    sweep(&sweeper).await?;
    let ended = scene.task(issue).await?;
    assert_eq!(ended.state, TaskState::Cancelled);
    let history = scene.store.history(ended.id, 0).await?;
    assert!(
        history
            .iter()
            .any(|event| event.detail.contains("not shown the repository for a day"))
    );
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issue_that_moved_to_another_repository_is_called_off_by_the_sweep() -> Result<()> {
    let (scene, sweeper) = sweep::scene().await?;
    scene.add_repository("acme/elsewhere")?;
    let moved = scene.open("mona", &["patchfleet"])?;
    let stays = scene.open("mona", &["patchfleet"])?;
    assert_eq!(sweep(&sweeper).await?, 2);
    // There it has the same number.
    let there = scene
        .simulator
        .transfer_issue(REPOSITORY, "mona", moved, "acme/elsewhere")?;
    assert_eq!(there, moved);
    assert_eq!(sweep(&sweeper).await?, 1);
    assert_eq!(scene.task(moved).await?.state, TaskState::Cancelled);
    assert!(scene.task(stays).await?.state.is_active());
    Ok(())
}
