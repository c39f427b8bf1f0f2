//! `test`: the change in a clean work tree, and what the tests say about exactly that tree.
//!
//! The tree is written from the base and the context, checked out, and only then tested; its hash
//! stands in the result. The same code runs the tests once before the change.

pub(super) mod count;
mod detect;
pub(super) mod names;
mod none;
pub(crate) mod properties;
mod results;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_domain::FailureKind;
use patchfleet_flow::{Context, Node, NodeCall, NodeError};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

pub use results::TestResults;

use super::NodeDeps;
use super::context::{git, optional, permanent};
use super::patch;
use crate::git::{Entry, ObjectId};
use crate::process::{OnLine, SpawnError};
use crate::repository_config::RepositoryConfig;
use crate::sandbox::{Ran, Run, Sandbox, SandboxError, test_environment};
use crate::workspace::Workspace;

/// How much of the end of each output is kept.
const OUTPUT_CAP: usize = 64 * 1024;

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
        let label = format!("round-{}", call.visit);
        let results = command.run(deps, &tree, &label, &call.cancel).await?;
        let mut tests = command.to_json();
        tests["results"] = json!(results);
        Ok(json!({ "tests": tests }))
    }
}

/// A test command, and who chose it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct TestCommand {
    /// The program and its arguments; empty when there are no tests.
    pub(super) words: Vec<String>,
    /// The operator chose it, so that it need not be on the list of programs.
    by_operator: bool,
    /// Test commands that the repository's files tell of as well, and that are not run.
    pub(super) others: Vec<String>,
}

impl TestCommand {
    const fn of_operator(words: Vec<String>) -> Self {
        Self {
            words,
            by_operator: true,
            others: Vec::new(),
        }
    }
}

impl TestCommand {
    /// The operator's, else the repository's, else what its files tell.
    pub(super) async fn choose(deps: &NodeDeps, entries: &[Entry]) -> Result<Self, NodeError> {
        if let Some(words) = &deps.tests.command {
            return Ok(Self::of_operator(words.clone()));
        }
        let (words, others) = match &deps.config.test {
            Some(words) => (words.clone(), Vec::new()),
            None => {
                let found = detect::commands(&deps.workspace, entries).await;
                let found = found.map_err(git)?;
                (found.command, found.others)
            }
        };
        Ok(Self {
            words,
            by_operator: false,
            others: others.iter().map(|words| words.join(" ")).collect(),
        })
    }

    /// The one that the tests before the change ran with, as the context has it. An agent's own
    /// operator has the word for that agent: what another one's chose is a command of another host.
    pub(super) async fn chosen(deps: &NodeDeps, ctx: &Context) -> Result<Self, NodeError> {
        let words: Vec<String> = optional(ctx, "tests.command")?.unwrap_or_default();
        let own = deps.tests.command.as_ref();
        let by_operator = optional(ctx, "tests.command_by_operator")?;
        match (by_operator.unwrap_or(own == Some(&words)), own) {
            (false, _) => Ok(Self {
                words,
                by_operator: false,
                others: optional(ctx, "tests.others")?.unwrap_or_default(),
            }),
            (true, Some(own)) => Ok(Self::of_operator(own.clone())),
            (true, None) => {
                let workspace = &deps.workspace;
                let entries = workspace.repository.entries(&workspace.base).await;
                Self::choose(deps, &entries.map_err(git)?).await
            }
        }
    }

    /// What [`Self::chosen`] reads, below `tests` of a node's output.
    pub(super) fn to_json(&self) -> Value {
        json!({
            "command": self.words,
            "command_by_operator": self.by_operator,
            "others": self.others,
        })
    }

    /// Checks the tree out and runs the tests; `None` without a command.
    pub(super) async fn run(
        &self,
        deps: &NodeDeps,
        tree: &ObjectId,
        label: &str,
        cancel: &CancellationToken,
    ) -> Result<Option<TestResults>, NodeError> {
        let layout = &deps.workspace.layout;
        deps.workspace
            .check_out_committed(tree)
            .await
            .map_err(git)?;
        if self.words.is_empty() {
            return Ok(None);
        }
        deps.log.line(&format!("$ {}", self.words.join(" ")));
        let private = layout.tests();
        let installed = deps.workspace.put_dependencies(&private).await;
        installed.map_err(git)?;
        let on_line = deps.log.for_output();
        let run = self.run_of(deps);
        let ran = run.run(&self.words, (&deps.workspace, &private), on_line, cancel);
        let ran = ran.await;
        let results = TestResults::new(ran.map_err(node_error)?, tree.clone());
        results.keep(&layout.tests(), label).await;
        Ok(Some(results))
    }
}

impl TestCommand {
    /// How it is run on this agent.
    pub(super) fn run_of(&self, deps: &NodeDeps) -> TestRun {
        TestRun {
            by_operator: self.by_operator,
            ..TestRun::new(self.words.clone(), &deps.config, &deps.tests)
        }
    }
}

/// The tests of a repository, as they are run in its work tree.
#[derive(Debug, Clone)]
pub(crate) struct TestRun {
    /// The program and its arguments; empty when there are no tests.
    pub(crate) words: Vec<String>,
    by_operator: bool,
    env: Vec<(String, String)>,
    timeout: Duration,
    sandbox: Sandbox,
}

impl TestRun {
    /// A command of the repository.
    pub(crate) fn new(words: Vec<String>, config: &RepositoryConfig, policy: &TestPolicy) -> Self {
        let mut env = test_environment();
        if config.test.is_none() && words.first().is_some_and(|it| it == "python3") {
            // Where the package lies in `src`, and nothing installed it.
            env.push(("PYTHONPATH".to_owned(), "src".to_owned()));
        }
        Self {
            words,
            by_operator: false,
            env,
            timeout: policy.timeout.unwrap_or_else(|| config.test_timeout()),
            sandbox: policy.sandbox.clone(),
        }
    }

    /// How long they may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs the tests in the work tree as it is. The command's program is that of `words`, which
    /// may have more arguments.
    pub(crate) async fn run(
        &self,
        words: &[String],
        (workspace, private): (&Workspace, &Path),
        on_line: OnLine,
        cancel: &CancellationToken,
    ) -> Result<Ran, SandboxError> {
        let cwd = workspace.layout.repo_clone();
        let run = Run {
            env: self.env.clone(),
            over: workspace.layers(),
            shown: workspace.borrowed_objects().await,
            timeout: self.timeout,
            output_cap: OUTPUT_CAP,
            on_line: Some(on_line),
            ..Run::new(words, &cwd, private)
        };
        if self.by_operator {
            self.sandbox.run_trusted(run, cancel).await
        } else {
            self.sandbox.run(run, cancel).await
        }
    }
}

/// The tests before any change.
pub(super) struct Baseline<'a> {
    pub(super) deps: &'a NodeDeps,
    pub(super) command: &'a TestCommand,
    pub(super) tree: &'a ObjectId,
}

impl Baseline<'_> {
    pub(super) async fn run(
        &self,
        cancel: &CancellationToken,
    ) -> Result<Option<TestResults>, NodeError> {
        let results = self
            .command
            .run(self.deps, self.tree, "before", cancel)
            .await?;
        // What the tests left behind is not for the draft to see.
        let workspace = &self.deps.workspace;
        workspace.check_out(self.tree).await.map_err(git)?;
        if let Some(program) = results.as_ref().and_then(none::missing_program) {
            // No draft mends that, and each one is paid for.
            let command = self.command.words.join(" ");
            let message = format!(
                "the tests can't be run: `{command}` needs `{program}`, which is not installed on the \
                 agent's host and not by `setup`; add it to the dependencies that `setup` in \
                 `.patchfleet.yaml` installs, or install it on the host"
            );
            return Err(permanent(FailureKind::TestCommandInvalid, message));
        }
        Ok(results)
    }
}

fn node_error(error: SandboxError) -> NodeError {
    let kind = match &error {
        SandboxError::NotRun(SpawnError::Cancelled) => FailureKind::Interrupted,
        SandboxError::NotAllowed { .. } | SandboxError::NotRun(_) => {
            FailureKind::TestCommandInvalid
        }
        SandboxError::NoFolder { .. } => FailureKind::Internal,
        SandboxError::Plan(_)
        | SandboxError::NotIsolated
        | SandboxError::Left { .. }
        | SandboxError::Broken { .. } => FailureKind::HostFault,
    };
    permanent(kind, format!("the tests can't be run: {error}"))
}
