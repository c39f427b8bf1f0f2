//! Ends attempts whose lease ran out; their tasks are queued again, or have failed.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_telemetry::Metrics;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreResult};

/// Looks every `interval` until the shutdown. Agents hear of it from their sessions, the
/// scheduler from the store.
pub async fn run(
    store: Arc<dyn Store>,
    metrics: Metrics,
    interval: Duration,
    shutdown: CancellationToken,
) {
    let mut ticks = tokio::time::interval(interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = expire(store.as_ref(), &metrics).await {
            tracing::warn!(%error, "leases could not be looked at; trying again");
        }
    }
}

/// Ends what ran out by now; says how many attempts that were.
///
/// # Errors
/// When the store can't be asked.
pub async fn expire(store: &dyn Store, metrics: &Metrics) -> StoreResult<usize> {
    let lost = store.expire().await?;
    for attempt in &lost {
        metrics.lease_expiries.inc();
        tracing::warn!(
            task.id = %attempt.work.task,
            attempt = %attempt.work.attempt,
            agent.id = %attempt.agent,
            now = %attempt.now,
            "a lease ran out"
        );
    }
    Ok(lost.len())
}
