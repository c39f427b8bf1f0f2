//! Budgets of time: how long one thing outside may take in all, however often it is asked.
//!
//! Whoever answers within a deadline asks several things on the way. With a budget for each of them,
//! what is named as late is what was late, and not what happened to be asked when the time was over.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// The time that one thing may still take.
#[derive(Debug)]
pub(crate) struct Budget {
    whole: Duration,
    left: Mutex<Duration>,
}

/// The budget is spent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no answer within {0:?}")]
pub(crate) struct Spent(Duration);

impl Budget {
    pub(crate) const fn new(whole: Duration) -> Self {
        Self {
            whole,
            left: Mutex::new(whole),
        }
    }

    /// Asks, for as long as time is left.
    ///
    /// # Errors
    /// When there was no answer by then.
    pub(crate) async fn ask<T>(&self, asking: impl Future<Output = T>) -> Result<T, Spent> {
        let left = *self.left();
        let began = Instant::now();
        let answer = tokio::time::timeout(left, asking).await;
        let mut left = self.left();
        *left = left.saturating_sub(began.elapsed());
        answer.map_err(|_| Spent(self.whole))
    }

    fn left(&self) -> MutexGuard<'_, Duration> {
        self.left.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_is_asked_often_is_not_given_more_time() {
        let second = Duration::from_secs(1);
        let budget = Budget::new(second * 3);
        let takes = |time| async move {
            tokio::time::sleep(time).await;
            7
        };
        assert_eq!(budget.ask(takes(second)).await, Ok(7));
        assert_eq!(budget.ask(takes(second)).await, Ok(7));
        let began = Instant::now();
        let late = budget.ask(takes(second * 2)).await.unwrap_err();
        assert_eq!(late.to_string(), "no answer within 3s");
        assert_eq!(began.elapsed(), second);
        assert!(budget.ask(takes(second)).await.is_err());
    }
}
