//! `run`: a program of the allow-list, in the sandbox, without a network.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::cap::Keep;
use super::{Answer, Call, Definition, Failed, Tools, as_data};
use crate::draft::DraftError;
use crate::process::{Finished, SpawnError};
use crate::sandbox::{Ran, Run, SandboxError, test_environment};

/// How much of the end of each output is kept.
const OUTPUT_CAP: usize = 1 << 20;
/// Longest that a program may take.
const LONGEST: u64 = 600;
const USUAL: u64 = 120;

/// The arguments of `run`, as its schema has them.
#[derive(Debug, Deserialize)]
struct Arguments {
    program: String,
    #[serde(default, rename = "arguments")]
    words: Vec<String>,
    timeout_seconds: Option<u64>,
}

pub(super) fn definition() -> Definition {
    Definition {
        name: "run",
        description: "Runs a program in the repository's root, without a shell and without a \
                      network, and shows its exit code and output. What it writes stays. Programs: \
                      test runners, interpreters, compilers and build tools, and executable files of \
                      the repository.",
        parameters: json!({
            "type": "object",
            "properties": {
                "program": {"type": "string", "minLength": 1},
                "arguments": {
                    "type": "array", "maxItems": 200, "items": {"type": "string"},
                    "description": "Each argument by itself; `&&`, `|` and `>` mean nothing",
                },
                "timeout_seconds": {"type": "integer", "minimum": 1, "maximum": LONGEST, "description": "120 by default"},
            },
            "required": ["program"],
            "additionalProperties": false,
        }),
    }
}

pub(super) async fn run(tools: &mut Tools<'_>, call: Call<'_>) -> Result<Answer, Failed> {
    let arguments: Arguments = call.read()?;
    let mut command = vec![arguments.program];
    command.extend(arguments.words);
    let timeout = Duration::from_secs(arguments.timeout_seconds.unwrap_or(USUAL));
    let scope = &tools.scope;
    let cwd = scope.workspace.layout.repo_clone();
    let run = Run {
        env: test_environment(),
        over: scope.workspace.layers(),
        shown: scope.workspace.borrowed_objects().await,
        timeout,
        output_cap: OUTPUT_CAP,
        on_line: Some(scope.on_line.clone()),
        ..Run::new(&command, &cwd, scope.private)
    };
    let ran = scope.sandbox.run(run, scope.cancel).await;
    let ran = ran.map_err(failed)?;
    tools.settle().await?;
    let title = ended(&command, &ran, timeout);
    let text = tools
        .outputs
        .show(output(&ran.finished), call.room, Keep::Failures);
    Ok(Answer::new(format!("{title}{}", as_data(&text))))
}

/// How a run ended, in a line.
pub(super) fn ended(command: &[String], ran: &Ran, timeout: Duration) -> String {
    let finished = &ran.finished;
    let how = match (finished.returncode, finished.signal) {
        _ if finished.timed_out => format!("was ended after its {} s", timeout.as_secs()),
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
    };
    let mut line = format!(
        "`{}` {how} after {:.1} s\n",
        command.join(" "),
        finished.duration.as_secs_f64()
    );
    if let Some(limit) = &ran.exceeded {
        let _ = writeln!(line, "it met a limit: {limit}");
    }
    line
}

/// Both outputs; each begins with what was dropped of it.
pub(super) fn output(finished: &Finished) -> String {
    let (stdout, stderr) = (finished.stdout_text(), finished.stderr_text());
    match (stdout.is_empty(), stderr.is_empty()) {
        (true, true) => "[no output]\n".to_owned(),
        (false, true) => stdout,
        (true, false) => format!("[standard error]\n{stderr}"),
        (false, false) => format!("{}\n[standard error]\n{stderr}", stdout.trim_end()),
    }
}

/// What the model can do something about is told to it; the rest ends the draft.
pub(super) fn failed(error: SandboxError) -> Failed {
    match error {
        SandboxError::NotRun(SpawnError::Cancelled) => Failed::Ended(DraftError::Interrupted),
        SandboxError::NotAllowed { .. } | SandboxError::NotRun(SpawnError::NotFound { .. }) => {
            Failed::Refused(error.to_string())
        }
        SandboxError::Left { .. } => Failed::Ended(DraftError::Left(error)),
        other => Failed::Ended(DraftError::NotRun(other)),
    }
}
