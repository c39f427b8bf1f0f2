//! Containers of tests: a small image of the host's own files, and who has one.

use std::path::Path;
use std::process::Command;

/// The label of containers that an agent made; its value names the agent's process.
const LABEL: &str = "patchfleet.mark";

/// The name of the image, which is made the first time.
///
/// # Errors
/// Why there is none: the host has no Podman, or it makes no images.
pub fn image() -> Result<String, String> {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("image/make.sh");
    said(&mut command(script))
}

/// The ids of containers that a process made and that are there, running or not.
///
/// # Errors
/// When Podman does not say.
pub fn containers_of(pid: u32) -> Result<Vec<String>, String> {
    let format = format!("{{{{.ID}}}} {{{{index .Labels \"{LABEL}\"}}}}");
    let filter = format!("label={LABEL}");
    let mut list = command("podman");
    list.args([
        "ps",
        "--all",
        "--no-trunc",
        "--filter",
        &filter,
        "--format",
        &format,
    ]);
    let text = said(&mut list)?;
    let lines = text.lines().filter_map(|line| line.split_once(' '));
    // `<namespace>:<pid>:<start>:<serial>`
    let pid = pid.to_string();
    let own = lines.filter(|(_, mark)| mark.split(':').nth(1) == Some(&pid));
    Ok(own.map(|(id, _)| id.to_owned()).collect())
}

/// Runs Podman.
///
/// # Errors
/// What it said when it failed.
pub fn podman(args: &[&str]) -> Result<String, String> {
    said(command("podman").args(args))
}

fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the test kit's own commands")]
    let command = Command::new(program);
    command
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    Err(format!("{}: {}", output.status, errors.trim()))
}
