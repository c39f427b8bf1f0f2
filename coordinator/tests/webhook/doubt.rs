//! In doubt nothing is stored, and GitHub is told to come back.

use std::time::Duration;

use anyhow::Result;
use patchfleet_coordinator::cache::{Cache, Server};
use patchfleet_coordinator::intake::IntakePolicy;
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::github::{Fault, Matcher};
use patchfleet_testkit::redis::Redis;

use crate::scene::{REPOSITORY, Scene, answer};

fn permission() -> Matcher {
    Matcher::containing("GET", "/permission")
}

#[tokio::test]
async fn without_github_the_delivery_fails_and_can_be_repeated() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    let issue = scene.open("mona", &[])?;
    scene.settled().await?;
    scene.simulator.fault(permission(), Fault::Status(500), 3);
    scene
        .simulator
        .add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    scene.settled().await?;
    assert_eq!(scene.statuses("issues").last(), Some(&Some(503)));
    assert_eq!(scene.counted("issues", "unavailable"), 1);
    assert!(scene.tasks().await?.is_empty());
    let failed = scene
        .simulator
        .deliveries()
        .into_iter()
        .next_back()
        .unwrap();
    assert!(!scene.store.delivery_seen(&failed.id.to_string()).await?);

    scene.simulator.redeliver(failed.id)?;
    scene.settled().await?;
    assert_eq!(scene.task(issue).await?.request.triggered_by, "mona");
    Ok(())
}

#[tokio::test]
async fn the_answer_says_when_to_come_back() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    let deliveries = scene.simulator.deliveries();
    let payload = deliveries
        .iter()
        .find(|one| one.event == "issues")
        .unwrap()
        .body
        .to_string();
    let limit = Fault::SecondaryLimit {
        retry_after: Duration::from_secs(90),
    };
    scene.simulator.fault(permission(), limit, 1);
    let response = scene.delivery("d-limit", "issues", &payload).send().await?;
    assert_eq!(response.headers()["retry-after"], "90");
    let (status, problem) = answer(response).await?;
    assert_eq!(
        (status, problem["title"].as_str()),
        (503, Some("Service Unavailable"))
    );
    Ok(())
}

#[tokio::test]
async fn a_slow_github_does_not_hold_the_webhook() -> Result<()> {
    let policy = IntakePolicy {
        github_deadline: Duration::from_millis(200),
        ..IntakePolicy::default()
    };
    let scene = Scene::with_policy(policy).await?;
    scene.connect();
    let issue = scene.open("mona", &[])?;
    scene.settled().await?;
    let gate = scene.simulator.hold(permission());
    scene
        .simulator
        .add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    scene.settled().await?;
    gate.release();
    assert_eq!(scene.statuses("issues").last(), Some(&Some(503)));
    assert!(scene.tasks().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn bad_credentials_of_ours_lose_nothing() -> Result<()> {
    let scene = Scene::start().await?;
    scene.connect();
    scene.simulator.fault(permission(), Fault::Status(401), 1);
    let issue = scene.open("mona", &["patchfleet"])?;
    scene.settled().await?;
    // `opened` failed; `labeled`, which is the same act, did not.
    assert_eq!(scene.statuses("issues"), [Some(503), Some(202)]);
    assert_eq!(
        scene.task(issue).await?.issue.map(|number| number.0),
        Some(issue)
    );
    Ok(())
}

/// A database that was restored to an earlier moment has lost deliveries that Redis still knows:
/// they are taken, or they would be lost for good. One that both know is not.
#[tokio::test]
async fn what_redis_alone_knows_is_not_known() -> Result<()> {
    let mut redis = Redis::start().await?;
    let cache = Cache::open(Server::new(&redis.url(), None)?, "test", Metrics::new());
    let scene = Scene::with(IntakePolicy::default(), cache.clone()).await?;
    scene.connect();
    let issue = scene.open("mona", &[])?;
    scene.settled().await?;
    scene.simulator.fault(permission(), Fault::Status(500), 3);
    scene
        .simulator
        .add_label(REPOSITORY, "mona", issue, "patchfleet")?;
    scene.settled().await?;
    let lost = scene.simulator.deliveries().pop().unwrap().id;
    cache.remember_delivery(&lost.to_string()).await;
    scene.simulator.redeliver(lost)?;
    scene.settled().await?;
    let task = scene.task(issue).await?;

    // Known to both, then to the store alone.
    scene.simulator.redeliver(lost)?;
    scene.settled().await?;
    redis.kill();
    scene.simulator.redeliver(lost)?;
    scene.settled().await?;
    assert_eq!(scene.counted("issues", "duplicate"), 2);
    assert_eq!(scene.tasks().await?.len(), 1);
    assert_eq!(scene.task(issue).await?.id, task.id);
    Ok(())
}
