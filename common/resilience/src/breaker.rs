//! The circuit breaker: after failures in a row the remote is left alone for a while.

use std::time::Duration;

use serde::Serialize;
use tokio::time::Instant;

/// Where a breaker stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CircuitState {
    /// Calls are made.
    Closed,
    /// No calls are made.
    Open,
    /// One call is made, to see.
    HalfOpen,
}

/// What a call that is let through is to the breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Admission {
    /// The circuit was closed.
    Ordinary,
    /// The one call that finds out whether the remote is back.
    Probe,
}

/// Counts failures in a row. Pure but for the moments it is given.
#[derive(Debug)]
pub(crate) struct Breaker {
    threshold: u32,
    rest: Duration,
    failures: u32,
    opened: Option<Instant>,
    probing: bool,
}

impl Breaker {
    pub(crate) const fn new(threshold: u32, rest: Duration) -> Self {
        Self {
            threshold,
            rest,
            failures: 0,
            opened: None,
            probing: false,
        }
    }

    /// Whether a call may be made now; otherwise how long to wait.
    pub(crate) fn admit(&mut self, now: Instant) -> Result<Admission, Duration> {
        let Some(opened) = self.opened else {
            return Ok(Admission::Ordinary);
        };
        let since = now.duration_since(opened);
        if since < self.rest {
            return Err(self.rest.saturating_sub(since));
        }
        if self.probing {
            // One caller is looking already; the others wait for what it finds.
            return Err(Duration::from_secs(1));
        }
        self.probing = true;
        Ok(Admission::Probe)
    }

    /// The remote answered.
    pub(crate) fn succeeded(&mut self, call: Admission) {
        if self.speaks_for_now(call) {
            self.failures = 0;
            self.opened = None;
            self.probing = false;
        }
    }

    /// The remote failed.
    pub(crate) fn failed(&mut self, call: Admission, now: Instant) {
        if self.speaks_for_now(call) {
            self.failures = self.failures.saturating_add(1);
            if call == Admission::Probe || self.failures >= self.threshold {
                self.opened = Some(now);
            }
            self.probing = false;
        }
    }

    /// Nobody waits for the call any more; if it was the probe, the next caller may look.
    pub(crate) fn abandoned(&mut self, call: Admission) {
        if call == Admission::Probe {
            self.probing = false;
        }
    }

    /// A call from before the circuit opened tells nothing about now, and must not end the rest
    /// or let a second probe in.
    fn speaks_for_now(&self, call: Admission) -> bool {
        call == Admission::Probe || self.opened.is_none()
    }

    pub(crate) fn state(&self, now: Instant) -> CircuitState {
        match self.opened {
            None => CircuitState::Closed,
            Some(opened) if now.duration_since(opened) < self.rest => CircuitState::Open,
            Some(_) => CircuitState::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REST: Duration = Duration::from_mins(1);

    #[tokio::test(start_paused = true)]
    async fn opens_after_failures_in_a_row_and_probes_once() {
        let mut breaker = Breaker::new(3, REST);
        let now = Instant::now();
        for _ in 0..2 {
            breaker.failed(Admission::Ordinary, now);
        }
        breaker.succeeded(Admission::Ordinary);
        for _ in 0..3 {
            assert_eq!(breaker.admit(now), Ok(Admission::Ordinary));
            breaker.failed(Admission::Ordinary, now);
        }
        assert_eq!(breaker.admit(now), Err(REST));
        assert_eq!(breaker.state(now), CircuitState::Open);
        let later = now + REST;
        assert_eq!(breaker.state(later), CircuitState::HalfOpen);
        assert_eq!(breaker.admit(later), Ok(Admission::Probe));
        assert!(
            breaker.admit(later).is_err(),
            "a second probe was let through"
        );
        breaker.failed(Admission::Probe, later);
        assert_eq!(breaker.admit(later), Err(REST));
        assert_eq!(breaker.admit(later + REST), Ok(Admission::Probe));
        breaker.succeeded(Admission::Probe);
        assert_eq!(breaker.state(later + REST), CircuitState::Closed);
    }

    #[tokio::test(start_paused = true)]
    async fn an_abandoned_probe_does_not_block_the_next() {
        let mut breaker = Breaker::new(1, REST);
        let now = Instant::now();
        breaker.failed(Admission::Ordinary, now);
        assert_eq!(breaker.admit(now + REST), Ok(Admission::Probe));
        breaker.abandoned(Admission::Probe);
        assert_eq!(breaker.admit(now + REST), Ok(Admission::Probe));
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_from_before_decides_nothing_for_the_probe() {
        let mut breaker = Breaker::new(1, REST);
        let now = Instant::now();
        let early = breaker.admit(now).unwrap();
        breaker.failed(Admission::Ordinary, now);
        let later = now + REST;
        assert_eq!(breaker.admit(later), Ok(Admission::Probe));
        breaker.abandoned(early);
        breaker.failed(early, later);
        breaker.succeeded(early);
        assert!(
            breaker.admit(later).is_err(),
            "a second probe was let through"
        );
        breaker.succeeded(Admission::Probe);
        assert_eq!(breaker.state(later), CircuitState::Closed);
    }
}
