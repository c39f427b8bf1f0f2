//! A look at a sandbox from inside: whether each layer is really there.
//!
//! A library that restricts "as well as it can" may do nothing and say nothing; so what counts is
//! what the kernel says of the process that runs.

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

use crate::process::{find_program, is_executable};

/// Prints what is missing, one line each, and fails when something is. The arguments are paths
/// of the host that must not be seen.
pub(super) fn run(hidden: impl Iterator<Item = OsString>) -> ExitCode {
    let missing = missing(hidden);
    let text = missing.join("\n");
    let told = std::io::Write::write_all(&mut std::io::stdout(), text.as_bytes());
    if missing.is_empty() && told.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

/// Succeeds when a program is on the PATH, or at its absolute path.
pub(super) fn which(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let program = args.next().unwrap_or_default();
    let path = Path::new(&program);
    let is_there = if path.is_absolute() {
        is_executable(path)
    } else {
        path.to_str().and_then(find_program).is_some()
    };
    if is_there {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn missing(hidden: impl Iterator<Item = OsString>) -> Vec<String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        line.map(str::trim).unwrap_or_default().to_owned()
    };
    let none = |name: &str| u64::from_str_radix(&field(name), 16) == Ok(0);
    let facts = [
        (field("NoNewPrivs:") == "1", "new privileges can be had"),
        (field("Seccomp:") == "2", "system calls are not filtered"),
        (none("CapEff:") && none("CapBnd:"), "it has capabilities"),
        (
            only_loopback(),
            "it sees network interfaces besides the loopback",
        ),
        (std::process::id() < 64, "it sees processes of the host"),
        (
            fs::write("/workspace/.canary", "x").is_ok(),
            "the work tree can't be written",
        ),
        (
            // Which is in memory. Runtimes give it the rights that an image's has.
            fs::write("/tmp/.canary", "x").is_ok(),
            "`/tmp` can't be written",
        ),
        (
            fs::write("/usr/.canary", "x").is_err(),
            "the system can be written",
        ),
    ];
    let missing = facts.into_iter().filter(|(holds, _)| !holds);
    let missing = missing.map(|(_, what)| what.to_owned());
    let seen = hidden.filter(|path| Path::new(path).exists());
    let seen = seen.map(|path| format!("it sees {}", path.display()));
    missing.chain(seen).collect()
}

fn only_loopback() -> bool {
    let interfaces = fs::read_to_string("/proc/self/net/dev").unwrap_or_default();
    let mut names = interfaces.lines().filter_map(|line| line.split_once(':'));
    names.all(|(name, _)| name.trim() == "lo")
}
