//! The loop that empties the outbox.
//!
//! A bounded number of entries is on the way at once, each of another issue, since the store gives
//! an issue's next entry only when the one before it is done. A slow one takes up its own place
//! and nobody else's.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_github::{GitHub, RequestPriority};
use patchfleet_telemetry::Metrics;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

use super::send::{Sender, late};
use crate::budget::Budget;
use crate::store::{OutboxEntry, Sent, Store, StoreResult};
use crate::wake::Wake;

/// How many issues are written to at once.
const CONCURRENT: usize = 8;
/// How long a taken entry is nobody else's at first: long enough for GitHub, which
/// answers within ten seconds or not at all, and short enough to wait for after a crash.
const HOLD: Duration = Duration::from_secs(10);

/// Publishes until the shutdown; what is being sent then is finished first.
pub async fn run(publisher: Publisher, cancel: CancellationToken) {
    let mut wake = Wake::new(publisher.store.as_ref(), cancel.clone());
    // Tasks, so that they go on while the outbox is looked at.
    let mut sending = JoinSet::new();
    while !cancel.is_cancelled() {
        let room = CONCURRENT.saturating_sub(sending.len());
        if room > 0 {
            for entry in publisher.take(room).await {
                let publisher = publisher.clone();
                sending.spawn(async move { publisher.publish(entry).await });
            }
        }
        tokio::select! {
            Some(sent) = sending.join_next() => noted(sent),
            _ = wake.next() => {}
        }
    }
    while let Some(sent) = sending.join_next().await {
        noted(sent);
    }
}

/// An entry whose sending broke off is taken again when its hold is over.
fn noted(sent: Result<(), JoinError>) {
    if let Err(error) = sent {
        tracing::error!(%error, "sending an entry of the outbox broke off");
    }
}

/// Writes to GitHub what the outbox holds. Any number may run; the store keeps them apart.
#[derive(Debug, Clone)]
pub struct Publisher {
    store: Arc<dyn Store>,
    github: GitHub,
    metrics: Metrics,
    hold: Duration,
    lull: Duration,
}

impl Publisher {
    /// A publisher.
    pub fn new(store: Arc<dyn Store>, github: GitHub, metrics: Metrics) -> Self {
        Self {
            store,
            github: github.with_priority(RequestPriority::Outbox),
            metrics,
            hold: HOLD,
            lull: Duration::ZERO,
        }
    }

    /// Holds what it takes for so long at first; after a crash it takes that long until another
    /// publisher goes on.
    pub const fn holding(mut self, hold: Duration) -> Self {
        self.hold = hold;
        self
    }

    /// Says of no task that it waits for an agent before it is so old: most are at work by then, which is
    /// said at once instead.
    pub const fn after(mut self, lull: Duration) -> Self {
        self.lull = lull;
        self
    }

    /// Takes what is due.
    async fn take(&self, room: usize) -> Vec<OutboxEntry> {
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        let taken = self.store.take_calm_outbox(limit, self.hold, self.lull);
        let taken = taken.await;
        taken.unwrap_or_else(|error| {
            tracing::warn!(%error, "the outbox can't be read now");
            Vec::new()
        })
    }

    async fn settle(&self, entry: &OutboxEntry, sent: &Sent) -> StoreResult<()> {
        self.store.settle_outbox(entry, sent).await?;
        let pending = self.store.outbox_pending().await?;
        let pending = i64::try_from(pending).unwrap_or(i64::MAX);
        self.metrics.outbox_pending.set(pending);
        Ok(())
    }

    async fn publish(&self, entry: OutboxEntry) {
        // Less than the hold, so that nobody sends the same meanwhile.
        let limit = entry.hold * 4 / 5;
        // A part of it is the store's, so that what is late is known.
        let budget = Budget::new(limit / 3);
        let sender = Sender {
            store: self.store.as_ref(),
            github: &self.github,
            entry: &entry,
            budget: &budget,
        };
        let sent = match tokio::time::timeout(limit, sender.send()).await {
            Ok(Ok(sent)) => sent,
            Ok(Err(error)) => error.fate(&entry),
            Err(_) => late(&entry, limit),
        };
        if let Sent::Again { error, .. } | Sent::Dropped { error } = &sent {
            let again = matches!(sent, Sent::Again { .. });
            let (repository, issue) = (&entry.repository, entry.issue);
            tracing::warn!(entry = entry.id, %repository, %issue, error, again, "not written to GitHub");
        }
        if let Err(error) = self.settle(&entry, &sent).await {
            // It is taken again when the hold is over, and looks for what it wrote.
            tracing::warn!(%error, entry = entry.id, "what was sent can't be noted now");
        }
    }
}
