//! The hourly request budget of each caller, told in every answer's headers.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

/// What a caller without credentials gets in an hour.
const ANONYMOUS: u64 = 60;

/// One caller's budget at one moment.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    pub(crate) limit: u64,
    pub(crate) used: u64,
    pub(crate) reset: DateTime<Utc>,
}

impl Budget {
    pub(crate) fn remaining(self) -> u64 {
        self.limit.saturating_sub(self.used)
    }

    /// The object of `GET /rate_limit`.
    pub(crate) fn body(self) -> Value {
        json!({
            "limit": self.limit,
            "used": self.used,
            "remaining": self.remaining(),
            "reset": self.reset.timestamp(),
            "resource": "core",
        })
    }
}

/// The budgets of all callers.
#[derive(Debug)]
pub(crate) struct Windows {
    limit: u64,
    /// How long an hour is.
    length: Duration,
    callers: HashMap<String, Budget>,
}

impl Windows {
    pub(crate) fn new(limit: u64, length: Duration) -> Self {
        Self {
            limit,
            length,
            callers: HashMap::new(),
        }
    }

    /// A caller's budget now, in a new window when the old one has ended.
    pub(crate) fn budget(&mut self, caller: &str, now: DateTime<Utc>) -> &mut Budget {
        let fresh = Budget {
            limit: if caller == "anonymous" {
                ANONYMOUS
            } else {
                self.limit
            },
            used: 0,
            reset: now + self.length,
        };
        let budget = self.callers.entry(caller.to_owned()).or_insert(fresh);
        if budget.reset <= now {
            *budget = fresh;
        }
        budget
    }
}
