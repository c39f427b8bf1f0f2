//! The tests before any change: what they say, and which of them can be run at all. Both are known
//! before a draft is paid for.

use patchfleet_domain::FailureKind;
use patchfleet_flow::NodeError;
use tokio_util::sync::CancellationToken;

use super::command::{LeftOut, Origin, TestCommand};
use super::{TestResults, none};
use crate::git::ObjectId;
use crate::nodes::NodeDeps;
use crate::nodes::context::{git, permanent};

/// The run of the tests before any change.
pub(in crate::nodes) struct Baseline<'a> {
    pub(in crate::nodes) deps: &'a NodeDeps,
    pub(in crate::nodes) command: TestCommand,
    pub(in crate::nodes) tree: &'a ObjectId,
}

impl Baseline<'_> {
    /// Runs the tests; gives the commands that later runs are to have, too. Of several languages that
    /// the files tell, those whose tools are not here are left out and named; where that is the one
    /// with most of the code, nothing would be tested that matters, and the task ends.
    pub(in crate::nodes) async fn run(
        mut self,
        cancel: &CancellationToken,
    ) -> Result<(TestCommand, Option<TestResults>), NodeError> {
        let ran = self.try_all(cancel).await;
        // What the tests left behind is not for the draft to see.
        let workspace = &self.deps.workspace;
        workspace.check_out(self.tree).await.map_err(git)?;
        Ok((self.command, ran?))
    }

    async fn try_all(
        &mut self,
        cancel: &CancellationToken,
    ) -> Result<Option<TestResults>, NodeError> {
        if self.command.origin != Origin::Detected || self.command.commands.len() < 2 {
            let results = self.command.run(self.deps, self.tree, "before", cancel);
            let results = results.await?;
            if let Some(results) = &results {
                self.refuse_missing(results)?;
            }
            return Ok(results);
        }
        let mut ran = Vec::new();
        for (at, words) in std::mem::take(&mut self.command.commands)
            .into_iter()
            .enumerate()
        {
            let alone = TestCommand {
                commands: vec![words.clone()],
                ..self.command.clone()
            };
            let result = alone.run(self.deps, self.tree, "before", cancel).await;
            let invalid = FailureKind::TestCommandInvalid.as_str();
            let (results, missing) = match result {
                Ok(results) => {
                    let missing = results.as_ref().and_then(none::missing_program);
                    (results, missing.map(|program| not_installed(&program)))
                }
                Err(error) if error.code == invalid => (None, Some(error.message.clone())),
                Err(error) => return Err(error),
            };
            match (results, missing) {
                (_, Some(reason)) if at > 0 => {
                    let left_out = LeftOut::new(&words, reason);
                    let line = format!("`{}` is not run: {}", left_out.command, left_out.reason);
                    self.deps.log.line(&line);
                    self.command.left_out.push(left_out);
                }
                (_, Some(reason)) => {
                    let command = words.join(" ");
                    return Err(refusal(&command, &reason));
                }
                (results, None) => {
                    self.command.commands.push(words.clone());
                    ran.extend(results.map(|results| (words, results)));
                }
            }
        }
        let results = self.command.together(ran);
        if let Some(results) = &results {
            results
                .keep(&self.deps.workspace.layout.tests(), "before")
                .await;
        }
        Ok(results)
    }

    /// Ends a task whose tests need a program that is not there: no draft mends that, and each one
    /// is paid for.
    fn refuse_missing(&self, results: &TestResults) -> Result<(), NodeError> {
        match none::missing_program(results) {
            None => Ok(()),
            Some(program) => {
                let command = self.command.words().join(" ");
                Err(refusal(&command, &not_installed(&program)))
            }
        }
    }
}

fn not_installed(program: &str) -> String {
    format!("`{program}` is not installed on the agent's host and not by `setup`")
}

fn refusal(command: &str, reason: &str) -> NodeError {
    let message = format!(
        "the tests can't be run: `{command}` has no result, because {reason}; add what it needs to the \
         dependencies that `setup` in `.patchfleet.yaml` installs, or install it on the host"
    );
    permanent(FailureKind::TestCommandInvalid, message)
}
