//! The programs themselves, as `make setup` and `make command-lines` install them.

use std::path::{Path, PathBuf};

use crate::world::kit;

/// The oldest Node that runs Gemini CLI.
const NODE: u32 = 20;

/// A program of an installed package of npm, for this machine; `MACHINE` stands for its processor.
pub(super) fn binary(package: &str, file: &str) -> Option<PathBuf> {
    let (short, long) = match std::env::consts::ARCH {
        "x86_64" => ("x64", "x86_64"),
        "aarch64" => ("arm64", "aarch64"),
        _ => return skipped("there is none for this machine"),
    };
    let package = package.replace("MACHINE", short);
    file_of(&package, &file.replace("MACHINE", long))
}

/// Gemini CLI, which Node runs.
pub(super) fn gemini() -> Option<PathBuf> {
    let program = file_of("@google/gemini-cli", "bundle/gemini.js")?;
    let said = crate::world::shell("node --version", Path::new("/"));
    let said = String::from_utf8(said.stdout).unwrap();
    let major = said.trim().trim_start_matches('v').split('.').next();
    match major.and_then(|it| it.parse::<u32>().ok()) {
        Some(major) if major >= NODE => Some(program),
        _ => skipped(&format!(
            "Gemini CLI needs Node {NODE} or newer, and here is `{}`",
            said.trim()
        )),
    }
}

/// The folder of aider and all that it imports.
pub(super) fn aider() -> Option<PathBuf> {
    let folder = kit("../bench/peers/agents").join("python");
    match folder.canonicalize() {
        Ok(folder) => Some(folder),
        Err(_) => skipped("aider is not installed: `make command-lines` does it, and runs this"),
    }
}

fn file_of(package: &str, file: &str) -> Option<PathBuf> {
    let program = kit("command-lines")
        .join("node_modules")
        .join(package)
        .join(file);
    match program.canonicalize() {
        Ok(program) => Some(program),
        Err(_) => skipped(&format!(
            "{package} is not installed: there is none for this machine, or the npm registry was away when \
             `make setup` ran"
        )),
    }
}

#[expect(
    clippy::print_stdout,
    reason = "whoever reads the test's output has to know"
)]
fn skipped(why: &str) -> Option<PathBuf> {
    println!("skipped: {why}");
    None
}
