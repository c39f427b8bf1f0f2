//! `test`: the change in a clean work tree, and what the tests say about exactly that tree.
//!
//! The tree is written from the base and the accepted diff, checked out, and only then tested; its
//! hash stands in the result. The same code runs the tests once before the change.

mod baseline;
mod command;
pub(super) mod count;
mod detect;
pub(super) mod names;
mod none;
pub(crate) mod properties;
mod results;
mod run;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_domain::FailureKind;
use patchfleet_flow::{Node, NodeCall, NodeError};
use serde_json::{Value, json};

pub(super) use baseline::Baseline;
pub(super) use command::{LeftOut, TestCommand};
pub use results::{TestPart, TestResults};
pub(crate) use run::TestRun;

use super::NodeDeps;
use super::context::{git, optional, permanent};
use super::patch;
use crate::process::SpawnError;
use crate::sandbox::{Sandbox, SandboxError};

/// How tests are run on this agent.
#[derive(Debug, Clone, Default)]
pub struct TestPolicy {
    /// The operator's command; it stands above the repository's own.
    pub command: Option<Vec<String>>,
    /// The operator's timeout; it stands above the repository's own.
    pub timeout: Option<Duration>,
    /// The rules for children.
    pub sandbox: Sandbox,
}

/// The node.
pub(super) struct Test(pub(super) Arc<NodeDeps>);

#[async_trait]
impl Node for Test {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let deps = &self.0;
        let changes = patch::accepted(deps, call.ctx).await?;
        let workspace = &deps.workspace;
        let tree = workspace
            .repository
            .write_tree(&workspace.base, &changes)
            .await;
        let tree = tree.map_err(git)?;
        let command = TestCommand::chosen(deps, call.ctx).await?;
        let label = match optional::<Value>(call.ctx, "publish.unfinished")? {
            Some(_) => "unfinished".to_owned(),
            None => format!("round-{}", call.visit),
        };
        let results = command.run(deps, &tree, &label, &call.cancel).await?;
        let mut tests = command.to_json();
        tests["results"] = json!(results);
        Ok(json!({ "tests": tests }))
    }
}

fn node_error(error: SandboxError) -> NodeError {
    let kind = match &error {
        SandboxError::NotRun(SpawnError::Cancelled) => FailureKind::Interrupted,
        SandboxError::NotAllowed { .. } | SandboxError::NotRun(_) => {
            FailureKind::TestCommandInvalid
        }
        SandboxError::Plan(_)
        | SandboxError::NoFolder { .. }
        | SandboxError::NotIsolated
        | SandboxError::Left { .. }
        | SandboxError::Broken { .. } => FailureKind::HostFault,
    };
    permanent(kind, format!("the tests can't be run: {error}"))
}
