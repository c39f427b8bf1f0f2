//! What one sandbox did with its model.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use patchfleet_domain::outcome::Failure;
use patchfleet_model::{ModelError, Origin, Usage};
use tokio_util::sync::CancellationToken;

/// Most kinds of refusals that are kept.
const MAX_KINDS: usize = 20;
/// Longest text of one, in characters: a part of it is the client's.
const MAX_TEXT: usize = 200;

/// What one sandbox did with its model.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ModelUse {
    /// How many requests were sent on.
    pub(crate) requests: u64,
    /// What was refused and why; each kind once, and some of them at most.
    pub(crate) refused: BTreeSet<String>,
    /// What the calls used, by provider and model.
    pub(crate) models: BTreeMap<String, Spent>,
    /// Why no call is allowed any more.
    pub(crate) stopped: Option<Failure>,
    /// How the last call failed, if it did.
    pub(crate) error: Option<(String, ModelError)>,
}

/// What calls of one model used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Spent {
    pub(crate) calls: u32,
    pub(crate) usage: Usage,
}

/// The record of a sandbox while it runs. Clones share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct ModelRecord(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    kept: Mutex<Kept>,
    stop: CancellationToken,
}

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

    /// Why no call is allowed any more.
    pub(crate) fn stopped(&self) -> Option<Failure> {
        self.lock().used.stopped.clone()
    }

    /// Returns when no call is allowed any more.
    pub(crate) async fn is_stopped(&self) {
        self.0.stop.cancelled().await;
    }

    /// From now on no call is allowed.
    pub(super) fn stop(&self, why: Failure) {
        self.lock().used.stopped.get_or_insert(why);
        self.0.stop.cancel();
    }

    /// Notes what a call used, and how it failed if it did.
    pub(super) fn used(&self, origin: &Origin, usage: Usage, error: Option<ModelError>) {
        let model = origin.to_string();
        let used = &mut self.lock().used;
        used.error = error.map(|error| (model.clone(), error));
        // Names are the client's; there is an end to them.
        if used.models.len() < MAX_KINDS || used.models.contains_key(&model) {
            let spent = used.models.entry(model).or_default();
            spent.calls = spent.calls.saturating_add(1);
            spent.usage += usage;
        }
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        self.0.kept.lock().unwrap_or_else(PoisonError::into_inner)
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

impl fmt::Display for Spent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { calls, usage } = self;
        let (read, write) = (usage.cache_read, usage.cache_write);
        write!(f, "{calls} calls, {} tokens in", usage.prompt())?;
        if read > 0 || write > 0 {
            write!(f, " ({read} from its cache, {write} to it)")?;
        }
        write!(f, ", {} out", usage.output)?;
        if usage.estimated {
            f.write_str(", in part an estimate")?;
        }
        Ok(())
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
