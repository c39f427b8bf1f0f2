//! The loop that empties the outbox.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use patchfleet_github::GitHub;
use patchfleet_telemetry::Metrics;
use tokio_util::sync::CancellationToken;

use super::send::{Sender, backoff};
use crate::store::{OutboxEntry, Sent, Store, StoreResult};
use crate::wake::Wake;

/// How many issues are written to at once.
const BATCH: u32 = 4;
/// How long a taken entry is nobody else's, unless told otherwise: long enough for GitHub, which
/// answers within ten seconds or not at all, and short enough to wait for after a crash.
const HOLD: Duration = Duration::from_secs(10);

/// Publishes until told to end; what is being sent then is finished first.
pub async fn run(publisher: Publisher, cancel: CancellationToken) {
    let mut wake = Wake::new(publisher.store.as_ref(), cancel.clone());
    loop {
        match publisher.publish_some().await {
            Ok(0) => {}
            Ok(_) if !cancel.is_cancelled() => continue,
            Ok(_) => return,
            Err(error) => tracing::warn!(%error, "the outbox can't be read or settled now"),
        }
        if !wake.next().await {
            return;
        }
    }
}

/// Writes to GitHub what the outbox holds. Any number may run; the store keeps them apart.
#[derive(Debug, Clone)]
pub struct Publisher {
    store: Arc<dyn Store>,
    github: GitHub,
    metrics: Metrics,
    hold: Duration,
}

impl Publisher {
    /// A publisher.
    pub fn new(store: Arc<dyn Store>, github: GitHub, metrics: Metrics) -> Self {
        Self {
            store,
            github,
            metrics,
            hold: HOLD,
        }
    }

    /// Holds what it takes for so long; after a crash it takes that long until another
    /// publisher goes on.
    pub const fn holding(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Takes what is due and sends it; how many entries that were.
    async fn publish_some(&self) -> StoreResult<usize> {
        let entries = self.store.take_outbox(BATCH, self.hold).await?;
        let count = entries.len();
        let mut sends = Vec::with_capacity(count);
        for entry in &entries {
            sends.push(self.publish(entry));
        }
        let settled = join_all(sends).await;
        let pending = self.store.outbox_pending().await?;
        self.metrics
            .outbox_pending
            .set(i64::try_from(pending).unwrap_or(i64::MAX));
        settled.into_iter().collect::<StoreResult<()>>()?;
        Ok(count)
    }

    async fn publish(&self, entry: &OutboxEntry) -> StoreResult<()> {
        let sender = Sender {
            store: self.store.as_ref(),
            github: &self.github,
            entry,
        };
        // Less than the hold, so that nobody sends the same meanwhile.
        let limit = self.hold * 4 / 5;
        let sent = match tokio::time::timeout(limit, sender.send()).await {
            Ok(Ok(comment)) => Sent::Done { comment },
            Ok(Err(error)) => error.fate(entry.tries),
            Err(_) => Sent::Again {
                after: backoff(entry.tries),
                error: format!("not sent within {limit:?}"),
            },
        };
        if let Sent::Again { error, .. } | Sent::Dropped { error } = &sent {
            let again = matches!(sent, Sent::Again { .. });
            let (repository, issue) = (&entry.repository, entry.issue);
            tracing::warn!(entry = entry.id, %repository, %issue, error, again, "not written to GitHub");
        }
        self.store.settle_outbox(entry, &sent).await
    }
}
