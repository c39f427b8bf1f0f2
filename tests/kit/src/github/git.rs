//! The one door through which the kit runs git.
//!
//! Every command has a clean environment: no configuration of the host, no
//! prompt, a fixed author, so that a test behaves alike on every machine. The
//! host's variables reach git through `PATH` alone.

use std::ffi::OsStr;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::LazyLock;

use anyhow::{Context as _, Result, bail};
use chrono::{DateTime, Utc};
use regex::Regex;

/// Who the simulator commits as.
#[derive(Debug, Clone)]
pub struct Signature {
    /// Name of the author and committer.
    pub name: String,
    /// Address of the author and committer.
    pub email: String,
    /// When.
    pub at: DateTime<Utc>,
}

impl Signature {
    /// The signature of an account, with GitHub's private address.
    pub fn of(login: &str, at: DateTime<Utc>) -> Self {
        Self {
            name: login.to_owned(),
            email: format!("{login}@users.noreply.github.com"),
            at,
        }
    }
}

/// Runs `git ARGS` in `folder` and returns its standard output, trimmed.
///
/// Also for tests: it is git as the simulator's users would run it.
pub fn run<A: AsRef<OsStr>>(folder: &Path, args: &[A]) -> Result<String> {
    let text =
        String::from_utf8(run_raw(folder, args)?).context("git answered in a wrong encoding")?;
    Ok(text.trim_end().to_owned())
}

/// Runs `git ARGS` in `folder` and returns its standard output as it is.
pub fn run_raw<A: AsRef<OsStr>>(folder: &Path, args: &[A]) -> Result<Vec<u8>> {
    let output = command(folder, args)
        .output()
        .context("git could not be started; is it installed?")?;
    stdout_of(args, output)
}

/// Whether `git ARGS` ends with exit code 0; code 1 means no, others fail.
pub fn test<A: AsRef<OsStr>>(folder: &Path, args: &[A]) -> Result<bool> {
    let output = command(folder, args)
        .output()
        .context("git could not be started; is it installed?")?;
    match output.status.code() {
        Some(0) => Ok(true),
        Some(1) => Ok(false),
        _ => stdout_of(args, output).map(|_| true),
    }
}

/// Runs `git ARGS` in `folder` as `author`, with `input` on standard input.
pub(crate) fn run_as<A: AsRef<OsStr>>(
    folder: &Path,
    author: &Signature,
    args: &[A],
    input: &[u8],
) -> Result<String> {
    let mut command = command(folder, args);
    let at = format!("{} +0000", author.at.timestamp());
    for role in ["AUTHOR", "COMMITTER"] {
        command
            .env(format!("GIT_{role}_NAME"), &author.name)
            .env(format!("GIT_{role}_EMAIL"), &author.email)
            .env(format!("GIT_{role}_DATE"), &at);
    }
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("git could not be started; is it installed?")?;
    let mut stdin = child.stdin.take().context("git has no standard input")?;
    stdin.write_all(input).context("git closed its input")?;
    drop(stdin);
    let output = child.wait_with_output().context("git did not end")?;
    let text = String::from_utf8(stdout_of(args, output)?)?;
    Ok(text.trim_end().to_owned())
}

/// `git http-backend` with an empty environment but what git itself needs.
pub(crate) fn http_backend() -> tokio::process::Command {
    let mut command = tokio::process::Command::from(bare_command());
    command
        .arg("http-backend")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn command<A: AsRef<OsStr>>(folder: &Path, args: &[A]) -> Command {
    let mut command = bare_command();
    command.current_dir(folder).args(args).stdin(Stdio::null());
    command
}

#[expect(
    clippy::disallowed_methods,
    reason = "the kit's one door to git; environment cleaned here"
)]
fn bare_command() -> Command {
    let mut command = Command::new("git");
    command
        .env_clear()
        .env("PATH", std::env::var_os("PATH").unwrap_or_default())
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_CONFIG_GLOBAL", "/dev/null")
        .env("GIT_TERMINAL_PROMPT", "0")
        .env("GIT_AUTHOR_NAME", "Simulator")
        .env("GIT_AUTHOR_EMAIL", "simulator@example.com")
        .env("GIT_COMMITTER_NAME", "Simulator")
        .env("GIT_COMMITTER_EMAIL", "simulator@example.com")
        .env("LC_ALL", "C.UTF-8");
    command
}

fn stdout_of<A: AsRef<OsStr>>(args: &[A], output: Output) -> Result<Vec<u8>> {
    if output.status.success() {
        return Ok(output.stdout);
    }
    let words: Vec<_> = args
        .iter()
        .map(|word| word.as_ref().to_string_lossy())
        .collect();
    let complaint = String::from_utf8_lossy(&output.stderr);
    bail!(
        "git {} ended with {}: {}",
        without_credentials(&words.join(" ")),
        output.status,
        without_credentials(complaint.trim())
    )
}

/// Addresses may carry a token before the host; messages may not.
fn without_credentials(text: &str) -> String {
    static USER_INFO: LazyLock<Regex> =
        LazyLock::new(|| Regex::new(r"://[^/@\s]+@").expect("a fixed pattern"));
    USER_INFO.replace_all(text, "://***@").into_owned()
}
