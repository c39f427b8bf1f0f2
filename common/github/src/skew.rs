//! How far this host's clock is from GitHub's: an App's token is refused when they differ by minutes.

use std::sync::{Mutex, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use http::{HeaderMap, header};

/// The difference at GitHub's last answer that named its time.
#[derive(Debug, Default)]
pub(crate) struct Skew(Mutex<Option<TimeDelta>>);

impl Skew {
    /// Notes what an answer says.
    pub(crate) fn note(&self, headers: &HeaderMap) {
        if let Some(theirs) = time_of(headers) {
            let ahead = Utc::now() - theirs;
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(ahead);
        }
    }

    pub(crate) fn get(&self) -> Option<TimeDelta> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When an answer was sent, by the clock of who sent it.
pub(crate) fn time_of(headers: &HeaderMap) -> Option<DateTime<Utc>> {
    let date = headers.get(header::DATE)?.to_str().ok()?;
    Some(DateTime::parse_from_rfc2822(date).ok()?.to_utc())
}
