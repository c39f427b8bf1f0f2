//! The work of a task that a budget stopped, published as a draft when its tests allow.
//!
//! It was paid for, and whoever decides on more money should see what there is. It is held to the rules
//! of every change and tested like one; no model is asked. What is red stays unpublished. What was not
//! tested, and what a review refused in the round before, is published with these words. Nothing here
//! changes how the attempt ends: the task waits, and goes on from its own record, never from this branch.
//! Invariant: what is not finished never closes an issue by being merged.

use std::sync::Arc;

use patchfleet_domain::PullRequestRef;
use patchfleet_flow::{Context, Node, NodeCall, NodeError, RunError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::NodeDeps;
use super::context::{optional, required};
use super::patch::{Patch, PatchedFile};
use super::publish::Publish;
use super::review;
use super::test::{Test, TestResults};

/// Publishes what a run that a budget ended had changed; nothing when there is no change or it is not
/// green, which the log tells.
///
/// # Errors
/// When the change breaks a rule, or can't be tested or published.
pub(crate) async fn publish_unfinished(
    deps: &Arc<NodeDeps>,
    (ended, why): (&RunError, &str),
    cancel: &CancellationToken,
) -> Result<Option<PullRequestRef>, NodeError> {
    let RunError::Node { node, ctx, .. } = ended else {
        return Ok(None);
    };
    // Of a draft in the middle, else of the one that a model was to review.
    let stopped: Option<String> = optional(ctx, "stopped.diff")?;
    let accepted: Option<String> = optional(ctx, "diff.accepted")?;
    // A round that changed nothing yet leaves the change of the round before, which the review was about.
    let is_reviewed = stopped.is_none() && node == "draft";
    let Some(diff) = stopped.or(accepted) else {
        return Ok(None);
    };
    deps.log
        .line("the budget is spent; the work so far is tested, to be published as a draft");
    let mut unfinished = Unfinished {
        ctx: ctx.as_ref().clone(),
        cancel,
    };
    let mut facts = json!({
        "diff": { "proposed": diff, "refused": null },
        "publish": { "unfinished": why },
    });
    if !is_reviewed {
        facts["review"] = json!({ "risks": [], "model": null });
    }
    unfinished.ctx.merge(&facts);
    unfinished.pass("patch", Patch(Arc::clone(deps))).await?;
    unfinished.pass("test", Test(Arc::clone(deps))).await?;
    if let Some(refusal) = unfinished.refusal()? {
        deps.log
            .line(&format!("the work so far is not published: {refusal}"));
        return Ok(None);
    }
    unfinished
        .pass("publish", Publish(Arc::clone(deps)))
        .await?;
    required(&unfinished.ctx, "publish.pull_request").map(Some)
}

struct Unfinished<'a> {
    ctx: Context,
    cancel: &'a CancellationToken,
}

impl Unfinished<'_> {
    async fn pass(&mut self, name: &str, node: impl Node) -> Result<(), NodeError> {
        let call = NodeCall {
            node: name,
            visit: 1,
            ctx: &self.ctx,
            with: Value::Null,
            cancel: self.cancel.child_token(),
        };
        let delta = node.run(call).await?;
        self.ctx.merge(&delta);
        Ok(())
    }

    /// Why no rule lets the change pass.
    fn refusal(&self) -> Result<Option<String>, NodeError> {
        let files: Vec<PatchedFile> = required(&self.ctx, "workspace.files")?;
        let before: Option<TestResults> = optional(&self.ctx, "tests.before")?;
        let after: Option<TestResults> = optional(&self.ctx, "tests.results")?;
        let findings = review::findings(&files, before.as_ref(), after.as_ref());
        let first = findings.into_iter().next();
        Ok(first.map(|finding| finding.message))
    }
}
