//! The database's clock as it is known without asking: what it said last, and what has passed since
//! by a clock of this process that nobody sets.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::TimeDelta;
use patchfleet_domain::Timestamp;

/// For how long a word of the database counts: it may have been set meanwhile.
const FRESH: Duration = Duration::from_secs(5);

/// How long an answer may take that is to count: a question may wait for a lock with the time told
/// before, and what is known is behind the database by no more than this.
const PROMPT: Duration = Duration::from_millis(250);

/// What is known of the database's clock. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Clock(Arc<Mutex<Option<Reading>>>);

#[derive(Debug, Clone, Copy)]
struct Reading {
    told: Timestamp,
    heard: Instant,
}

impl Reading {
    /// The time at a moment after it.
    fn at(self, moment: Instant) -> Option<Timestamp> {
        let since = moment.saturating_duration_since(self.heard);
        let since = TimeDelta::from_std(since).ok().filter(|_| since < FRESH)?;
        self.told.checked_add_signed(since)
    }
}

impl Clock {
    /// The database has just told its time, after it was asked at that moment. It takes a while to
    /// be heard, so what is known is behind the database by that: of two readings, the one that was
    /// heard sooner is kept.
    pub(super) fn set(&self, told: Timestamp, asked: Instant) {
        self.set_at(told, (asked, Instant::now()));
    }

    fn set_at(&self, told: Timestamp, (asked, heard): (Instant, Instant)) {
        if heard.saturating_duration_since(asked) > PROMPT {
            return;
        }
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let ahead = known.and_then(|known| known.at(heard));
        if ahead.is_none_or(|ahead| ahead < told) {
            *known = Some(Reading { told, heard });
        }
    }

    /// The database's time, if it was told lately; a little behind, never ahead unless the
    /// database's clock was set back.
    pub(super) fn now(&self) -> Option<Timestamp> {
        self.at(Instant::now())
    }

    fn at(&self, moment: Instant) -> Option<Timestamp> {
        let known = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.and_then(|known| known.at(moment))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(millis: i64) -> Timestamp {
        Timestamp::from_timestamp_millis(millis).unwrap()
    }

    #[test]
    fn the_reading_that_was_heard_soonest_counts_until_it_is_old() {
        let (clock, start) = (Clock::default(), Instant::now());
        let after = |millis| start + Duration::from_millis(millis);
        let hear = |told, heard| clock.set_at(time(told), (heard, heard));
        assert_eq!(clock.at(start), None);
        hear(1000, start);
        assert_eq!(clock.at(after(10)), Some(time(1010)));
        // Told at 1015 and heard late, at what would be 1020.
        hear(1015, after(20));
        assert_eq!(clock.at(after(20)), Some(time(1020)));
        hear(1035, after(30));
        assert_eq!(clock.at(after(40)), Some(time(1045)));
        // The database's clock was set back.
        hear(500, after(50));
        assert_eq!(clock.at(after(50)), Some(time(1055)));
        let old = after(30) + FRESH;
        assert_eq!(clock.at(old), None);
        hear(500, old);
        assert_eq!(clock.at(old), Some(time(500)));
    }

    #[test]
    fn what_took_long_to_be_heard_does_not_count() {
        let (clock, asked) = (Clock::default(), Instant::now());
        let heard = asked + PROMPT * 2;
        clock.set_at(time(1000), (asked, heard));
        assert_eq!(clock.at(heard), None);
        clock.set_at(time(1000), (heard, heard + PROMPT));
        assert_eq!(clock.at(heard + PROMPT), Some(time(1000)));
    }
}
