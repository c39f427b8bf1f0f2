//! Attempts that ended without the agent: called off by a person, or lost. It is told to stop.

use std::collections::BTreeSet;
use std::time::Duration;

use patchfleet_domain::{TaskState, Work};
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use tokio::time::Instant;
use tonic::Status;

use super::Session;

/// How long work that was called off may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

impl Session {
    /// Compares what the agent was given with what is live.
    pub(super) async fn look_for_ended(&mut self) -> Result<(), Status> {
        self.look_for_ended_among(&BTreeSet::new()).await
    }

    /// As [`Self::look_for_ended`], also for what the agent says it is working on.
    pub(super) async fn look_for_ended_among(
        &mut self,
        current: &BTreeSet<Work>,
    ) -> Result<(), Status> {
        self.looked_at = Instant::now();
        self.look_at = None;
        let registry = &self.shared.registry;
        // Taken before the store is asked: what is given meanwhile is not in its answer.
        let mut known: BTreeSet<Work> = registry.held(&self.agent).into_iter().collect();
        known.extend(current);
        if known.is_empty() {
            return Ok(());
        }
        let live = match self.shared.store.live_attempts(&self.agent).await {
            Ok(live) => live,
            Err(error) => {
                tracing::warn!(%error, "can't see which attempts are live");
                return Ok(());
            }
        };
        for attempt in &live {
            if known.remove(&attempt.work) {
                registry.hold(&self.agent, attempt.work);
            }
        }
        for work in known {
            self.stop(work).await?;
        }
        Ok(())
    }

    /// Tells the agent once that an attempt is not its own any more.
    pub(super) async fn stop(&mut self, work: Work) -> Result<(), Status> {
        if !self.shared.registry.revoke(&self.agent, work) {
            return Ok(());
        }
        let called_off = match self.shared.store.task(work.task).await {
            Ok(task) => task.is_some_and(|task| {
                task.state == TaskState::Cancelled && task.attempt == work.attempt
            }),
            Err(_) => false,
        };
        let wire = Some(work.into());
        let body = if called_off {
            Body::Cancel(v1::Cancel {
                work: wire,
                reason: "the task was called off".to_owned(),
                grace_ms: u64::try_from(GRACE.as_millis()).unwrap_or(u64::MAX),
            })
        } else {
            Body::Stale(v1::Stale { work: wire })
        };
        tracing::info!(%work, called_off, "told the agent to stop");
        self.outgoing.say(body).await
    }
}
