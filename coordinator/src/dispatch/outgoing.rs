//! What the coordinator sends on one stream, bounded by the channel and by HTTP/2's flow control.

use std::time::Duration;

use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use tokio::sync::mpsc;
use tonic::Status;

/// Messages that wait for the transport.
pub(super) const CHANNEL: usize = 128;
/// How long the transport may take none.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// One item of the response stream.
pub(super) type Item = Result<v1::CoordinatorMessage, Status>;

/// The sending half of a stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    tx: mpsc::Sender<Item>,
}

impl Outgoing {
    pub(super) const fn new(tx: mpsc::Sender<Item>) -> Self {
        Self { tx }
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the agent is gone, or does not read.
    pub(super) async fn say(&self, body: Body) -> Result<(), Status> {
        let message = v1::CoordinatorMessage { body: Some(body) };
        let sending = self.tx.send_timeout(Ok(message), STUCK_AFTER);
        let stuck = |_| Status::unavailable("the agent does not read its stream");
        sending.await.map_err(stuck)
    }

    /// Ends the stream with a reason.
    pub(super) async fn end(self, status: Status) {
        // Whoever is gone does not need the reason.
        let _ = self
            .tx
            .send_timeout(Err(status), Duration::from_secs(1))
            .await;
    }

    /// Resolves when the agent's stream is gone.
    pub(super) async fn gone(&self) {
        self.tx.closed().await;
    }
}
