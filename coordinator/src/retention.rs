//! Removes what is over for long, so that the store does not grow for ever.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::store::{Retention, Store};

/// The longest pause between two rounds, when there was nothing left to remove.
const LONGEST_PAUSE: Duration = Duration::from_mins(10);
/// Rounds in the time that the shortest-lived rows are kept, so that none outlives it by much.
const ROUNDS: u32 = 10;
/// Between two steps of a round: others come first.
const STEP: Duration = Duration::from_millis(200);

/// Removes until told to end. Any number may run.
pub async fn run(store: Arc<dyn Store>, retention: Retention, shutdown: CancellationToken) {
    let between = retention.tasks.min(retention.deliveries) / ROUNDS;
    let between = between.clamp(STEP, LONGEST_PAUSE);
    loop {
        let pause = match store.retire(retention).await {
            Ok(retired) if retired.is_nothing() => between,
            Ok(retired) => {
                tracing::debug!(?retired, "removed what is over for long");
                STEP
            }
            Err(error) => {
                tracing::warn!(%error, "what is over for long stays for now");
                between
            }
        };
        let waited = shutdown
            .run_until_cancelled(tokio::time::sleep(pause))
            .await;
        if waited.is_none() {
            return;
        }
    }
}
