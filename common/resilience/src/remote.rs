//! A remote, and how it is called: tried again with full jitter, watched by a breaker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use backon::{ExponentialBuilder, Retryable as _};
use chrono::{DateTime, Utc};
use rand::Rng as _;
use tokio::time::Instant;

use crate::breaker::{Admission, Breaker, CircuitState};
use crate::health::{CircuitHealth, Health, Severity};

/// Whether trying again may help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The remote is there and says no; trying again is no use.
    Permanent,
    /// The remote is away or busy.
    Transient {
        /// How long it asked to be left alone (`Retry-After`).
        retry_after: Option<Duration>,
    },
    /// The remote is there and takes no more requests for a while. That is no reason to leave it
    /// alone altogether: others may still have requests left.
    Limited {
        /// How long it asked to be left alone, if it said so.
        retry_after: Option<Duration>,
    },
}

/// An error that knows whether trying again may help.
pub trait Failure {
    /// Which kind it is.
    fn kind(&self) -> FailureKind;
}

/// A call that did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum CallError<E> {
    /// The remote is known to be away; the call was not made.
    #[error("{remote} is away; next try in {} s", retry_in.as_secs())]
    Open {
        /// Which.
        remote: String,
        /// When it will be tried again.
        retry_in: Duration,
    },
    /// The last try's error.
    #[error(transparent)]
    Failed(E),
}

/// How calls are tried again and when the remote is left alone.
#[derive(Debug, Clone, Copy)]
pub struct Policy {
    /// Tries at most, the first included.
    pub tries: u32,
    /// The longest first delay; it doubles with each try.
    pub base: Duration,
    /// The longest delay, also for what the remote asks: a longer wish ends the call.
    pub cap: Duration,
    /// Failures in a row after which the circuit opens.
    pub threshold: u32,
    /// How long it stays open.
    pub rest: Duration,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            tries: 3,
            base: Duration::from_secs(1),
            cap: Duration::from_secs(30),
            threshold: 5,
            rest: Duration::from_mins(1),
        }
    }
}

/// One thing outside. Cheap to clone; clones share the breaker.
#[derive(Debug, Clone)]
pub struct Remote {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    policy: Policy,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    breaker: Breaker,
    total_errors: u64,
    last_failure: Option<DateTime<Utc>>,
    last_severity: Option<Severity>,
}

/// A call on its way. Tells the breaker when the caller goes away in the middle of it.
struct Under<'a> {
    remote: &'a Remote,
    admission: Admission,
    told: bool,
}

impl Drop for Under<'_> {
    fn drop(&mut self) {
        if !self.told {
            self.remote.state().breaker.abandoned(self.admission);
        }
    }
}

impl Remote {
    /// A remote that is taken to be there.
    pub fn new(name: impl Into<String>, policy: Policy) -> Self {
        let breaker = Breaker::new(policy.threshold, policy.rest);
        let state = State {
            breaker,
            total_errors: 0,
            last_failure: None,
            last_severity: None,
        };
        Self {
            shared: Arc::new(Shared {
                name: name.into(),
                policy,
                state: Mutex::new(state),
            }),
        }
    }

    /// Makes the call, again while that may help, as far as the breaker lets it.
    ///
    /// # Errors
    /// [`CallError::Open`] when the remote is known to be away, else the last try's error.
    pub async fn call<T, E, F, R>(&self, call: F) -> Result<T, CallError<E>>
    where
        E: Failure,
        F: Fn() -> R,
        R: Future<Output = Result<T, E>>,
    {
        let policy = self.shared.policy;
        let delays = ExponentialBuilder::default()
            .with_min_delay(policy.base)
            .with_max_delay(policy.cap)
            .with_max_times(usize::try_from(policy.tries.saturating_sub(1)).unwrap_or(usize::MAX));
        let failed = AtomicBool::new(false);
        let result = (|| self.once(&call))
            .retry(delays)
            .when(may_help)
            .adjust(|error, delay| {
                failed.store(true, Ordering::Relaxed);
                delay.and_then(|delay| wait(error, delay, policy.cap))
            })
            .await;
        if result.is_ok() && failed.into_inner() {
            self.state().last_severity = Some(Severity::Low);
        }
        result
    }

    async fn once<T, E, F, R>(&self, call: &F) -> Result<T, CallError<E>>
    where
        E: Failure,
        F: Fn() -> R,
        R: Future<Output = Result<T, E>>,
    {
        let admitted = self.state().breaker.admit(Instant::now());
        let admission = admitted.map_err(|retry_in| CallError::Open {
            remote: self.shared.name.clone(),
            retry_in,
        })?;
        let mut under = Under {
            remote: self,
            admission,
            told: false,
        };
        let result = call().await;
        under.told = true;
        self.note(admission, &result);
        result.map_err(CallError::Failed)
    }

    fn note<T, E: Failure>(&self, call: Admission, result: &Result<T, E>) {
        let mut state = self.state();
        let before = state.breaker.state(Instant::now());
        let Err(error) = result else {
            if before != CircuitState::Closed {
                tracing::info!(remote = self.shared.name, "it answers again");
            }
            return state.breaker.succeeded(call);
        };
        state.total_errors += 1;
        if !matches!(error.kind(), FailureKind::Transient { .. }) {
            // It answered: it is there.
            state.breaker.succeeded(call);
            state.last_severity = Some(Severity::Medium);
            return;
        }
        let now = Instant::now();
        state.breaker.failed(call, now);
        state.last_failure = Some(Utc::now());
        let open = state.breaker.state(now) == CircuitState::Open;
        state.last_severity = Some(if open {
            Severity::Critical
        } else {
            Severity::High
        });
        let remote = &self.shared.name;
        // One that stays away is told of once, not with each look whether it is back.
        if before == CircuitState::Closed {
            tracing::warn!(remote, circuit_open = open, "a call failed");
        } else {
            tracing::debug!(remote, circuit_open = open, "it is still away");
        }
    }

    /// How the remote is doing.
    pub fn health(&self) -> Health {
        let state = self.state();
        Health {
            remote: self.shared.name.clone(),
            circuit_breaker: CircuitHealth {
                state: state.breaker.state(Instant::now()),
                last_failure_time: state.last_failure,
            },
            total_errors: state.total_errors,
            last_severity: state.last_severity,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_help<E: Failure>(error: &CallError<E>) -> bool {
    matches!(error, CallError::Failed(error) if error.kind() != FailureKind::Permanent)
}

/// Full jitter: anything from nothing to the delay. What the remote asked for is kept to, unless
/// it is more than a caller should wait.
fn wait<E: Failure>(error: &CallError<E>, delay: Duration, cap: Duration) -> Option<Duration> {
    let CallError::Failed(error) = error else {
        return None;
    };
    match error.kind() {
        FailureKind::Permanent => None,
        FailureKind::Transient { retry_after } | FailureKind::Limited { retry_after } => {
            match retry_after {
                Some(asked) => (asked <= cap).then_some(asked),
                None => Some(delay.mul_f64(rand::rng().random_range(0.0..=1.0))),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use super::*;

    #[derive(Debug)]
    struct Fault(FailureKind);

    impl Failure for Fault {
        fn kind(&self) -> FailureKind {
            self.0
        }
    }

    const AWAY: FailureKind = FailureKind::Transient { retry_after: None };

    async fn calls(remote: &Remote, fault: Option<FailureKind>) -> (u32, bool) {
        let count = AtomicU32::new(0);
        let result = remote
            .call(|| async {
                count.fetch_add(1, Ordering::Relaxed);
                fault.map_or(Ok(()), |kind| Err(Fault(kind)))
            })
            .await;
        (count.into_inner(), result.is_ok())
    }

    #[tokio::test(start_paused = true)]
    async fn transient_faults_are_tried_again_and_permanent_ones_are_not() {
        let remote = Remote::new("test", Policy::default());
        assert_eq!(calls(&remote, None).await, (1, true));
        assert_eq!(calls(&remote, Some(AWAY)).await, (3, false));
        assert_eq!(
            calls(&remote, Some(FailureKind::Permanent)).await,
            (1, false)
        );
        assert_eq!(remote.health().total_errors, 4);
    }

    #[tokio::test(start_paused = true)]
    async fn an_error_is_as_bad_as_what_came_of_it() {
        let remote = Remote::new("test", Policy::default());
        let severity = || remote.health().last_severity;
        let count = AtomicU32::new(0);
        let second = || async {
            match count.fetch_add(1, Ordering::Relaxed) {
                0 => Err(Fault(AWAY)),
                _ => Ok(()),
            }
        };
        remote.call(second).await.unwrap();
        assert_eq!(severity(), Some(Severity::Low));
        calls(&remote, Some(FailureKind::Permanent)).await;
        assert_eq!(severity(), Some(Severity::Medium));
        calls(&remote, Some(AWAY)).await;
        assert_eq!(severity(), Some(Severity::High));
        calls(&remote, Some(AWAY)).await;
        assert_eq!(severity(), Some(Severity::Critical));
        calls(&remote, None).await;
        assert_eq!(severity(), Some(Severity::Critical), "no call was made");
    }

    #[tokio::test(start_paused = true)]
    async fn a_limit_is_waited_for_and_opens_no_circuit() {
        let remote = Remote::new("test", Policy::default());
        let limited = |seconds| FailureKind::Limited {
            retry_after: Some(Duration::from_secs(seconds)),
        };
        let started = Instant::now();
        assert_eq!(calls(&remote, Some(limited(5))).await, (3, false));
        assert_eq!(started.elapsed(), Duration::from_secs(10));
        for _ in 0..10 {
            assert_eq!(calls(&remote, Some(limited(3600))).await, (1, false));
        }
        let unsaid = FailureKind::Limited { retry_after: None };
        for _ in 0..3 {
            assert_eq!(calls(&remote, Some(unsaid)).await, (3, false));
        }
        assert_eq!(
            calls(&remote, None).await,
            (1, true),
            "the circuit is closed"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn the_wish_of_the_remote_is_kept_to() {
        let remote = Remote::new("test", Policy::default());
        let asked = FailureKind::Transient {
            retry_after: Some(Duration::from_secs(7)),
        };
        let started = Instant::now();
        assert_eq!(calls(&remote, Some(asked)).await.0, 3);
        assert_eq!(started.elapsed().as_secs(), 14);
        let too_long = FailureKind::Transient {
            retry_after: Some(Duration::from_hours(1)),
        };
        assert_eq!(calls(&remote, Some(too_long)).await.0, 1);
    }

    #[tokio::test(start_paused = true)]
    async fn an_open_circuit_spares_the_remote_until_it_had_its_rest() {
        let remote = Remote::new("test", Policy::default());
        calls(&remote, Some(AWAY)).await;
        assert_eq!(
            calls(&remote, Some(AWAY)).await,
            (2, false),
            "opens at the fifth failure"
        );
        assert_eq!(calls(&remote, None).await, (0, false));
        assert_eq!(remote.health().circuit_breaker.state, CircuitState::Open);
        tokio::time::advance(Duration::from_mins(1)).await;
        assert_eq!(calls(&remote, None).await, (1, true));
        assert_eq!(remote.health().circuit_breaker.state, CircuitState::Closed);
    }
}
