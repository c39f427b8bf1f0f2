//! What is left of GitHub's hourly limits. A token has one limit; an App has one for itself and one
//! for each installation, so that what is spent on one of them is missing nowhere else.

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

    /// True while less than that part of the limit is left, in percent.
    pub fn is_below(&self, percent: u64) -> bool {
        let low = self.remaining.saturating_mul(100) < self.limit.saturating_mul(percent);
        low && self.resets_at > Utc::now()
    }

    /// How long nothing is left.
    fn is_spent_for(&self) -> Option<Duration> {
        let left = (self.resets_at - Utc::now()).to_std().ok()?;
        (self.remaining == 0).then(|| left.clamp(Duration::from_secs(1), LONGEST))
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

    /// How long GitHub is not to be asked, because it would refuse.
    pub(crate) fn is_spent_for(&self, spender: Spender) -> Option<Duration> {
        self.get(spender)?.is_spent_for()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_low_until_its_hour_is_over() {
        let budget = |remaining, minutes| Budget {
            limit: 5000,
            remaining,
            resets_at: Utc::now() + chrono::TimeDelta::minutes(minutes),
        };
        assert!(budget(999, 30).is_below(20));
        assert!(!budget(1000, 30).is_below(20));
        assert!(!budget(0, -1).is_below(20));
        assert_eq!(budget(1, 30).is_spent_for(), None);
        assert_eq!(budget(0, -1).is_spent_for(), None);
        assert!(budget(0, 30).is_spent_for() > Some(Duration::from_mins(29)));
        assert_eq!(budget(0, 600).is_spent_for(), Some(LONGEST));
    }
}
