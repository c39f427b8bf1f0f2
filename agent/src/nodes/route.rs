//! `route`: what the review found becomes the next round's input. Where the flow goes on is said
//! by its edges, and how often by its `max_rounds`.

use async_trait::async_trait;
use patchfleet_flow::{Node, NodeCall, NodeError};
use serde_json::{Value, json};

use super::context::{optional, required};
use super::finding::Finding;

/// The node.
pub(super) struct Route;

#[async_trait]
impl Node for Route {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let status: String = required(call.ctx, "review.status")?;
        let findings: Option<Vec<Finding>> = optional(call.ctx, "review.findings")?;
        let next = if status == "OK" { "publish" } else { "draft" };
        Ok(json!({
            "route": { "next": next },
            "findings": findings.unwrap_or_default(),
        }))
    }
}
