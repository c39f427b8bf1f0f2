//! `summarize`: the report on what was done. What is missing is left out, and when nothing is
//! there a plain line takes its place; the task does not fail over its summary.

use std::sync::Arc;

use async_trait::async_trait;
use patchfleet_flow::{Context, Node, NodeCall, NodeError};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::NodeDeps;
use super::context::optional;
use super::patch::PatchedFile;
use super::summary::{Facts, Summary};
use super::test::TestResults;
use crate::sandbox::Isolation;
use crate::setup::SetupReport;

/// The report when there is nothing to tell.
const FALLBACK: &str = "There is nothing to summarize: no change is known.";

/// The node.
pub(super) struct Summarize(pub(super) Arc<NodeDeps>);

#[async_trait]
impl Node for Summarize {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let ctx = call.ctx;
        let files: Vec<PatchedFile> = present(ctx, "workspace.files").unwrap_or_default();
        let command: Vec<String> = present(ctx, "tests.command").unwrap_or_default();
        let risks: Vec<String> = present(ctx, "review.risks").unwrap_or_default();
        let setup: Option<SetupReport> = present(ctx, "setup");
        let drafted: Option<Isolation> = present(ctx, "draft.isolation");
        let (before, after): (Option<TestResults>, Option<TestResults>) =
            (present(ctx, "tests.before"), present(ctx, "tests.results"));
        let summary = Summary::of(&Facts {
            task: &self.0.task,
            files: &files,
            command: &command,
            before: before.as_ref(),
            after: after.as_ref(),
            risks: &risks,
            setup: setup.as_ref(),
            drafted: drafted.as_ref(),
            spent: self.0.budgets.spent(),
        });
        let report = if files.is_empty() {
            FALLBACK.to_owned()
        } else {
            summary.to_markdown()
        };
        Ok(json!({ "summary": { "report": report, "json": summary } }))
    }
}

/// What stands there, if it is what it should be.
fn present<T: DeserializeOwned>(ctx: &Context, path: &str) -> Option<T> {
    optional(ctx, path).ok().flatten()
}
