//! Where a repository's own code runs: tests, and commands that draft.
//!
//! What holds: no shell, only programs of an allow-list, a clean environment, a home and a
//! temporary folder of its own, a timeout, an output cap, and death of all its descendants at the
//! end or with the agent. No credential is in the environment, because none is put there.
//!
//! With the backend `namespace` it also sees nothing of the host but an allow-list of files that
//! it may read, and has no network; see `sandbox/stage.rs` for the layers. The list of programs is
//! then a guard against typing errors, not a boundary: whatever runs inside may run anything it sees.
//! `container` is the same with an image for the system, run by Docker or Podman.
//! With `none` it may use the network and read what the agent's user may read.

mod bridge;
mod bubblewrap;
mod canary;
mod container;
mod error;
mod explain;
mod files;
mod fitness;
mod groups;
mod identity;
mod inside;
mod isolation;
mod limits;
mod namespace;
mod outside;
pub(crate) mod overlay;
mod owner;
mod plan;
pub(crate) mod properties;
mod reach;
mod settings;
mod stage;
mod syscalls;
mod system;
mod toolchains;
mod verdict;
mod watch;

pub mod egress;
pub mod setup;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

pub use error::SandboxError;
pub use explain::{Explained, Fact};
pub use fitness::{CantIsolate, Refuser};
pub use isolation::Isolation;
pub use limits::{Exceeded, Limit, Usage};
pub use plan::PlanError;
pub(crate) use plan::WORKSPACE;
pub use reach::{MODEL_URL, Network, Reach};
pub use settings::{Backend, SandboxConfig};
pub(crate) use stage::enter;

use crate::process::{Finished, Input, Limits, Meter, OnLine, Spawn, find_program, is_executable};
use container::Container;
pub use container::ContainerConfig;
use namespace::{Namespace, Shared};
use watch::Written;

/// Programs that repositories may have run, besides files of the repository itself.
const PROGRAMS: &[&str] = &[
    "pytest", "python", "python3", "pip", "pip3", "tox", "nox", "uv", "poetry", "cargo", "npm",
    "npx", "node", "pnpm", "yarn", "bun", "deno", "go", "make", "just", "ctest", "cmake", "ninja",
    "meson", "bazel", "mvn", "gradle", "ruby", "bundle", "rake", "rspec", "php", "composer",
    "phpunit", "dotnet", "swift", "mix", "stack", "cabal", "zig", "dart", "flutter",
];

/// Variables that every child gets.
const COMMON: [(&str, &str); 2] = [
    ("CI", "true"),
    // Read-only folders, as Go makes them for modules, are in the way of who cleans up.
    ("GOFLAGS", "-modcacherw"),
];

/// The rules for children that run a repository's code.
#[derive(Debug, Clone)]
pub struct Sandbox {
    programs: Vec<String>,
    limits: Limits,
    backend: Isolating,
}

/// What isolates.
#[derive(Debug, Clone)]
enum Isolating {
    Namespace(Shared),
    Container(container::Shared),
    Nothing,
}

/// One run.
pub struct Run<'a> {
    /// The program and its arguments.
    pub command: &'a [String],
    /// The work tree.
    pub cwd: &'a Path,
    /// Folders that the work tree lies over, from the top: what it has not, the command sees of them,
    /// and what it changes comes into the work tree (see `overlay.rs`).
    pub over: Vec<PathBuf>,
    /// The folder of the work tree that it begins in; empty for its root.
    pub folder: &'a str,
    /// Where its home and temporary folder are made.
    pub private: &'a Path,
    /// Additional variables.
    pub env: Vec<(String, String)>,
    /// What it reads from its standard input; secret.
    pub input: Vec<u8>,
    /// Files and folders besides the work tree that it may read, at their own paths.
    pub shown: Vec<PathBuf>,
    /// Folders besides the work tree that it may write, at their own paths.
    pub folders: Vec<PathBuf>,
    /// What it reaches of the network.
    pub reach: Reach<'a>,
    /// Counts the processor time of all that runs.
    pub meter: Option<Meter>,
    /// How long it may take.
    pub timeout: Duration,
    /// Ends it when it fires. Unlike a run that is called off it has a result: that of a killed one.
    pub enough: CancellationToken,
    /// How much of the end of each output is kept.
    pub output_cap: usize,
    /// Has each line reported.
    pub on_line: Option<OnLine>,
    /// Has lines of standard error reported apart.
    pub on_error_line: Option<OnLine>,
}

/// How a run ended, and how far it was kept apart.
#[derive(Debug, Clone)]
pub struct Ran {
    /// The command's end and its outputs.
    pub finished: Finished,
    /// How it was isolated.
    pub backend: Backend,
    /// What it used; unknown where nothing counts it.
    pub usage: Usage,
    /// The limit that it met, when that is why it ended as it did.
    pub exceeded: Option<Exceeded>,
    /// Limits that nothing on this host enforces.
    pub limits_not_enforced: Vec<&'static str>,
}

impl<'a> Run<'a> {
    /// A command in a work tree, with the usual limits and nothing else.
    pub fn new(command: &'a [String], cwd: &'a Path, private: &'a Path) -> Self {
        Self {
            command,
            cwd,
            over: Vec::new(),
            folder: "",
            private,
            env: Vec::new(),
            input: Vec::new(),
            shown: Vec::new(),
            folders: Vec::new(),
            reach: Reach::Nothing,
            meter: None,
            timeout: Duration::from_mins(2),
            enough: CancellationToken::new(),
            output_cap: 64 * 1024,
            on_line: None,
            on_error_line: None,
        }
    }

    /// Where its home is made.
    fn home(&self) -> PathBuf {
        self.private.join("home")
    }

    /// What it writes to, on disk and through its processes.
    fn written(&mut self) -> Written {
        let own = [self.cwd.to_owned(), self.home()];
        let folders = own.into_iter().chain(self.folders.iter().cloned());
        Written {
            folders: folders.collect(),
            enough: self.enough.clone(),
            meter: self.meter.get_or_insert_default().clone(),
        }
    }

    /// What every child of the host's own programs gets, isolated or not.
    fn into_spawn(mut self, spawn: Spawn) -> Spawn {
        let common = COMMON.into_iter();
        let mut spawn = common.fold(spawn, |spawn, (name, value)| spawn.env(name, value));
        if let Some(folder) = toolchains::rustup_home() {
            // `rustup` finds its toolchains through the home that the child does not get.
            spawn = spawn.env("RUSTUP_HOME", folder);
        }
        for (name, value) in &self.env {
            spawn = spawn.env(name, value);
        }
        if !self.input.is_empty() {
            spawn = spawn.input(Input::Bytes(std::mem::take(&mut self.input)));
        }
        self.attach(spawn)
    }

    /// What is asked of whoever runs the child.
    fn attach(self, spawn: Spawn) -> Spawn {
        let mut spawn = spawn
            .timeout(self.timeout)
            .stop(self.enough)
            .output_cap(self.output_cap)
            .redacted();
        if let Some(on_line) = self.on_line {
            spawn = spawn.on_line(on_line);
        }
        if let Some(meter) = self.meter {
            spawn = spawn.meter(meter);
        }
        match self.on_error_line {
            Some(on_line) => spawn.on_error_line(on_line),
            None => spawn,
        }
    }
}

impl Default for Sandbox {
    /// A sandbox with the backend `none`: the usual programs, limits and surroundings, and no
    /// isolation.
    fn default() -> Self {
        Self {
            programs: PROGRAMS.iter().map(|&name| name.to_owned()).collect(),
            limits: Limits::default(),
            backend: Isolating::Nothing,
        }
    }
}

impl Sandbox {
    /// The sandbox that a configuration asks for, with these programs allowed besides the usual
    /// ones. Nothing is tried out yet; see [`Self::check`].
    pub fn new(config: &SandboxConfig, programs: impl IntoIterator<Item = String>) -> Self {
        let mut sandbox = Self::default().allow(programs);
        sandbox.limits = Limits {
            file_size: config.file_mib << 20,
            open_files: config.open_files,
        };
        sandbox.backend = match config.backend {
            Backend::Namespace => {
                Isolating::Namespace(Arc::new(Namespace::new(config, &sandbox.programs)))
            }
            Backend::Container => Isolating::Container(Arc::new(Container::new(config))),
            Backend::None => Isolating::Nothing,
        };
        sandbox
    }

    /// The sandbox of an agent: where isolation is not required and this host can't isolate, one
    /// with the backend `none`.
    pub async fn for_host(
        config: &SandboxConfig,
        programs: impl IntoIterator<Item = String>,
    ) -> Self {
        let mut sandbox = Self::new(config, programs);
        if config.required {
            return sandbox;
        }
        if let Err(why) = sandbox.check().await {
            tracing::warn!(
                %why,
                "commands of repositories run without isolation, as `sandbox.required = false` allows"
            );
            sandbox.backend = Isolating::Nothing;
        }
        sandbox
    }

    /// Also allows these programs, by name or by absolute path.
    pub fn allow(mut self, programs: impl IntoIterator<Item = String>) -> Self {
        self.programs.extend(programs);
        self
    }

    /// How its children are isolated.
    pub const fn backend(&self) -> Backend {
        match self.backend {
            Isolating::Namespace(_) => Backend::Namespace,
            Isolating::Container(_) => Backend::Container,
            Isolating::Nothing => Backend::None,
        }
    }

    /// The engine and the image of containers, in words, where these isolate.
    pub async fn image(&self) -> Option<String> {
        match &self.backend {
            Isolating::Container(container) => Some(container.what().await),
            Isolating::Namespace(_) | Isolating::Nothing => None,
        }
    }

    /// Removes containers of agents that live no more; gives their number.
    pub async fn remove_left_containers(&self) -> usize {
        match &self.backend {
            Isolating::Container(container) => container.remove_left().await,
            Isolating::Namespace(_) | Isolating::Nothing => 0,
        }
    }

    /// Isolates something, to see whether this host can.
    ///
    /// # Errors
    /// When it can't, with the cause.
    pub async fn check(&self) -> Result<(), CantIsolate> {
        match &self.backend {
            Isolating::Namespace(namespace) => fitness::check(namespace).await,
            Isolating::Container(container) => container.check().await,
            Isolating::Nothing => Ok(()),
        }
    }

    /// Whether what runs isolated finds a program that is not the repository's own.
    ///
    /// # Errors
    /// When it can't be looked for.
    pub async fn has_program(&self, program: &str) -> Result<bool, CantIsolate> {
        match &self.backend {
            Isolating::Container(container) => container.has(program).await,
            Isolating::Namespace(_) | Isolating::Nothing => Ok(match Path::new(program) {
                path if path.is_absolute() => is_executable(path),
                _ => find_program(program).is_some(),
            }),
        }
    }

    /// Limits that this host can't enforce on a run, and why. Those of containers are known once one
    /// was checked.
    pub fn limits_not_enforced(&self) -> Vec<(Limit, String)> {
        match &self.backend {
            Isolating::Namespace(namespace) => namespace.missing(),
            Isolating::Container(container) => container.missing(),
            Isolating::Nothing => {
                let why = "nothing is isolated, and limits go with isolation".to_owned();
                Limit::ALL.map(|limit| (limit, why.clone())).to_vec()
            }
        }
    }

    /// Gives a folder that a run wrote in back to who it belonged to before.
    ///
    /// # Errors
    /// When its files can't be changed.
    pub fn give_back(&self, folder: &Path, owner: (u32, u32)) -> std::io::Result<()> {
        match &self.backend {
            Isolating::Namespace(namespace) => namespace.give_back(folder, owner),
            Isolating::Container(container) => container.give_back(folder, owner),
            Isolating::Nothing => Ok(()),
        }
    }

    /// What a run would see and could do, and why.
    ///
    /// # Errors
    /// When something can't be shown safely.
    pub fn explain(&self, run: &Run<'_>) -> Result<Explained, PlanError> {
        match &self.backend {
            Isolating::Namespace(namespace) => {
                Ok(Explained::of(&namespace.plan(run)?, namespace.limits()))
            }
            Isolating::Container(container) => container.explain(run),
            Isolating::Nothing => Ok(Explained::none()),
        }
    }

    /// The part of what every run of a program sees that a file of the host is in.
    pub fn shows(&self, file: &Path, program: Option<&str>) -> Option<PathBuf> {
        match &self.backend {
            Isolating::Namespace(namespace) => namespace.shows(file, program),
            Isolating::Container(container) => container.shows(file),
            Isolating::Nothing => None,
        }
    }

    /// Runs a command of a repository: its program has to be allowed.
    ///
    /// # Errors
    /// When it may not or can't be run, is called off, or something of it may live on.
    pub async fn run(&self, run: Run<'_>, cancel: &CancellationToken) -> Result<Ran, SandboxError> {
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
    /// When it can't be run, is called off, or something of it may live on.
    pub async fn run_trusted(
        &self,
        run: Run<'_>,
        cancel: &CancellationToken,
    ) -> Result<Ran, SandboxError> {
        make_private(run.private).await?;
        match &self.backend {
            Isolating::Namespace(namespace) => namespace.run(run, cancel).await,
            Isolating::Container(_) | Isolating::Nothing if !run.over.is_empty() => {
                let why = format!(
                    "no overlay can be mounted by the backend `{}`",
                    self.backend()
                );
                Err(SandboxError::Broken { why })
            }
            Isolating::Container(container) => container.run(run, cancel).await,
            Isolating::Nothing if run.reach.socket().is_some() => Err(SandboxError::NotIsolated),
            Isolating::Nothing => Ok(Ran {
                finished: self.run_exposed(run, cancel).await?,
                backend: Backend::None,
                usage: Usage::default(),
                exceeded: None,
                limits_not_enforced: Limit::ALL.map(Limit::as_str).to_vec(),
            }),
        }
    }

    /// Runs a command without isolation.
    async fn run_exposed(
        &self,
        run: Run<'_>,
        cancel: &CancellationToken,
    ) -> Result<Finished, SandboxError> {
        let (program, args) = run
            .command
            .split_first()
            .map_or(("", &[][..]), |(program, args)| (program.as_str(), args));
        let spawn = Spawn::new(program, run.cwd.join(run.folder))
            .args(args.iter().map(String::as_str))
            .env("HOME", run.private.join("home"))
            .env("TMPDIR", run.private.join("tmp"))
            .limits(self.limits);
        Ok(run.into_spawn(spawn).run(cancel).await?)
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

/// Removes control groups of processes that live no more; gives their number.
pub async fn remove_left_groups() -> usize {
    let removed = tokio::task::spawn_blocking(groups::sweep).await;
    removed.unwrap_or_default()
}

/// False for a path that is the system itself, or holds what is none of a run's business.
pub(crate) fn may_be_shown(path: &Path) -> bool {
    let made = ["/proc", "/dev", "/sys", "/run/patchfleet"];
    !system::is_too_wide(path)
        && !system::is_home(path)
        && !made.iter().any(|folder| path.starts_with(folder))
}

/// Variables that tests get besides those of every child.
pub fn test_environment() -> Vec<(String, String)> {
    // Stale byte code of a file with the same length and time would be believed.
    vec![("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned())]
}

/// Makes a run's home and temporary folder.
async fn make_private(private: &Path) -> Result<(), SandboxError> {
    for path in [private.join("home"), private.join("tmp")] {
        let made = tokio::fs::create_dir_all(&path).await;
        made.map_err(|source| SandboxError::NoFolder { path, source })?;
    }
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests;
