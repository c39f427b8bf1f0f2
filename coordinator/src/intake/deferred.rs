//! Deliveries that could not be judged when they came, because GitHub was away, limited or refused:
//! they are judged later, those of one issue in the order of their coming.
//!
//! A delivery is held under a lease while it is judged, so that any number of replicas may do it, and
//! one that dies costs a delivery nothing but the lease's time. What GitHub asks for is waited for;
//! otherwise the waits grow, with jitter. After a day a delivery is given up: the log names it and its
//! row says why. Nothing is said on the issue: who asked may be nobody who may.
//! Absent: what a delivery leads to; it is judged as if it had come now.

use std::sync::Arc;
use std::time::{Duration, Instant};

use patchfleet_github::GitHubError;
use patchfleet_telemetry::{Metrics, trace};
use rand::Rng as _;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{Instrument as _, field};

use super::{Decision, Intake, IntakeError};
use crate::store::{
    Act, Cas, Deferral, DeferredDelivery, Delivery, Judgement, StoreError, StoreResult,
};
use crate::webhook::event::Event;
use crate::webhook::payload::Payload;

/// How many are judged at once, each of another issue.
const CONCURRENT: u32 = 8;
/// Between two looks while nothing is due.
const POLL: Duration = Duration::from_secs(1);
/// How long a taken delivery is nobody else's: longer than GitHub and the database may take together.
const HOLD: Duration = Duration::from_secs(30);
/// The first wait where GitHub names none; it doubles.
const BACKOFF: Duration = Duration::from_secs(2);
const MAX_BACKOFF: Duration = Duration::from_mins(5);
/// Longest wait after a refusal that somebody has to take back.
const MAX_REFUSED_BACKOFF: Duration = Duration::from_mins(30);
/// How long after its coming a delivery is tried.
const GIVE_UP_AFTER: Duration = Duration::from_hours(24);

/// What is to be stored of a delivery that can't be judged now; nothing of one that is about no issue.
pub(super) fn deferral(
    (delivery, event, payload): (&Delivery, &Event, &str),
    came: Instant,
    error: &IntakeError,
) -> Option<Deferral> {
    let (repository, issue) = event.subject()?;
    let after = match error {
        IntakeError::GitHub(error) => wait_after(error, (BACKOFF, 1)),
        _ => Duration::ZERO,
    };
    Some(Deferral {
        delivery: Delivery {
            issue: Some(issue),
            ..delivery.clone()
        },
        subject: (repository.clone(), issue),
        payload: payload.to_owned(),
        received: came.elapsed(),
        after,
        error: error.to_string(),
    })
}

/// How long to leave GitHub alone: as long as it asks, or longer with each try. With jitter, so that
/// those that wait for the same do not come back at the same moment.
fn wait_after(error: &GitHubError, (first, tries): (Duration, u32)) -> Duration {
    let (asked, longest) = match error {
        GitHubError::RateLimited { retry_after } => (Some(*retry_after), MAX_BACKOFF),
        GitHubError::Unavailable { retry_after, .. } => (*retry_after, MAX_BACKOFF),
        _ => (None, MAX_REFUSED_BACKOFF),
    };
    let jitter = rand::rng().random_range(0.0..1.0);
    match asked {
        Some(asked) => asked + first.mul_f64(jitter),
        None => {
            let doubled = first.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1)));
            doubled.min(longest).mul_f64(0.5 + jitter / 2.0)
        }
    }
}

/// Judges what was deferred, until the shutdown; what is being judged then is finished first.
pub async fn run(judge: Judge, shutdown: CancellationToken) {
    let mut judging = JoinSet::new();
    while !shutdown.is_cancelled() {
        let room = usize::try_from(CONCURRENT).unwrap_or(usize::MAX) - judging.len();
        for deferred in judge.take(room).await {
            let judge = judge.clone();
            judging.spawn(async move { judge.judge(deferred).await });
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            // The next of its issue has its turn.
            Some(ended) = judging.join_next() => note(ended),
            () = tokio::time::sleep(POLL) => {}
        }
    }
    while let Some(ended) = judging.join_next().await {
        note(ended);
    }
}

/// One whose judging broke off is taken again when its lease is over.
fn note(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended {
        tracing::error!(%error, "judging a deferred delivery broke off");
    }
}

/// Judges deferred deliveries. Any number may run; the store keeps them apart.
#[derive(Debug, Clone)]
pub struct Judge {
    intake: Arc<Intake>,
    metrics: Metrics,
    backoff: Duration,
    hold: Duration,
}

impl Judge {
    /// One that judges as that intake does.
    pub const fn new(intake: Arc<Intake>, metrics: Metrics) -> Self {
        Self {
            intake,
            metrics,
            backoff: BACKOFF,
            hold: HOLD,
        }
    }

    /// Waits so long at first where GitHub names no time.
    #[must_use]
    pub fn backing_off(self, backoff: Duration) -> Self {
        Self { backoff, ..self }
    }

    /// Holds what it takes for so long; after a crash it takes that long until another one goes on.
    #[must_use]
    pub fn holding(self, hold: Duration) -> Self {
        Self { hold, ..self }
    }

    /// Takes what is due.
    async fn take(&self, room: usize) -> Vec<DeferredDelivery> {
        let limit = u32::try_from(room).unwrap_or(u32::MAX);
        self.try_take(limit).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "deferred deliveries can't be read now");
            Vec::new()
        })
    }

    /// Most of the time there is nothing, which a look without a transaction shows.
    async fn try_take(&self, limit: u32) -> StoreResult<Vec<DeferredDelivery>> {
        let store = &self.intake.store;
        let waiting = store.deferred_deliveries().await?;
        let gauge = &self.metrics.deferred_deliveries;
        gauge.set(i64::try_from(waiting).unwrap_or(i64::MAX));
        if waiting == 0 || limit == 0 {
            return Ok(Vec::new());
        }
        store.take_deferred(limit, self.hold).await
    }

    async fn judge(&self, deferred: DeferredDelivery) {
        let span = tracing::info_span!(
            target: trace::TARGET, "deferred delivery", otel.kind = "consumer",
            github.event = deferred.event, trace_id = field::Empty
        );
        trace::follow(&span, None);
        let judged = self.judge_and_settle(&deferred).instrument(span.clone());
        if let Err(error) = judged.await {
            trace::failed(&span, &error);
            let delivery = deferred.delivery;
            tracing::warn!(%error, delivery, "a deferred delivery can't be judged without the database");
        }
    }

    async fn judge_and_settle(&self, deferred: &DeferredDelivery) -> StoreResult<()> {
        let judgement = match self.decide(deferred).await {
            Ok(acts) => Judgement::Judged(acts),
            Err(IntakeError::GitHub(error)) => self.later(deferred, &error),
            Err(IntakeError::Store(error) | IntakeError::InDoubt(error)) => return Err(error),
            Err(error @ (IntakeError::Behind | IntakeError::Crowded)) => {
                return Err(StoreError::Contended(error.to_string()));
            }
        };
        let settled = self.intake.store.settle_deferred(deferred, &judgement);
        let Cas::Applied(acted) = settled.await? else {
            return Ok(());
        };
        let (delivery, event) = (&deferred.delivery, &deferred.event);
        let outcome = match &judgement {
            Judgement::Judged(_) => {
                tracing::info!(delivery, event, ?acted, "judged a deferred delivery");
                "judged"
            }
            Judgement::Again { after, error } => {
                tracing::debug!(
                    delivery,
                    event,
                    ?after,
                    error,
                    "a delivery is deferred again"
                );
                return Ok(());
            }
            Judgement::GivenUp { error } => {
                let (repository, issue) = (&deferred.repository, deferred.issue);
                tracing::error!(
                    delivery, event, %repository, %issue, error,
                    "a delivery is given up: GitHub could not be asked about it for a day; have \
                     GitHub deliver it again"
                );
                "given_up"
            }
        };
        let counter = &self.metrics.webhook_deliveries;
        counter.with_label_values(&[event, outcome]).inc();
        Ok(())
    }

    async fn decide(&self, deferred: &DeferredDelivery) -> Result<Vec<Act>, IntakeError> {
        let payload = Payload::read(deferred.payload.as_str().into());
        // It could be read when it came.
        let event = payload.map_or(Event::Other("no payload"), |payload| {
            Event::read(&deferred.event, &payload)
        });
        Ok(match self.intake.deciding().decide(None, &event).await? {
            Decision::Act(acts) => acts,
            Decision::Pass(_) | Decision::Ignore(_) | Decision::Known => Vec::new(),
        })
    }

    fn later(&self, deferred: &DeferredDelivery, error: &GitHubError) -> Judgement {
        if deferred.waiting_for >= GIVE_UP_AFTER {
            let error = error.to_string();
            return Judgement::GivenUp { error };
        }
        Judgement::Again {
            after: wait_after(error, (self.backoff, deferred.tries)),
            error: error.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_github_asks_for_is_waited_for_and_other_waits_grow() {
        let limited = GitHubError::RateLimited {
            retry_after: Duration::from_mins(75),
        };
        let away = GitHubError::Unavailable {
            message: "502".to_owned(),
            retry_after: None,
        };
        let refused = GitHubError::Forbidden {
            message: "suspended".to_owned(),
        };
        for tries in [1, 2, 40] {
            let told = wait_after(&limited, (BACKOFF, tries));
            assert!(told >= Duration::from_mins(75) && told <= Duration::from_mins(75) + BACKOFF);
        }
        for (error, tries, whole) in [
            (&away, 1, BACKOFF),
            (&away, 3, BACKOFF * 4),
            (&away, 40, MAX_BACKOFF),
            (&refused, 40, MAX_REFUSED_BACKOFF),
        ] {
            let wait = wait_after(error, (BACKOFF, tries));
            assert!(wait >= whole / 2 && wait <= whole, "{wait:?} of {whole:?}");
        }
    }
}
