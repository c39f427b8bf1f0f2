//! How long an attempt waits for what GitHub asks it to wait for, and for refusals that may be taken back.

use std::time::Duration;

use patchfleet_github::GitHubError;

/// How long an attempt waits in all. The longest of GitHub's limits last for an hour.
const IN_ALL: Duration = Duration::from_mins(90);
/// How often GitHub is asked again that does not know the branch which was just pushed; two minutes in all.
const MOST_UNKNOWN: u32 = 7;
/// First wait after a refusal that may be taken back; it doubles.
const FIRST_REFUSED: Duration = Duration::from_secs(5);
const MOST_REFUSED: Duration = Duration::from_mins(10);

/// How long an attempt goes on waiting: the work is done, and one that were given up would be paid for
/// twice.
pub(crate) struct Patience {
    left: Duration,
    /// How often the branch was not known.
    unknown: u32,
    /// The next wait after a refusal.
    refused: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            left: IN_ALL,
            unknown: 0,
            refused: FIRST_REFUSED,
        }
    }
}

impl Patience {
    /// How long GitHub is to be left alone after this answer; nothing when waiting is no use.
    pub(crate) fn after(&mut self, error: &GitHubError) -> Option<Duration> {
        match error {
            GitHubError::RateLimited { retry_after } => self.take(*retry_after),
            _ if error.is_head_unknown() && self.unknown < MOST_UNKNOWN => {
                self.unknown += 1;
                self.take(Duration::from_secs(1 << self.unknown.min(5)))
            }
            _ if error.may_be_taken_back() => self.after_refusal(),
            _ => None,
        }
    }

    /// How long to wait after a refusal that may be taken back; nothing when that took too long.
    pub(crate) fn after_refusal(&mut self) -> Option<Duration> {
        let wait = self.take(self.refused)?;
        self.refused = (wait * 2).min(MOST_REFUSED);
        Some(wait)
    }

    fn take(&mut self, wait: Duration) -> Option<Duration> {
        self.left = self.left.checked_sub(wait)?;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_waited_out_but_not_without_end() {
        let limit = |seconds| GitHubError::RateLimited {
            retry_after: Duration::from_secs(seconds),
        };
        let mut patience = Patience::default();
        for seconds in [75, 60, 3600] {
            let wait = patience.after(&limit(seconds));
            assert_eq!(wait, Some(Duration::from_secs(seconds)));
        }
        assert_eq!(patience.after(&limit(3600)), None);
        assert_eq!(patience.after(&GitHubError::NotFound), None);
    }

    #[test]
    fn a_refusal_that_may_be_taken_back_is_waited_for_and_a_missing_right_is_not() {
        let refused = |message: &str| GitHubError::Forbidden {
            message: message.to_owned(),
        };
        let mut patience = Patience::default();
        let suspended = refused("This installation has been suspended");
        let waits: Vec<_> = std::iter::from_fn(|| patience.after(&suspended)).collect();
        let seconds: Vec<_> = waits.iter().take(9).map(Duration::as_secs).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        let all: Duration = waits.iter().sum();
        assert!(all > Duration::from_hours(1) && all <= IN_ALL, "{all:?}");
        let missing = refused("Resource not accessible by integration");
        assert_eq!(Patience::default().after(&missing), None);
    }

    #[test]
    fn a_branch_that_was_just_pushed_may_be_unknown_for_a_while() {
        let invalid = |field: &str| GitHubError::Invalid {
            message: "Validation Failed".to_owned(),
            errors: vec![format!(
                r#"{{"resource":"PullRequest","code":"invalid","field":"{field}"}}"#
            )],
        };
        let mut patience = Patience::default();
        let waits: Vec<_> = std::iter::from_fn(|| patience.after(&invalid("head"))).collect();
        let seconds: Vec<_> = waits.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 32, 32]);
        assert_eq!(Patience::default().after(&invalid("base")), None);
    }
}
