//! The log of requests, for assertions.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// One request as it arrived, with its answer's status once there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRecord {
    /// `GET`, `POST`, …
    pub method: String,
    /// Path without the query.
    pub path: String,
    /// Query without the question mark.
    pub query: String,
    /// Login of the caller; empty for nobody and for an App as such.
    pub actor: String,
    /// Status of the answer; none while it is being answered or when the
    /// caller went away first.
    pub status: Option<u16>,
}

/// Requests in the order of arrival.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    records: Mutex<Vec<RequestRecord>>,
}

impl Journal {
    /// Notes an arrival and returns its place.
    pub(crate) fn arrived(&self, record: RequestRecord) -> usize {
        let mut records = self.lock();
        records.push(record);
        records.len() - 1
    }

    pub(crate) fn answered(&self, place: usize, status: u16) {
        if let Some(record) = self.lock().get_mut(place) {
            record.status = Some(status);
        }
    }

    pub(crate) fn all(&self) -> Vec<RequestRecord> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<RequestRecord>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
