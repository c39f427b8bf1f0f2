//! What the coordinator says on one stream: numbered, bounded, acknowledged by the agent.

use std::time::Duration;

use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use tokio::sync::mpsc;
use tonic::Status;

/// Messages that wait for the transport.
pub(super) const CHANNEL: usize = 128;
/// Unacknowledged messages, beyond which nothing new is begun.
const SOFT_LIMIT: u64 = 256;
/// Unacknowledged messages, beyond which the agent is taken to be broken.
const HARD_LIMIT: u64 = 8192;
/// How long the transport may take none.
const STUCK_AFTER: Duration = Duration::from_secs(20);

/// One item of the response stream.
pub(super) type Item = Result<v1::CoordinatorMessage, Status>;

/// The sending half of a stream.
#[derive(Debug)]
pub(super) struct Outgoing {
    tx: mpsc::Sender<Item>,
    sent: u64,
    acknowledged: u64,
}

impl Outgoing {
    pub(super) fn new(tx: mpsc::Sender<Item>) -> Self {
        Self {
            tx,
            sent: 0,
            acknowledged: 0,
        }
    }

    /// True while the agent keeps up; when false, assignments wait.
    pub(super) const fn keeps_up(&self) -> bool {
        self.sent - self.acknowledged < SOFT_LIMIT
    }

    /// The agent has everything up to that number.
    pub(super) fn acknowledge(&mut self, seq: u64) {
        self.acknowledged = self.acknowledged.max(seq.min(self.sent));
    }

    /// Sends a message.
    ///
    /// # Errors
    /// When the agent is gone, does not read, or acknowledges nothing.
    pub(super) async fn say(&mut self, body: Body) -> Result<(), Status> {
        if self.sent - self.acknowledged >= HARD_LIMIT {
            let message = format!("{HARD_LIMIT} messages are not acknowledged");
            return Err(Status::resource_exhausted(message));
        }
        self.sent += 1;
        let message = v1::CoordinatorMessage {
            seq: self.sent,
            body: Some(body),
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn unacknowledged_messages_are_bounded() {
        let (tx, mut rx) = mpsc::channel(CHANNEL);
        let mut outgoing = Outgoing::new(tx);
        let mut last = 0;
        for _ in 0..HARD_LIMIT {
            outgoing
                .say(Body::Renewed(v1::Renewed::default()))
                .await
                .unwrap();
            last = rx.recv().await.unwrap().unwrap().seq;
        }
        assert!(!outgoing.keeps_up());
        let refused = outgoing.say(Body::Drain(v1::Drain::default())).await;
        assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
        outgoing.acknowledge(last);
        assert!(outgoing.keeps_up());
        outgoing
            .say(Body::Drain(v1::Drain::default()))
            .await
            .unwrap();
    }
}
