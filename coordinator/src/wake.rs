//! What loops wait for between two looks at the store: a change, or a second, or the end.

use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::store::Store;

/// How long a change of another process may go unnoticed.
const POLL: Duration = Duration::from_secs(1);

/// Waits for the store's next change; for ever when nobody will tell of one any more.
pub(crate) async fn next_change(changes: &mut Option<watch::Receiver<u64>>) {
    if let Some(receiver) = changes {
        if receiver.changed().await.is_ok() {
            return;
        }
        *changes = None;
    }
    std::future::pending::<()>().await;
}

/// Wakes a loop.
#[derive(Debug)]
pub(crate) struct Wake {
    changes: Option<watch::Receiver<u64>>,
    cancel: CancellationToken,
}

impl Wake {
    /// Changes from now on wake; look at the store before the first wait.
    pub(crate) fn new(store: &dyn Store, cancel: CancellationToken) -> Self {
        Self {
            changes: Some(store.changed()),
            cancel,
        }
    }

    /// False when the loop is to end.
    pub(crate) async fn next(&mut self) -> bool {
        let changed = async {
            match &mut self.changes {
                Some(changes) => changes.changed().await.is_ok(),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = self.cancel.cancelled() => return false,
            told = changed => {
                if !told {
                    // Nobody will tell any more; the timer is left.
                    self.changes = None;
                }
            }
            () = tokio::time::sleep(POLL) => {}
        }
        !self.cancel.is_cancelled()
    }
}
