//! One run of a test command in the work tree as it lies there: by the flow, or by a tool of a model.

use std::path::Path;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::command::Origin;
use crate::process::OnLine;
use crate::sandbox::{Ran, Run, Sandbox, SandboxError, test_environment};
use crate::workspace::Workspace;

/// How much of the end of each output is kept.
pub(super) const OUTPUT_CAP: usize = 64 * 1024;

/// The tests of a repository, as they are run in its work tree.
#[derive(Debug, Clone)]
pub(crate) struct TestRun {
    /// Programs with their arguments; empty when there are no tests.
    pub(crate) commands: Vec<Vec<String>>,
    pub(super) origin: Origin,
    /// Packages of Python lie in `src`, where nothing may have installed them.
    pub(super) has_source_folder: bool,
    pub(super) timeout: Duration,
    pub(super) sandbox: Sandbox,
}

impl TestRun {
    /// A command of the repository.
    #[cfg(test)]
    pub(crate) fn new(
        words: Vec<String>,
        config: &patchfleet_repository::RepositoryConfig,
        policy: &super::TestPolicy,
    ) -> Self {
        Self {
            commands: vec![words],
            origin: Origin::Repository,
            has_source_folder: false,
            timeout: policy.timeout.unwrap_or_else(|| config.test_timeout()),
            sandbox: policy.sandbox.clone(),
        }
    }

    /// How long a command may take.
    pub(crate) const fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Runs a command in the work tree as it is. Its program is that of one of the commands, which may
    /// have more arguments.
    pub(crate) async fn run(
        &self,
        words: &[String],
        (workspace, private): (&Workspace, &Path),
        on_line: OnLine,
        cancel: &CancellationToken,
    ) -> Result<Ran, SandboxError> {
        let cwd = workspace.layout.repo_clone();
        let run = Run {
            env: self.environment(words),
            over: workspace.layers(),
            shown: workspace.borrowed_objects().await,
            timeout: self.timeout,
            output_cap: OUTPUT_CAP,
            on_line: Some(on_line),
            ..Run::new(words, &cwd, private)
        };
        if self.origin == Origin::Operator {
            self.sandbox.run_trusted(run, cancel).await
        } else {
            self.sandbox.run(run, cancel).await
        }
    }

    /// The variables of a run. Only what was detected is given a path: whoever configures a command
    /// says what it needs.
    fn environment(&self, words: &[String]) -> Vec<(String, String)> {
        let mut env = test_environment();
        let is_python = words.first().is_some_and(|it| it == "python3");
        if self.origin == Origin::Detected && is_python && self.has_source_folder {
            env.push(("PYTHONPATH".to_owned(), "src".to_owned()));
        }
        env
    }
}
