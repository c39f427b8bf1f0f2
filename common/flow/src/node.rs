//! Nodes and those who watch them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::context::Context;

/// A kind of node.
#[async_trait]
pub trait Node: Send + Sync {
    /// Does the work and gives what is to be merged into the context. May be run again after a
    /// crash, so what it does outside has to bear that.
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError>;
}

/// What a node is run with.
#[derive(Debug)]
pub struct NodeCall<'a> {
    /// Its name within the flow.
    pub node: &'a str,
    /// Which visit this is, from 1.
    pub visit: u32,
    /// What the flow knows.
    pub ctx: &'a Context,
    /// The node's input, templates filled in.
    pub with: Value,
    /// Cancelled when the work is not wanted any more.
    pub cancel: CancellationToken,
}

/// Why a node failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}")]
pub struct NodeError {
    /// A stable word.
    pub code: String,
    /// For people.
    pub message: String,
    /// Whether trying the node again may help.
    pub retryable: bool,
    /// What was found out all the same; merged into the context when the flow goes on.
    #[serde(default)]
    pub delta: Value,
}

impl NodeError {
    /// An error that trying again won't mend.
    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            code: code.into(),
            message: message.into(),
            retryable: false,
            delta: Value::Null,
        }
    }

    /// An error that may go away.
    pub fn retryable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self {
            retryable: true,
            ..Self::permanent(code, message)
        }
    }

    /// The same error with findings.
    #[must_use]
    pub fn with_delta(self, delta: Value) -> Self {
        Self { delta, ..self }
    }
}

/// How a visit ended that the flow went on from. A later run takes it instead of the visit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The node.
    pub node: String,
    /// The visit, from 1.
    pub visit: u32,
    /// What was merged into the context.
    pub delta: Value,
    /// The error that the flow went on from, by `on_error`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<NodeError>,
}

/// Watches a run.
#[async_trait]
pub trait Observer: Send + Sync {
    /// A visit begins.
    async fn started(&self, node: &str, visit: u32);
    /// A visit ended. The next one begins when this returns: a checkpoint is durable by then. An
    /// error ends the run, as one of the node would that no edge leads on from.
    async fn finished(&self, checkpoint: &Checkpoint, duration: Duration) -> Result<(), NodeError>;
    /// A try failed; it is tried again when `again` says so.
    async fn failed(&self, node: &str, error: &NodeError, again: bool);
    /// A visit was not made, because it has a checkpoint.
    async fn replayed(&self, checkpoint: &Checkpoint);
}

/// The kinds of nodes there are.
#[derive(Clone, Default)]
pub struct Registry {
    kinds: BTreeMap<String, Arc<dyn Node>>,
}

impl Registry {
    /// No kinds yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a kind; replaces one of the same name.
    #[must_use]
    pub fn with(mut self, kind: impl Into<String>, node: impl Node + 'static) -> Self {
        self.kinds.insert(kind.into(), Arc::new(node));
        self
    }

    /// The kind of that name.
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Node>> {
        self.kinds.get(kind)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.kinds.keys()).finish()
    }
}
