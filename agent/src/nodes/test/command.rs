//! The test commands of a task: who chose them, and one run of them all.

use patchfleet_flow::{Context, NodeError};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::results::{PartKind, TestPart};
use super::run::{OUTPUT_CAP, TestRun};
use super::{TestResults, detect, node_error};
use crate::git::{Entry, ObjectId};
use crate::nodes::NodeDeps;
use crate::nodes::context::{git, optional};

/// Who chose the commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// The operator, so that the program need not be on the list of programs.
    Operator,
    /// The repository's configuration: its commands build on each other, up to the first that fails.
    Repository,
    /// Nobody: the files tell them, one for each language or folder. Each has a clean work tree, and
    /// all are run.
    Detected,
}

/// Tests that the repository has as well, and that are not run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::nodes) struct LeftOut {
    /// The command that would run them.
    pub(in crate::nodes) command: String,
    /// Why they are not run.
    pub(in crate::nodes) reason: String,
}

/// The test commands of a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::nodes) struct TestCommand {
    /// Programs with their arguments, in the order of their runs; empty when there are no tests.
    pub(super) commands: Vec<Vec<String>>,
    pub(super) origin: Origin,
    /// Tests that are not run.
    pub(super) left_out: Vec<LeftOut>,
}

impl LeftOut {
    pub(super) fn new(command: &[String], reason: impl Into<String>) -> Self {
        Self {
            command: command.join(" "),
            reason: reason.into(),
        }
    }
}

impl TestCommand {
    fn of_operator(words: Vec<String>) -> Self {
        Self {
            commands: vec![words],
            origin: Origin::Operator,
            left_out: Vec::new(),
        }
    }

    /// The operator's, else the repository's, else what its files tell.
    pub(in crate::nodes) async fn choose(
        deps: &NodeDeps,
        entries: &[Entry],
    ) -> Result<Self, NodeError> {
        if let Some(words) = &deps.tests.command {
            return Ok(Self::of_operator(words.clone()));
        }
        if let Some(commands) = &deps.config.test {
            return Ok(Self {
                commands: commands.clone(),
                origin: Origin::Repository,
                left_out: Vec::new(),
            });
        }
        let found = detect::commands(&deps.workspace, entries).await;
        let found = found.map_err(git)?;
        Ok(Self {
            commands: found.commands,
            origin: Origin::Detected,
            left_out: found.left_out,
        })
    }

    /// Those that the tests before the change ran with, as the context has them. An agent's own
    /// operator has the word for that agent: what another one's chose is a command of another host.
    pub(in crate::nodes) async fn chosen(
        deps: &NodeDeps,
        ctx: &Context,
    ) -> Result<Self, NodeError> {
        let own = deps.tests.command.as_ref();
        let origin: Option<Origin> = optional(ctx, "tests.origin")?;
        match (origin, own) {
            (Some(origin @ (Origin::Repository | Origin::Detected)), _) => Ok(Self {
                commands: optional(ctx, "tests.commands")?.unwrap_or_default(),
                origin,
                left_out: optional(ctx, "tests.left_out")?.unwrap_or_default(),
            }),
            (_, Some(own)) => Ok(Self::of_operator(own.clone())),
            // Of another operator, or of an agent of an earlier release.
            (_, None) => {
                let workspace = &deps.workspace;
                let entries = workspace.repository.entries(&workspace.base).await;
                Self::choose(deps, &entries.map_err(git)?).await
            }
        }
    }

    /// All commands as the words of one, as people read them.
    pub(in crate::nodes) fn words(&self) -> Vec<String> {
        self.commands.join(&"&&".to_owned())
    }

    /// What [`Self::chosen`] reads, below `tests` of a node's output; `command` is for people.
    pub(in crate::nodes) fn to_json(&self) -> Value {
        json!({
            "command": self.words(),
            "commands": self.commands,
            "origin": self.origin,
            "left_out": self.left_out,
        })
    }

    /// Checks the tree out and runs the tests; `None` without a command.
    pub(in crate::nodes) async fn run(
        &self,
        deps: &NodeDeps,
        tree: &ObjectId,
        label: &str,
        cancel: &CancellationToken,
    ) -> Result<Option<TestResults>, NodeError> {
        let mut parts = Vec::with_capacity(self.commands.len());
        let mut run = self.run_of(deps).await?;
        let limit = run.timeout;
        let deadline = Instant::now() + limit;
        check_out(deps, tree).await?;
        for (at, words) in self.commands.iter().enumerate() {
            run.timeout = match self.origin {
                // Each language has the time that one alone would have.
                Origin::Detected => limit,
                Origin::Operator | Origin::Repository => {
                    deadline.saturating_duration_since(Instant::now())
                }
            };
            if at > 0 && self.origin == Origin::Detected {
                check_out(deps, tree).await?;
            }
            let results = self.run_one(deps, (tree, words), &run, cancel).await?;
            let failed = results.failed();
            parts.push((words.clone(), results));
            if failed && self.origin != Origin::Detected {
                break;
            }
        }
        let Some(results) = self.together(parts) else {
            return Ok(None);
        };
        results.keep(&deps.workspace.layout.tests(), label).await;
        Ok(Some(results))
    }

    /// Runs one command in the work tree as it lies there.
    async fn run_one(
        &self,
        deps: &NodeDeps,
        (tree, words): (&ObjectId, &[String]),
        run: &TestRun,
        cancel: &CancellationToken,
    ) -> Result<TestResults, NodeError> {
        deps.log.line(&format!("$ {}", words.join(" ")));
        let private = deps.workspace.layout.tests();
        let installed = deps.workspace.put_dependencies(&private).await;
        installed.map_err(git)?;
        let on_line = deps.log.for_output();
        let ran = run.run(words, (&deps.workspace, &private), on_line, cancel);
        let ran = ran.await;
        Ok(TestResults::new(ran.map_err(node_error)?, tree.clone()))
    }

    /// How they are run on this agent.
    pub(in crate::nodes) async fn run_of(&self, deps: &NodeDeps) -> Result<TestRun, NodeError> {
        let is_python = |words: &Vec<String>| words.first().is_some_and(|it| it == "python3");
        let may_have = self.origin == Origin::Detected && self.commands.iter().any(is_python);
        let has_source_folder = if may_have {
            let workspace = &deps.workspace;
            let entries = workspace.repository.entries(&workspace.base).await;
            detect::has_source_folder(&entries.map_err(git)?)
        } else {
            false
        };
        let timeout = deps.tests.timeout;
        Ok(TestRun {
            commands: self.commands.clone(),
            origin: self.origin,
            has_source_folder,
            timeout: timeout.unwrap_or_else(|| deps.config.test_timeout()),
            sandbox: deps.tests.sandbox.clone(),
        })
    }

    /// The results of all commands as one, which names the parts where there are several.
    pub(super) fn together(
        &self,
        mut parts: Vec<(Vec<String>, TestResults)>,
    ) -> Option<TestResults> {
        if parts.len() < 2 {
            return parts.pop().map(|(_, results)| results);
        }
        let kind = match self.origin {
            Origin::Detected => PartKind::Tests,
            Origin::Operator | Origin::Repository => PartKind::Step,
        };
        let room = 2 * OUTPUT_CAP / parts.len();
        let named = parts.iter().map(|(words, results)| TestPart {
            command: words.clone(),
            kind,
            ..TestPart::of(results)
        });
        let named: Vec<_> = named.collect();
        TestResults::together(parts, named, room)
    }
}

async fn check_out(deps: &NodeDeps, tree: &ObjectId) -> Result<(), NodeError> {
    let checked_out = deps.workspace.check_out_committed(tree).await;
    checked_out.map_err(git)
}
