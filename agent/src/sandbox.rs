//! Where a repository's own code runs: tests, and commands that draft.
//!
//! What holds: no shell, only programs of an allow-list, a clean environment, a home and a
//! temporary folder of its own, a timeout, an output cap, limits on file size and open files, and
//! death of all its descendants at the end or with the agent. No credential is in the environment, because none
//! is put there.
//!
//! Absent, and not pretended: isolation. The child may use the network and read what the agent's
//! user may read. Run agents under a user that owns nothing else until isolation is there.

pub mod egress;
pub mod setup;

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::process::{Finished, Limits, OnLine, Spawn, SpawnError};

/// Programs that repositories may have run, besides files of the repository itself.
const PROGRAMS: &[&str] = &[
    "pytest", "python", "python3", "tox", "nox", "uv", "poetry", "cargo", "npm", "npx", "node",
    "pnpm", "yarn", "bun", "deno", "go", "make", "just", "ctest", "cmake", "ninja", "meson",
    "bazel", "mvn", "gradle", "ruby", "bundle", "rake", "rspec", "php", "composer", "phpunit",
    "dotnet", "swift", "mix", "stack", "cabal", "zig", "dart", "flutter",
];

/// The rules for children that run a repository's code.
#[derive(Debug, Clone)]
pub struct Sandbox {
    programs: Vec<String>,
    limits: Limits,
}

/// One run.
pub struct Run<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// The work tree.
    pub cwd: &'a Path,
    /// Where its home and temporary folder are made.
    pub private: &'a Path,
    /// Additional variables.
    pub env: Vec<(String, String)>,
    /// How long it may take.
    pub timeout: Duration,
    /// How much of the end of each output is kept.
    pub output_cap: usize,
    /// Has each line reported.
    pub on_line: Option<OnLine>,
}

/// A command did not run.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// It may not.
    #[error(
        "`{program}` is not among the programs that may be run; allowed are files of the repository (`./…`) and: {allowed}"
    )]
    NotAllowed {
        /// As it was asked for.
        program: String,
        /// What is.
        allowed: String,
    },
    /// It can't.
    #[error(transparent)]
    NotRun(#[from] SpawnError),
    /// Its private folders can't be made.
    #[error("the folder {path} can't be made: {source}")]
    NoFolder {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
}

impl Default for Sandbox {
    fn default() -> Self {
        Self {
            programs: PROGRAMS.iter().map(|&name| name.to_owned()).collect(),
            limits: Limits::default(),
        }
    }
}

impl Sandbox {
    /// Also allows these programs, by name or by absolute path.
    pub fn allow(mut self, programs: impl IntoIterator<Item = String>) -> Self {
        self.programs.extend(programs);
        self
    }

    /// Runs a command of a repository: its program has to be allowed.
    ///
    /// # Errors
    /// When it may not or can't be run, or is called off.
    pub async fn run(
        &self,
        run: Run<'_>,
        cancel: &CancellationToken,
    ) -> Result<Finished, SandboxError> {
        let program = run.command.first().map_or("", String::as_str);
        if !self.allows(program) {
            return Err(SandboxError::NotAllowed {
                program: program.to_owned(),
                allowed: self.programs.join(" "),
            });
        }
        self.run_trusted(run, cancel).await
    }

    /// Runs a command that the operator chose, in the same surroundings.
    ///
    /// # Errors
    /// When it can't be run or is called off.
    pub async fn run_trusted(
        &self,
        run: Run<'_>,
        cancel: &CancellationToken,
    ) -> Result<Finished, SandboxError> {
        let (home, tmp) = (run.private.join("home"), run.private.join("tmp"));
        for path in [&home, &tmp] {
            let made = tokio::fs::create_dir_all(path).await;
            made.map_err(|source| SandboxError::NoFolder {
                path: path.clone(),
                source,
            })?;
        }
        let (program, args) = run
            .command
            .split_first()
            .map_or(("", &[][..]), |(program, args)| (program.as_str(), args));
        let mut spawn = Spawn::new(program, run.cwd)
            .args(args.iter().map(String::as_str))
            .env("HOME", home)
            .env("TMPDIR", tmp)
            .env("CI", "true")
            // Read-only folders, as Go makes them for modules, are in the way of who cleans up.
            .env("GOFLAGS", "-modcacherw")
            .timeout(run.timeout)
            .output_cap(run.output_cap)
            .redacted()
            .limits(self.limits);
        for (name, value) in toolchains().into_iter().chain(run.env) {
            spawn = spawn.env(name, value);
        }
        if let Some(on_line) = run.on_line {
            spawn = spawn.on_line(on_line);
        }
        Ok(spawn.run(cancel).await?)
    }

    /// A bare name on the list, or a file below the work tree.
    fn allows(&self, program: &str) -> bool {
        if self.programs.iter().any(|allowed| allowed == program) {
            return true;
        }
        let path = Path::new(program);
        let plain = |part| {
            matches!(
                part,
                std::path::Component::Normal(_) | std::path::Component::CurDir
            )
        };
        program.contains('/') && path.is_relative() && path.components().all(plain)
    }
}

/// `rustup` finds its toolchains through the home that the child does not get.
fn toolchains() -> Vec<(String, String)> {
    let folder = std::env::var("RUSTUP_HOME").ok().or_else(|| {
        let folder = Path::new(&std::env::var_os("HOME")?).join(".rustup");
        folder
            .is_dir()
            .then(|| folder.to_string_lossy().into_owned())
    });
    folder
        .map(|folder| ("RUSTUP_HOME".to_owned(), folder))
        .into_iter()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_listed_programs_and_files_of_the_repository_are_allowed() {
        let sandbox = Sandbox::default().allow(["/opt/tool".to_owned()]);
        for program in ["python3", "./run-tests.sh", "scripts/test", "/opt/tool"] {
            assert!(sandbox.allows(program), "{program} is refused");
        }
        for program in [
            "",
            "sh",
            "bash",
            "curl",
            "/bin/sh",
            "../x",
            "./../x",
            "a/../../x",
            "x",
        ] {
            assert!(!sandbox.allows(program), "{program} is allowed");
        }
    }

    #[tokio::test]
    async fn a_child_has_a_home_of_its_own_and_none_of_the_agents_variables() {
        let private = tempfile::tempdir().unwrap();
        let command = [
            "python3",
            "-c",
            "import os; print(sorted(os.environ), os.environ['HOME'])",
        ];
        let run = Run {
            command: &command.map(str::to_owned),
            cwd: private.path(),
            private: private.path(),
            env: vec![("EXTRA".to_owned(), "1".to_owned())],
            timeout: Duration::from_secs(20),
            output_cap: 4096,
            on_line: None,
        };
        let sandbox = Sandbox::default();
        let finished = sandbox.run(run, &CancellationToken::new()).await.unwrap();
        let output = finished.stdout_text();
        for name in ["EXTRA", "PATH", "LANG", "TMPDIR", "HOME"] {
            assert!(output.contains(name), "{output}");
        }
        for name in ["CARGO", "USER", "NEXTEST"] {
            assert!(!output.contains(&format!("'{name}'")), "{output}");
        }
        let home = private.path().join("home");
        assert!(output.contains(home.to_str().unwrap()), "{output}");
    }
}
