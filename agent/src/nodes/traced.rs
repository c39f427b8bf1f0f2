//! Spans around nodes.

use async_trait::async_trait;
use patchfleet_flow::{Node, NodeCall, NodeError};
use patchfleet_telemetry::trace;
use serde_json::Value;
use tracing::Instrument as _;

/// A node whose tries are spans.
pub(super) struct Traced<N> {
    /// The name of the span; the node's own when absent.
    stage: Option<&'static str>,
    node: N,
}

impl<N: Node> Traced<N> {
    /// Spans named after the node.
    pub(super) const fn node(node: N) -> Self {
        Self { stage: None, node }
    }

    /// Spans named after a stage of the work that the node is most of.
    pub(super) const fn stage(name: &'static str, node: N) -> Self {
        Self {
            stage: Some(name),
            node,
        }
    }
}

#[async_trait]
impl<N: Node> Node for Traced<N> {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let name = self.stage.unwrap_or(call.node);
        let span = tracing::info_span!(
            target: trace::TARGET, "node", otel.name = name, node = call.node, visit = call.visit
        );
        let ended = self.node.run(call).instrument(span.clone()).await;
        ended.inspect_err(|error| trace::failed(&span, error))
    }
}
