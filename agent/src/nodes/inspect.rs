//! `inspect`, the workspace inspector: what is in the repository, how it is tested, and what the
//! tests say before any change.
//!
//! No single file stops it: what can't be shown is listed with the reason.

mod files;
mod ineffective;
mod language;

use std::sync::Arc;

use async_trait::async_trait;
use patchfleet_domain::FailureKind;
use patchfleet_flow::{Node, NodeCall, NodeError};
use serde::Deserialize;
use serde_json::{Value, json};

use super::NodeDeps;
use super::context::{git, permanent};
use super::test::{Baseline, TestCommand};
use crate::git::{Entry, ObjectId};
use files::Options;

/// The node.
pub(super) struct Inspect(pub(super) Arc<NodeDeps>);

/// The node's input.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Input {
    preview_lines: usize,
    max_bytes: u64,
    allowed_extensions: Option<Vec<String>>,
}

impl Default for Input {
    fn default() -> Self {
        Self {
            preview_lines: 20,
            max_bytes: 128 * 1024,
            allowed_extensions: None,
        }
    }
}

impl Input {
    fn read(value: Value) -> Result<Self, NodeError> {
        match value {
            Value::Null => Ok(Self::default()),
            value => serde_json::from_value(value).map_err(|error| {
                permanent(
                    FailureKind::Internal,
                    format!("the input of `inspect`: {error}"),
                )
            }),
        }
    }
}

#[async_trait]
impl Node for Inspect {
    async fn run(&self, call: NodeCall<'_>) -> Result<Value, NodeError> {
        let deps = &self.0;
        let workspace = &deps.workspace;
        let input = Input::read(call.with)?;
        let entries = workspace
            .repository
            .entries(&workspace.base)
            .await
            .map_err(git)?;
        let language = language::detect(&entries);
        let options = options(deps, &input, language);
        let command = TestCommand::choose(deps, &entries).await?;
        let (root, listed) = (workspace.base_files(), entries.clone());
        let inspected =
            tokio::task::spawn_blocking(move || files::inspect(&root, &listed, &options));
        let inspected = inspected.await.map_err(|error| {
            permanent(
                FailureKind::Internal,
                format!("the inspection broke off: {error}"),
            )
        })?;
        let base_tree = base_tree(deps).await?;
        let before = Baseline {
            deps,
            command,
            tree: &base_tree,
        };
        let (command, before) = before.run(&call.cancel).await?;
        let mut tests = command.to_json();
        tests["before"] = json!(before);
        Ok(json!({
            "workspace": {
                "base_sha": workspace.base,
                "language": language.map(language::Language::name),
                "structure": inspected.structure,
                "structure_excluded": inspected.excluded,
                "structure_left_out": inspected.left_out,
            },
            "tests": tests,
            "configuration": {
                "without_effect": ineffective::without_effect(&deps.config, &deps.agent_type, &deps.tests),
                "misnamed": ineffective::misnamed(&entries),
            },
        }))
    }
}

fn options(deps: &NodeDeps, input: &Input, language: Option<language::Language>) -> Options {
    let extensions = input
        .allowed_extensions
        .clone()
        .unwrap_or_else(|| language::extensions(language));
    Options {
        preview_lines: input.preview_lines,
        max_bytes: input.max_bytes,
        extensions: extensions
            .iter()
            .map(|extension| extension.trim_start_matches('.').to_lowercase())
            .collect(),
        request: format!("{}\n{}", deps.task.title, deps.task.body),
        target_files: deps.task.target_files.clone(),
    }
}

async fn base_tree(deps: &NodeDeps) -> Result<ObjectId, NodeError> {
    let workspace = &deps.workspace;
    let revision = format!("{}^{{tree}}", workspace.base);
    let tree = workspace.repository.resolve(&revision).await.map_err(git)?;
    tree.ok_or_else(|| {
        let message = format!("the commit {} has no tree", workspace.base);
        permanent(FailureKind::RepositoryUnusable, message)
    })
}

/// The name of a file without its folders.
fn file_name(entry: &Entry) -> &str {
    entry.path.rsplit('/').next().unwrap_or(&entry.path)
}

#[cfg(test)]
mod tests;
