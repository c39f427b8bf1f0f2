//! Deliveries that were taken in: most that come are new, and need no look at the store.

use std::time::Duration;

use redis::AsyncCommands as _;

use super::Cache;

/// How long a delivery is remembered: GitHub's own tries and a person's "redeliver" come sooner.
const REMEMBERED: Duration = Duration::from_hours(24);

impl Cache {
    /// Whether the delivery may have been taken in before; nothing when Redis can't say. One that
    /// may have been is to be looked up in the store: what Redis says is no proof.
    pub async fn may_know_delivery(&self, id: &str) -> Option<bool> {
        let key = self.key("delivery", id);
        self.ask("delivery_look", |mut redis| {
            let key = key.clone();
            async move { redis.exists(key).await }
        })
        .await
    }

    /// Remembers a delivery that is durable.
    pub async fn remember_delivery(&self, id: &str) {
        let key = self.key("delivery", id);
        self.ask("delivery_keep", |mut redis| {
            let key = key.clone();
            async move { redis.set_ex::<_, _, ()>(key, 1, REMEMBERED.as_secs()).await }
        })
        .await;
    }
}
