//! What one sandbox did with its model.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Most kinds of refusals that are kept.
const MAX_KINDS: usize = 20;
/// Longest text of one, in characters: a part of it is the client's.
const MAX_TEXT: usize = 200;

/// What one sandbox did with its model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ModelUse {
    /// How many requests were sent on.
    pub requests: u64,
    /// What was refused and why; each kind once, and some of them at most.
    pub refused: BTreeSet<String>,
}

/// The record of a sandbox while it runs. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct ModelRecord(Arc<Mutex<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    used: ModelUse,
    /// Requests whose answers are not over.
    open: u64,
}

/// A request that is open until this value is dropped.
#[derive(Debug)]
pub(crate) struct OpenRequest(ModelRecord);

impl ModelRecord {
    /// Counts a request, which is open until the value is dropped.
    pub(crate) fn begin_request(&self) -> OpenRequest {
        let mut kept = self.lock();
        kept.used.requests = kept.used.requests.saturating_add(1);
        kept.open += 1;
        OpenRequest(self.clone())
    }

    /// How many requests there were, and how many of them wait for their answer or its end.
    pub(crate) fn requests(&self) -> (u64, u64) {
        let kept = self.lock();
        (kept.used.requests, kept.open)
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn refused(&self, why: &str) {
        let all = &mut self.lock().used;
        if all.refused.len() < MAX_KINDS {
            let text = patchfleet_guard::visible_line(why);
            all.refused.insert(text.chars().take(MAX_TEXT).collect());
        }
    }

    pub(super) fn all(&self) -> ModelUse {
        self.lock().used.clone()
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        self.0.lock().open -= 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_refused_without_end_fills_nothing() {
        let record = ModelRecord::default();
        for number in 0..1000 {
            record.refused(&format!("GET /{number}\x1b[2J{}", "x".repeat(10_000)));
        }
        let all = record.all();
        assert_eq!(all.refused.len(), MAX_KINDS);
        assert!(
            all.refused
                .iter()
                .all(|text| text.chars().count() <= MAX_TEXT)
        );
        assert!(!all.refused.iter().any(|text| text.contains('\x1b')));
    }
}
