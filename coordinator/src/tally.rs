//! Keeps the number of tasks in each state, for the metrics.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_telemetry::Metrics;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::store::{Store, StoreResult};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);
/// How old a change has to be to be counted; see [`Store::tally`].
const LAG: Duration = Duration::from_secs(40);

/// Counts until told to end. Any number may run.
pub async fn run(store: Arc<dyn Store>, metrics: Metrics, shutdown: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while shutdown.run_until_cancelled(ticks.tick()).await.is_some() {
        if let Err(error) = tally(store.as_ref(), &metrics).await {
            tracing::warn!(%error, "tasks could not be counted; trying again");
        }
    }
}

async fn tally(store: &dyn Store, metrics: &Metrics) -> StoreResult<()> {
    while store.tally(LAG).await? {}
    for (state, tasks) in store.tallies().await? {
        if state.is_active() {
            let gauge = metrics.active_tasks.with_label_values(&[state.as_str()]);
            gauge.set(tasks);
        }
    }
    Ok(())
}
