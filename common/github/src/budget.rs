//! What is left of GitHub's hourly limits. A token has one limit; an App has one for itself and one
//! for each installation, so that what is spent on one of them is missing nowhere else.
//!
//! All who ask share a limit, but not alike: whoever can wait leaves a part of it to those who can't.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use http::HeaderMap;
use patchfleet_domain::Timestamp;

/// Longest time for which a limit is taken to be spent, whatever GitHub's clock says.
const LONGEST: Duration = Duration::from_hours(1);

/// Whose limit a request is spent from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Spender {
    /// The token, or the App itself.
    Own,
    /// An App's installation.
    Installation(u64),
}

/// What a request is for. When an hourly limit runs low, requests wait in this order, the last first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum RequestPriority {
    /// Judging what people do: they wait for an answer.
    #[default]
    Intake,
    /// Telling people: comments and labels.
    Outbox,
    /// What agents need for their tasks.
    Agent,
    /// Comparing GitHub with the tasks, which can be done an hour later as well.
    Sweep,
}

impl RequestPriority {
    /// The part of a limit that is left to requests that come first, in percent.
    const fn reserve(self) -> u64 {
        match self {
            Self::Intake => 0,
            Self::Outbox => 5,
            Self::Agent => 10,
            Self::Sweep => 20,
        }
    }
}

/// An hourly limit as GitHub last told it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Budget {
    /// Requests in an hour.
    pub limit: u64,
    /// Those that are left.
    pub remaining: u64,
    /// When the hour is over.
    pub resets_at: Timestamp,
}

impl Budget {
    pub(crate) fn of(headers: &HeaderMap) -> Option<Self> {
        let number = |name: &str| headers.get(name)?.to_str().ok()?.parse::<u64>().ok();
        let resets = i64::try_from(number("x-ratelimit-reset")?).ok()?;
        Some(Self {
            limit: number("x-ratelimit-limit")?,
            remaining: number("x-ratelimit-remaining")?,
            resets_at: DateTime::from_timestamp(resets, 0)?,
        })
    }

    /// How long requests of that priority are not to be made: what is left is for others.
    pub fn wait_of(&self, priority: RequestPriority) -> Option<Duration> {
        let left = (self.resets_at - Utc::now()).to_std().ok()?;
        let reserve = self.limit.saturating_mul(priority.reserve());
        let is_spent = self.remaining == 0 || self.remaining.saturating_mul(100) < reserve;
        is_spent.then(|| left.clamp(Duration::from_secs(1), LONGEST))
    }
}

/// The limits of all whom a client acts as.
#[derive(Debug, Default)]
pub(crate) struct Budgets(Mutex<HashMap<Spender, Budget>>);

impl Budgets {
    pub(crate) fn note(&self, spender: Spender, budget: Budget) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(spender, budget);
    }

    pub(crate) fn get(&self, spender: Spender) -> Option<Budget> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&spender).copied()
    }

    /// How long requests of that priority are not to be made.
    pub(crate) fn wait_of(&self, spender: Spender, priority: RequestPriority) -> Option<Duration> {
        self.get(spender)?.wait_of(priority)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget(remaining: u64, minutes: i64) -> Budget {
        Budget {
            limit: 5000,
            remaining,
            resets_at: Utc::now() + chrono::TimeDelta::minutes(minutes),
        }
    }

    #[test]
    fn whoever_can_wait_leaves_the_rest_of_the_limit_to_those_who_cannot() {
        use RequestPriority::{Agent, Intake, Outbox, Sweep};
        for (priority, last) in [(Intake, 1), (Outbox, 250), (Agent, 500), (Sweep, 1000)] {
            assert_eq!(budget(last, 30).wait_of(priority), None, "{priority:?}");
            let wait = budget(last - 1, 30).wait_of(priority);
            assert!(
                wait > Some(Duration::from_mins(29)),
                "{priority:?}: {wait:?}"
            );
        }
    }

    #[test]
    fn a_limit_is_spent_until_its_hour_is_over() {
        let wait = |remaining, minutes| budget(remaining, minutes).wait_of(RequestPriority::Sweep);
        assert_eq!(wait(0, -1), None);
        assert_eq!(wait(0, 600), Some(LONGEST));
        assert!(wait(999, 30) > Some(Duration::from_mins(29)));
    }
}
