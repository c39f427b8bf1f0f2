//! Attempts that are not the agent's any more: called off by a person, or lost. It is told to
//! stop, once.

use std::collections::BTreeSet;

use patchfleet_domain::Work;
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use tonic::Status;

use super::Session;

impl Session {
    /// The agent names attempts that it was not given here: those that are live are its own from
    /// an earlier session, the others it is to stop.
    pub(super) async fn judge(&mut self, mut strange: BTreeSet<Work>) -> Result<(), Status> {
        let live = match self.shared.store.live_attempts(&self.agent).await {
            Ok(live) => live,
            Err(error) => {
                tracing::warn!(%error, "can't see which attempts are live");
                return Ok(());
            }
        };
        for attempt in &live {
            if strange.remove(&attempt.work) {
                self.shared.registry.hold(&self.agent, attempt.work);
            }
        }
        let strange: Vec<_> = strange.into_iter().collect();
        let called_off = self.shared.store.called_off(&self.agent, &strange).await;
        let called_off = match called_off {
            Ok(called_off) => called_off,
            Err(error) => {
                tracing::warn!(%error, "can't see which attempts were called off");
                return Ok(());
            }
        };
        for work in strange {
            self.stop(work, called_off.contains(&work)).await?;
        }
        Ok(())
    }

    /// Tells the agent once that an attempt is not its own any more. Not while something that it
    /// reported of it is on its way: it may have ended by that, and hears what became of it.
    pub(super) async fn stop(&mut self, work: Work, called_off: bool) -> Result<(), Status> {
        if self.reports.tell_of(work) || !self.shared.registry.revoke(&self.agent, work) {
            return Ok(());
        }
        tracing::info!(%work, called_off, "told the agent to stop");
        self.outgoing.say(end_message(work, called_off)).await
    }

    /// A report did not count because its task was called off: the agent hears that instead, unless
    /// it did already. Then its report is stale like any other.
    pub(super) fn cancel_or_stale(&self, work: Work) -> Body {
        let is_news = self.shared.registry.revoke(&self.agent, work);
        end_message(work, is_news)
    }
}

/// What an agent hears of an attempt that is not its own any more.
pub(super) fn end_message(work: Work, called_off: bool) -> Body {
    let work = Some(work.into());
    if called_off {
        Body::Cancel(v1::Cancel {
            work,
            reason: "the task was called off".to_owned(),
        })
    } else {
        Body::Stale(v1::Stale { work })
    }
}
