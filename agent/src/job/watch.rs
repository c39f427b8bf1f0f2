//! Tells the coordinator how the flow goes: phases, and checkpoints that are durable before the
//! next node begins.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_domain::report::Checkpoint as Durable;
use patchfleet_domain::{FailureKind, Phase};
use patchfleet_flow::{Checkpoint, NodeError, Observer};
use patchfleet_guard::redact_registered;
use patchfleet_proto::MAX_MESSAGE_BYTES;
use serde_json::Value;

use crate::session::reporter::{NotKept, Reporter};

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

/// What nodes put into the context for people, who read it in reports and pull requests.
const FOR_PEOPLE: &[&str] = &["tests", "review", "summary", "setup"];
/// Words of what [`FOR_PEOPLE`] names that the next attempt works with, unless an operator chose them.
const COMMANDS: [&str; 2] = ["command", "commands"];

/// The checkpoint as it may leave the agent. Secrets that this process holds are taken out of all of
/// it. What only looks like a secret stays: a later attempt works with what it reads here. (A change
/// that holds a registered secret never comes this far: `draft` and `patch` refuse it.) Paths of the
/// host are taken out of what people read, as the agent of a later attempt does not know them.
fn outward(mut checkpoint: Checkpoint, hide: &dyn Fn(&str) -> String) -> Checkpoint {
    let redact = |text: &str| redact_registered(text).into_owned();
    let hide = |text: &str| hide(&redact(text));
    if let Some(error) = &mut checkpoint.error {
        error.message = hide(&error.message);
    }
    let Value::Object(fields) = checkpoint.delta else {
        return checkpoint;
    };
    let fields = fields.into_iter().map(|(name, value)| {
        let is_for_people = FOR_PEOPLE.contains(&name.as_str());
        let commands = COMMANDS.map(|name| (name, value.get(name).cloned()));
        let origin = value.get("origin").and_then(Value::as_str);
        let of_repository = matches!(origin, Some("repository" | "detected"));
        let mut value = if is_for_people {
            each_text(value, &hide)
        } else {
            each_text(value, &redact)
        };
        for (name, command) in commands.into_iter().filter(|_| of_repository) {
            if let Some(command) = command {
                value[name] = each_text(command, &redact);
            }
        }
        (name, value)
    });
    checkpoint.delta = fields.collect();
    checkpoint
}

/// The value with each text in it changed.
fn each_text(value: Value, change: &dyn Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(&text)),
        Value::Array(items) => items.into_iter().map(|it| each_text(it, change)).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(name, value)| (name, each_text(value, change)))
            .collect(),
        other => other,
    }
}

/// The end of an attempt whose work can't be kept: going on without would lose it with the agent.
fn too_large(node: &str, bytes: usize) -> NodeError {
    let message = format!(
        "what `{node}` produced has {} MiB, and a message to the coordinator may have {} MiB",
        bytes.div_ceil(1 << 20),
        MAX_MESSAGE_BYTES >> 20
    );
    NodeError::permanent(FailureKind::ResultTooLarge.as_str(), message)
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

    async fn finished(&self, checkpoint: &Checkpoint, duration: Duration) -> Result<(), NodeError> {
        let Checkpoint { node, visit, .. } = checkpoint;
        self.passed(node);
        tracing::info!(
            node,
            visit,
            duration_ms = duration.as_millis(),
            "node finished"
        );
        let hide = |text: &str| self.reporter.hide_paths(text);
        let output = match serde_json::to_value(outward(checkpoint.clone(), &hide)) {
            Ok(output) => output,
            Err(error) => {
                tracing::error!(node, %error, "the checkpoint can't be written; a later attempt pays again");
                return Ok(());
            }
        };
        let durable = Durable {
            node: node.clone(),
            visit: *visit,
            output,
        };
        match self.reporter.checkpoint(durable).await {
            // An attempt that is gone is cancelled as well; the engine sees that next.
            Ok(()) | Err(NotKept::Gone) => Ok(()),
            Err(NotKept::TooLarge { bytes }) => Err(too_large(node, bytes)),
        }
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

    fn outward_delta(delta: Value) -> Value {
        let checkpoint = Checkpoint {
            node: "test".to_owned(),
            visit: 1,
            delta,
            error: None,
        };
        outward(checkpoint, &|text| text.replace("/srv/ci/", "")).delta
    }

    #[test]
    fn a_checkpoint_holds_no_registered_secret() {
        patchfleet_guard::register_secret("of no known form");
        let value =
            json!({"a": ["it is of no known form"], "b": {"c": "of no known form", "d": 1}});
        let clean = json!({"a": ["it is [redacted]"], "b": {"c": "[redacted]", "d": 1}});
        assert_eq!(outward_delta(value), clean);
    }

    /// The agent of the next attempt, which may publish them, does not know what to hide.
    #[test]
    fn what_people_read_of_a_checkpoint_names_no_path_of_the_host() {
        let of = |origin: &str, command: &str| {
            json!({
                "tests": {
                    "command": [command],
                    "commands": [[command]],
                    "origin": origin,
                    "results": {"tail": "/srv/ci/run: 1 passed"},
                },
                "workspace": {"files": [{"text": "see /srv/ci/run"}]},
            })
        };
        let mut hidden = of("operator", "run");
        hidden["tests"]["results"]["tail"] = json!("run: 1 passed");
        assert_eq!(outward_delta(of("operator", "/srv/ci/run")), hidden);
        for origin in ["repository", "detected"] {
            let of_repository = outward_delta(of(origin, "/srv/ci/run"));
            let commands = &of_repository["tests"]["commands"];
            assert_eq!(
                *commands,
                json!([["/srv/ci/run"]]),
                "it is run again as it is"
            );
        }
    }
}
