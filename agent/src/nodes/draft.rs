//! `draft`: the request and what earlier rounds found become a unified diff against the base.

use std::sync::Arc;

use async_trait::async_trait;
use patchfleet_flow::{Context, Node, NodeCall, NodeError};
use serde_json::{Value, json};

use super::NodeDeps;
use super::context::{optional, permanent, required};
use super::finding::Finding;
use super::patch::{self, binary::without_contents};
use super::test::TestCommand;
use crate::draft::{DraftError, DraftRequest, DraftSurroundings, Drafted, Drafter};

/// The node.
pub(super) struct Draft(pub(super) Arc<NodeDeps>);

#[async_trait]
impl Node for Draft {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let deps = &self.0;
        let mut request = request(deps, call.ctx, call.visit)?;
        let tests = TestCommand::chosen(deps, call.ctx).await?;
        let kept = deps.budgets.kept_work(call.visit);
        let applied = match kept {
            Some(diff) => patch::changes(deps, diff).await?,
            // A later round goes on from what was applied last.
            None => patch::accepted(deps, call.ctx).await?,
        };
        request.continued = kept.is_some();
        let surroundings = DraftSurroundings {
            workspace: &deps.workspace,
            config: &deps.config,
            tests: tests.run_of(deps).await?,
            follow_ups: deps.follow_ups.clone(),
            budgets: deps.budgets.clone(),
            applied,
            on_line: deps.log.for_output(),
            cancel: call.cancel.clone(),
        };
        let drafted = deps.drafter.draft(&request, surroundings).await;
        let Drafted {
            diff,
            refused,
            isolation,
            model,
            comments,
        } = drafted.map_err(|error| node_error(&error))?;
        if let Some(path) = patch::holds_registered_secret(&diff) {
            let path = path.to_owned();
            return Err(node_error(&DraftError::Secret { path }));
        }
        // `patch` refuses it then, and the next round is told.
        let refused = refused.or_else(|| patch::too_long(&diff, deps.change));
        let proposed = if refused.is_some() { "" } else { &diff };
        Ok(json!({
            "diff": { "proposed": proposed, "refused": refused, "round": call.visit },
            "draft": { "isolation": isolation, "model": model, "comments": comments },
        }))
    }
}

fn request(deps: &NodeDeps, ctx: &Context, round: u32) -> Result<DraftRequest, NodeError> {
    let findings: Option<Vec<Finding>> = optional(ctx, "findings")?;
    let previous: Option<String> = optional(ctx, "diff.proposed")?;
    Ok(DraftRequest {
        task: deps.task.work.task,
        round,
        title: deps.task.title.clone(),
        body: deps.task.body.clone(),
        follow_ups: if takes_follow_ups(&deps.drafter) {
            Vec::new()
        } else {
            deps.follow_ups.all()
        },
        repository: deps.task.repository.clone(),
        language: optional(ctx, "workspace.language")?,
        structure: required(ctx, "workspace.structure")?,
        test_command: optional(ctx, "tests.command")?.unwrap_or_default(),
        tests_before: optional(ctx, "tests.before")?,
        findings: if round > 1 {
            findings.unwrap_or_default()
        } else {
            Vec::new()
        },
        previous_diff: previous.map(|diff| without_contents(&diff).into_owned()),
        continued: false,
        allowed_paths: deps.config.allowed_paths.patterns().to_vec(),
    })
}

/// True of a drafter that adds comments to its conversation by itself while it drafts; others read them in
/// the request.
fn takes_follow_ups(drafter: &Drafter) -> bool {
    match drafter {
        Drafter::Tools(_) => true,
        Drafter::Recorded { drafter, .. } => takes_follow_ups(drafter),
        Drafter::Replay { .. } | Drafter::Cli { .. } | Drafter::Diff(_) => false,
    }
}

fn node_error(error: &DraftError) -> NodeError {
    let delta = match error {
        // Not kept with the task: of what goes on from here the next attempt has its own record.
        DraftError::OverBudget {
            diff: Some(diff), ..
        } if patch::holds_registered_secret(diff).is_none() => {
            json!({ "stopped": { "diff": diff } })
        }
        _ => Value::Null,
    };
    NodeError {
        retryable: error.may_pass(),
        ..permanent(error.kind(), error.to_string()).with_delta(delta)
    }
}
