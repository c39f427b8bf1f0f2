//! What is in doubt about deliveries that come again.

use anyhow::Result;
use patchfleet_coordinator::cache::{Cache, Server};
use patchfleet_coordinator::intake::IntakePolicy;
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::redis::Redis;

use crate::scene::{REPOSITORY, Scene};

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
    scene.simulator.lose_next(1);
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
