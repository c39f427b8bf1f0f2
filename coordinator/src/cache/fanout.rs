//! Hints between replicas over Redis, beside those of the database: whichever is first.

use std::time::Duration;

use anyhow::anyhow;
use futures::StreamExt as _;
use redis::{AsyncCommands as _, RedisResult};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::Cache;
use crate::store::Hints;

/// Between two hints of one process.
const PAUSE: Duration = Duration::from_millis(10);
/// Before a listener that failed connects again.
const AGAIN: Duration = Duration::from_secs(1);
/// How long a subscription may take to be made.
const CONNECT: Duration = Duration::from_secs(5);

/// Tells other replicas of this one's commits, and hears of theirs, until told to end.
pub async fn run(cache: Cache, hints: Hints, shutdown: CancellationToken) {
    if cache.redis.is_none() {
        return shutdown.cancelled().await;
    }
    let own = Uuid::now_v7().to_string();
    let telling = tell(&cache, hints.clone(), &own);
    let hearing = hear(&cache, &hints, &own);
    shutdown
        .run_until_cancelled(async { tokio::join!(telling, hearing) })
        .await;
}

async fn tell(cache: &Cache, mut hints: Hints, own: &str) {
    while hints.committed.changed().await.is_ok() {
        let channel = cache.key("changed", "");
        cache
            .ask("hint", |mut redis| {
                let channel = channel.clone();
                async move { redis.publish::<_, _, ()>(channel, own).await }
            })
            .await;
        tokio::time::sleep(PAUSE).await;
    }
}

async fn hear(cache: &Cache, hints: &Hints, own: &str) {
    loop {
        if let Err(error) = listen(cache, hints, own).await {
            tracing::debug!(%error, "hints over Redis are not heard; the database's are");
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn listen(cache: &Cache, hints: &Hints, own: &str) -> anyhow::Result<()> {
    let Some(redis) = &cache.redis else {
        return Ok(());
    };
    let subscribing = async {
        let mut subscription = redis.server.client.get_async_pubsub().await?;
        subscription.subscribe(cache.key("changed", "")).await?;
        RedisResult::Ok(subscription)
    };
    let subscribed = tokio::time::timeout(CONNECT, subscribing).await;
    let subscription = subscribed.map_err(|_| anyhow!("no answer within {CONNECT:?}"))?;
    let subscription = subscription.map_err(|error| anyhow!(redis.server.why(&error)))?;
    // What was said before nobody heard.
    hints.hint();
    let mut messages = subscription.into_on_message();
    while let Some(message) = messages.next().await {
        if message.get_payload::<String>()? != own {
            hints.hint();
        }
    }
    Ok(())
}
