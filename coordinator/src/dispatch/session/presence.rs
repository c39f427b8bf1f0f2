//! Heartbeats: what the agent says of itself, and the renewal of its leases.
//!
//! Leases are renewed three times within their life, or when the attempts change; heartbeats come
//! more often and mostly cost no write.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use patchfleet_domain::{AgentState, Work};
use patchfleet_proto::convert;
use patchfleet_proto::v1;
use patchfleet_proto::v1::coordinator_message::Body;
use tokio::time::Instant;
use tonic::Status;

use super::Session;
use super::registration::invalid;
use crate::dispatch::registry::{Ended, Presence};
use crate::store::Cas;

/// When leases were renewed, for which attempts, and which of them the agent does not name.
#[derive(Debug)]
pub(super) struct Renewals {
    lease: Duration,
    last: Option<(Instant, BTreeSet<Work>)>,
    unnamed: BTreeMap<Work, Instant>,
}

impl Renewals {
    pub(super) const fn new(lease: Duration) -> Self {
        Self {
            lease,
            last: None,
            unnamed: BTreeMap::new(),
        }
    }

    fn is_due(&self, current: &BTreeSet<Work>, now: Instant) -> bool {
        match &self.last {
            None => true,
            Some((at, works)) => now - *at >= self.lease / 3 || works != current,
        }
    }

    /// Attempts that are live and that the agent has not named for a whole lease.
    fn forgotten(&mut self, live: &[Work], current: &BTreeSet<Work>, now: Instant) -> Vec<Work> {
        self.unnamed
            .retain(|work, _| live.contains(work) && !current.contains(work));
        for work in live.iter().filter(|work| !current.contains(work)) {
            self.unnamed.entry(*work).or_insert(now);
        }
        let lease = self.lease;
        let overdue = self
            .unnamed
            .iter()
            .filter(|(_, since)| now - **since >= lease);
        overdue.map(|(work, _)| *work).collect()
    }
}

impl Session {
    pub(super) async fn heartbeat(&mut self, heartbeat: v1::Heartbeat) -> Result<(), Status> {
        let presence = parse(heartbeat)?;
        let current = presence.current.clone();
        if let Some(state) = self.shared.registry.heartbeat(&self.agent, presence) {
            self.keep_state(state).await;
        }
        if current.is_empty() && self.shared.registry.held(&self.agent).is_empty() {
            self.renewals.last = None;
            return Ok(());
        }
        if self.renewals.is_due(&current, Instant::now()) {
            self.renew(&current).await?;
        }
        self.look_for_ended_among(&current).await
    }

    async fn renew(&mut self, current: &BTreeSet<Work>) -> Result<(), Status> {
        let lease = self.shared.options.lease;
        let live = match self.shared.store.renew(&self.agent, lease).await {
            Ok(live) => live,
            Err(error) => {
                // The next heartbeat tries again; leases live longer than three of them.
                tracing::warn!(%error, "leases could not be renewed");
                return Ok(());
            }
        };
        let now = Instant::now();
        self.renewals.last = Some((now, current.clone()));
        for work in self.renewals.forgotten(&live, current, now) {
            self.lose_forgotten(work).await;
        }
        let works = live.into_iter().map(Into::into).collect();
        self.outgoing
            .say(Body::Renewed(v1::Renewed { works }))
            .await
    }

    async fn lose_forgotten(&mut self, work: Work) {
        let why = "the agent does not work on it any more";
        match self.shared.store.lose(work, why).await {
            Ok(Cas::Applied(_) | Cas::Stale) => {
                tracing::warn!(%work, "lost: the agent has not named it for a whole lease");
                let agent = &self.agent;
                self.shared.registry.release(agent, work, Ended::Stopped);
            }
            Err(error) => tracing::warn!(%error, %work, "a forgotten attempt stays for now"),
        }
    }
}

fn parse(heartbeat: v1::Heartbeat) -> Result<Presence, Status> {
    let state: AgentState = heartbeat
        .state
        .parse()
        .map_err(|error| Status::invalid_argument(format!("field `heartbeat.state`: {error}")))?;
    let works = convert::works(heartbeat.current).map_err(|error| invalid(&error))?;
    Ok(Presence {
        state,
        load: heartbeat.load,
        free_slots: heartbeat.free_slots,
        warm_repositories: convert::repositories(&heartbeat.warm_repositories),
        current: works.into_iter().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use patchfleet_domain::{AttemptNumber, TaskId};

    fn work() -> Work {
        Work {
            task: TaskId::new(),
            attempt: AttemptNumber(1),
        }
    }

    #[test]
    fn leases_are_renewed_thrice_or_when_the_attempts_change() {
        let mut renewals = Renewals::new(Duration::from_secs(30));
        let current = BTreeSet::from([work()]);
        let start = Instant::now();
        assert!(renewals.is_due(&current, start));
        renewals.last = Some((start, current.clone()));
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(!renewals.is_due(&current, later(9)));
        assert!(renewals.is_due(&BTreeSet::from([work()]), later(9)));
        assert!(renewals.is_due(&current, later(10)));
    }

    #[test]
    fn an_attempt_that_is_never_named_is_forgotten_after_a_lease() {
        let mut renewals = Renewals::new(Duration::from_secs(30));
        let (named, unnamed) = (work(), work());
        let live = [named, unnamed];
        let current = BTreeSet::from([named]);
        let start = Instant::now();
        let later = |seconds| start + Duration::from_secs(seconds);
        assert!(renewals.forgotten(&live, &current, start).is_empty());
        assert!(renewals.forgotten(&live, &current, later(29)).is_empty());
        assert_eq!(renewals.forgotten(&live, &current, later(30)), [unnamed]);
        let both = BTreeSet::from([named, unnamed]);
        assert!(renewals.forgotten(&live, &both, later(31)).is_empty());
    }
}
