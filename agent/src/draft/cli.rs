//! A command of the operator's choice edits the work tree.
//!
//! It is told what to do by files beside the work tree and by variables:
//! `PATCHFLEET_REQUEST_FILE` (Markdown; the same as JSON stands beside it),
//! `PATCHFLEET_REQUEST` (the Markdown itself, cut where a variable ends),
//! `PATCHFLEET_TASK_ID`, `PATCHFLEET_ROUND`, and from the second round on
//! `PATCHFLEET_FINDINGS_FILE` (JSON). The first round begins at the base, a later one with what
//! was applied last. The work tree is at its base again afterwards, whatever happened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DraftError, DraftRequest, DraftSurroundings, environment};
use crate::git::GitError;
use crate::process::SpawnError;
use crate::sandbox::{Run, Sandbox, SandboxError};
use crate::workspace::Workspace;

/// Longest text that fits into a variable on Linux, with room to spare.
const VARIABLE_CAP: usize = 96 * 1024;
/// How much of the command's output a failure tells.
const TAIL: usize = 2000;

pub(super) struct CliDraft<'a> {
    pub(super) command: &'a [String],
    pub(super) timeout: Duration,
    pub(super) pass_env: &'a [String],
}

impl CliDraft<'_> {
    pub(super) async fn draft(
        &self,
        request: &DraftRequest,
        surroundings: DraftSurroundings<'_>,
    ) -> Result<String, DraftError> {
        let workspace = surroundings.workspace;
        let repository = &workspace.repository;
        let start = repository
            .write_tree(&workspace.base, &surroundings.applied)
            .await?;
        workspace.check_out(&start).await?;
        let result = self.edit(request, &surroundings).await;
        let reset = workspace.check_out(&workspace.base).await;
        let diff = result?;
        reset?;
        Ok(diff)
    }

    async fn edit(
        &self,
        request: &DraftRequest,
        surroundings: &DraftSurroundings<'_>,
    ) -> Result<String, DraftError> {
        let workspace = surroundings.workspace;
        let mut env = written(&workspace.layout.implementation(), request).await?;
        env.extend(self.passed());
        let run = Run {
            command: self.command,
            cwd: &workspace.layout.repo_clone(),
            private: &workspace.layout.draft_private(),
            env,
            timeout: self.timeout,
            output_cap: 64 * 1024,
            on_line: Some(surroundings.on_line.clone()),
        };
        let finished = Sandbox::default()
            .run_trusted(run, &surroundings.cancel)
            .await;
        let finished = finished.map_err(|error| match error {
            SandboxError::NotRun(SpawnError::Cancelled) => DraftError::Interrupted,
            other => DraftError::NotRun(other),
        })?;
        if finished.timed_out {
            return Err(DraftError::TimedOut(self.timeout));
        }
        if !finished.succeeded() {
            let how = match (finished.returncode, finished.signal) {
                (Some(code), _) => format!("exit code {code}"),
                (None, signal) => format!("signal {}", signal.unwrap_or_default()),
            };
            let said = format!("{}{}", finished.stdout_text(), finished.stderr_text());
            let tail = last_chars(&said, TAIL);
            return Err(DraftError::CommandFailed { how, tail });
        }
        difference(workspace).await
    }

    fn passed(&self) -> impl Iterator<Item = (String, String)> {
        let names = self.pass_env.iter();
        names.filter_map(|name| {
            let value = std::env::var(name).ok()?;
            if environment::may_be_secret(name, &value) {
                patchfleet_guard::register_secret(&value);
            }
            Some((name.clone(), value))
        })
    }
}

async fn difference(workspace: &Workspace) -> Result<String, DraftError> {
    let repository = &workspace.repository;
    let tree = repository.snapshot().await?;
    let base = format!("{}^{{tree}}", workspace.base);
    let base = repository.resolve(&base).await?;
    let base = base.ok_or_else(|| GitError::other("git rev-parse", "the base has no tree"))?;
    let diff = repository.diff(&base, &tree).await?;
    String::from_utf8(diff).map_err(|_| DraftError::NotText)
}

/// Writes the request beside the work tree; the variables that tell of it.
async fn written(
    folder: &Path,
    request: &DraftRequest,
) -> Result<Vec<(String, String)>, DraftError> {
    let markdown = request.to_markdown();
    let path = write(folder.join("request.md"), markdown.as_bytes()).await?;
    let json = serde_json::to_vec_pretty(request).unwrap_or_default();
    write(folder.join("request.json"), &json).await?;
    let mut env = vec![
        ("PATCHFLEET_REQUEST_FILE".to_owned(), text(&path)),
        ("PATCHFLEET_REQUEST".to_owned(), for_variable(&markdown)),
        ("PATCHFLEET_TASK_ID".to_owned(), request.task.to_string()),
        ("PATCHFLEET_ROUND".to_owned(), request.round.to_string()),
    ];
    if request.round > 1 {
        let json = serde_json::to_vec_pretty(&request.findings).unwrap_or_default();
        let path = write(folder.join("findings.json"), &json).await?;
        env.push(("PATCHFLEET_FINDINGS_FILE".to_owned(), text(&path)));
    }
    Ok(env)
}

async fn write(path: PathBuf, bytes: &[u8]) -> Result<PathBuf, DraftError> {
    match tokio::fs::write(&path, bytes).await {
        Ok(()) => Ok(path),
        Err(source) => Err(DraftError::File { path, source }),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// No zero bytes, which no variable can hold, and not too long.
fn for_variable(text: &str) -> String {
    let mut end = text.len().min(VARIABLE_CAP);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].replace('\0', "")
}

fn last_chars(text: &str, count: usize) -> String {
    let text = text.trim_end();
    let skipped = text.chars().count().saturating_sub(count);
    text.chars().skip(skipped).collect()
}
