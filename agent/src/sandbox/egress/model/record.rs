//! What one sandbox did with its model.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};

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
pub(super) struct Record(Arc<Mutex<ModelUse>>);

impl Record {
    pub(super) fn asked(&self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.requests = all.requests.saturating_add(1);
    }

    pub(super) fn refused(&self, why: &str) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.refused.len() < MAX_KINDS {
            let text = patchfleet_guard::visible_line(why);
            all.refused.insert(text.chars().take(MAX_TEXT).collect());
        }
    }

    pub(super) fn all(&self) -> ModelUse {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_refused_without_end_fills_nothing() {
        let record = Record::default();
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
