//! Tells the coordinator how the flow goes: phases, and checkpoints that are durable before the
//! next node begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_domain::Phase;
use patchfleet_domain::report::Checkpoint as Durable;
use patchfleet_flow::{Checkpoint, NodeError, Observer};
use patchfleet_guard::redact_registered;
use serde_json::Value;

use crate::session::reporter::Reporter;

/// Watches one run.
pub(super) struct Watch {
    reporter: Reporter,
    /// A draft was made.
    drafted: Arc<AtomicBool>,
}

impl Watch {
    pub(super) const fn new(reporter: Reporter, drafted: Arc<AtomicBool>) -> Self {
        Self { reporter, drafted }
    }

    fn passed(&self, node: &str) {
        if node == "draft" {
            self.drafted.store(true, Ordering::Relaxed);
        }
    }
}

/// The phase that a node belongs to.
fn phase(node: &str) -> Phase {
    match node {
        "draft" => Phase::Generate,
        "patch" => Phase::Apply,
        "test" => Phase::Test,
        "review" | "route" => Phase::Review,
        "publish" => Phase::Publish,
        "summarize" => Phase::Report,
        _ => Phase::Analyze,
    }
}

/// The checkpoint without secrets that this process holds. What only looks like a secret stays:
/// a later attempt works with what it reads here. (A change that holds a registered secret never
/// comes this far: `draft` and `patch` refuse it.)
fn redacted(value: Value) -> Value {
    match value {
        Value::String(text) => Value::String(redact_registered(&text).into_owned()),
        Value::Array(items) => items.into_iter().map(redacted).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, redacted(value)))
            .collect(),
        other => other,
    }
}

#[async_trait]
impl Observer for Watch {
    async fn started(&self, node: &str, visit: u32) {
        let round = if visit > 1 {
            format!("{node}, round {visit}")
        } else {
            node.to_owned()
        };
        self.reporter.progress(phase(node), round);
    }

    async fn finished(&self, checkpoint: &Checkpoint, duration: Duration) {
        let Checkpoint { node, visit, .. } = checkpoint;
        self.passed(node);
        tracing::info!(
            node,
            visit,
            duration_ms = duration.as_millis(),
            "node finished"
        );
        let output = match serde_json::to_value(checkpoint) {
            Ok(output) => redacted(output),
            Err(error) => {
                tracing::error!(node, %error, "the checkpoint can't be written; a later attempt pays again");
                return;
            }
        };
        let durable = Durable {
            node: node.clone(),
            visit: *visit,
            output,
        };
        // An attempt that is gone is cancelled as well; the engine sees that next.
        let _ = self.reporter.checkpoint(durable).await;
    }

    async fn failed(&self, node: &str, error: &NodeError, again: bool) {
        let message = patchfleet_guard::redact(&error.message).into_owned();
        tracing::warn!(node, code = error.code, message, again, "node failed");
    }

    async fn replayed(&self, checkpoint: &Checkpoint) {
        let Checkpoint { node, visit, .. } = checkpoint;
        self.passed(node);
        self.reporter.progress(
            phase(node),
            format!("{node}, visit {visit}: from its checkpoint"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_checkpoint_holds_no_registered_secret() {
        patchfleet_guard::register_secret("of no known form");
        let value =
            json!({"a": ["it is of no known form"], "b": {"c": "of no known form", "d": 1}});
        let clean = json!({"a": ["it is [redacted]"], "b": {"c": "[redacted]", "d": 1}});
        assert_eq!(redacted(value), clean);
    }
}
