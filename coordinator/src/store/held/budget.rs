//! Tasks that wait because a budget is spent.

use chrono::Days;
use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{FailureKind, Limit, TaskState, WaitReason};

use super::{DateTime, Held, Timestamp};
use crate::store::StoreResult;
use crate::store::rules::Course;

impl Held {
    /// Ends an attempt that may not spend more. What it did is kept, it does not count as a failure, and
    /// the task waits: for the next day, or for a person.
    pub(super) fn stop_for_budget(&mut self, failure: &Failure, actor: &str) -> StoreResult<()> {
        self.end_attempt("budget", Some(failure.clone()));
        self.task.failure = Some(failure.clone());
        let states: &[TaskState] = match self.task.state {
            TaskState::Testing => &[TaskState::InProgress, TaskState::Waiting],
            _ => &[TaskState::Waiting],
        };
        self.follow(&Course::through(states), (actor, &failure.message))?;
        self.task.wait_reason = Some(WaitReason::Budget);
        self.not_before = Some(match failure.kind {
            FailureKind::DailyBudgetSpent => next_day(self.now),
            _ => DateTime::<chrono::Utc>::MAX_UTC,
        });
        Ok(())
    }

    /// True while the task waits for a budget.
    pub(super) fn waits_for_budget(&self) -> bool {
        self.task.state == TaskState::Waiting && self.task.wait_reason == Some(WaitReason::Budget)
    }

    /// A person lets the task spend more; if it waits for that, it goes on.
    pub(in crate::store) fn allow(&mut self, more: Limit, actor: &str) -> StoreResult<()> {
        let money = more.usd.map(|usd| usd.to_string());
        let tokens = more.tokens.map(|tokens| format!("{tokens} tokens"));
        let parts: Vec<_> = money.into_iter().chain(tokens).collect();
        let detail = format!("may spend {} more", parts.join(" and "));
        if self.waits_for_budget() {
            self.task.failure = None;
            return self.follow(&Course::through(&[TaskState::Queued]), (actor, &detail));
        }
        self.note("note", (actor, &detail));
        self.changes.tells = true;
        Ok(())
    }
}

/// When the next day of UTC begins.
fn next_day(now: Timestamp) -> Timestamp {
    let next = now.date_naive().checked_add_days(Days::new(1));
    let midnight = next.and_then(|day| day.and_hms_opt(0, 0, 0));
    midnight.map_or(DateTime::<chrono::Utc>::MAX_UTC, |midnight| {
        midnight.and_utc()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_ends_at_midnight_of_utc() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        for now in ["2026-12-31T00:00:00Z", "2026-12-31T23:59:59.999999Z"] {
            assert_eq!(next_day(at(now)), at("2027-01-01T00:00:00Z"));
        }
    }
}
