//! The setup phase of an attempt: dependencies are installed before any text of a model exists.
//!
//! The commands are those of `.patchfleet.yaml`, or those that go with the lock files of the base.
//! Each runs in the sandbox with a proxy of its own, which lets it reach the hosts that the
//! repository asks for and the operator allows. What they leave is taken out of the work tree and
//! copied to every draft and every test run, which have no network; so that neither loses it to a
//! check-out, meets what another one did to it, or makes it a part of the change. What went well is
//! kept under a key of all that decides it (`setup/key.rs`), and later tasks with the same key
//! install nothing.
//!
//! Absent: the phase itself where nothing is isolated.

mod commands;
mod contents;
mod key;
mod report;
mod settings;
mod sources;

use std::fs::DirBuilder;
use std::os::unix::fs::DirBuilderExt as _;
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{FailureKind, RepositoryName};
use patchfleet_repository::RepositoryConfig;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub use contents::{ContentsError, ContentsFetch};
pub use report::{SetupReport, StepReport};
pub use settings::SetupConfig;

use crate::git::{Entry, GitError};
use crate::nodes::TaskLog;
use crate::process::SpawnError;
use crate::sandbox::egress::{
    self, AddressRules, AllowList, ConnectProxy, IpNet, Network, Policy, Refusals,
};
use crate::sandbox::{Backend, Ran, Reach, Run, Sandbox, SandboxError};
use crate::workspace::{CachedSetup, Dependencies, InstallLock, SetupCache, TaskLayout, Workspace};
use commands::Command;
use key::{Ingredients, Sources};

/// How much of the end of each output is kept.
const OUTPUT_CAP: usize = 64 * 1024;
/// Most bytes of the files that decide what is installed.
const MOST_READ: u64 = 48 << 20;
/// How long another task's installation is waited for without a word.
const PATIENCE: Duration = Duration::from_secs(1);

/// The setup phase of one attempt.
pub struct Setup<'a> {
    /// Where commands run.
    pub sandbox: &'a Sandbox,
    /// What the operator allows.
    pub operator: &'a SetupConfig,
    /// The repository's name.
    pub name: &'a RepositoryName,
    /// What the repository asks for.
    pub repository: &'a RepositoryConfig,
    /// What earlier tasks installed.
    pub cache: &'a SetupCache,
    /// The task's folder, checked out at its base.
    pub workspace: &'a Workspace,
    /// Takes commands, output and refused hosts.
    pub log: &'a TaskLog,
    /// How hosts are reached.
    pub network: Arc<dyn Network>,
    /// Ends the phase.
    pub cancel: &'a CancellationToken,
}

impl Setup<'_> {
    /// Installs the dependencies, or finds them installed by an earlier task; the work tree is at its
    /// base again afterwards.
    ///
    /// # Errors
    /// A failure for people, or nothing when the work was called off.
    pub async fn run(self) -> Result<(Dependencies, SetupReport), Option<Failure>> {
        let entries = self.workspace.repository.entries(&self.workspace.base);
        let entries = entries.await.map_err(GitError::into_failure)?;
        let paths = entries.iter().map(|entry| entry.path.as_str());
        let commands = commands::choose(self.repository, paths, &self.operator.allow_list());
        if commands.is_empty() {
            return Ok((Dependencies::default(), SetupReport::default()));
        }
        if self.sandbox.backend() == Backend::None {
            self.log
                .line("dependencies are not installed: nothing is isolated here");
            return Ok((Dependencies::default(), SetupReport::default()));
        }
        let Some(key) = self.key(&commands, &entries).await? else {
            return self.install(&commands).await;
        };
        if let Some(found) = self.cached(&key).await {
            return Ok(found);
        }
        let lock = self.lock(&key).await?;
        // Whoever had the lock may have installed it.
        if let Some(found) = self.cached(&key).await {
            return Ok(found);
        }
        let (dependencies, report) = self.install(&commands).await?;
        let json = serde_json::to_value(&report).ok();
        let json = json.filter(|_| lock.is_some() && report.is_whole(commands.len()));
        let Some(json) = json else {
            return Ok((dependencies, report));
        };
        let stored = self
            .cache
            .store(&key, dependencies, (json, chrono::Utc::now()));
        Ok((stored.await, report))
    }

    /// Installs the dependencies.
    async fn install(
        &self,
        commands: &[Command],
    ) -> Result<(Dependencies, SetupReport), Option<Failure>> {
        let limit = self.limit();
        let deadline = Instant::now() + limit;
        let mut report = SetupReport::default();
        let put = self.workspace.put_contents().await;
        put.map_err(GitError::into_failure)?;
        for command in commands {
            if let Some(step) = self.step(command, (deadline, limit)).await? {
                report.steps.push(step);
            }
        }
        let dependencies = self.workspace.collect_dependencies().await;
        Ok((dependencies.map_err(GitError::into_failure)?, report))
    }

    /// How long all commands together may take.
    fn limit(&self) -> Duration {
        let limit = self.operator.timeout.0;
        let asked = self.repository.setup_timeout;
        asked.map_or(limit, |it| it.min(limit))
    }

    /// The key of what is installed; nothing when it is not to be kept.
    async fn key(
        &self,
        commands: &[Command],
        entries: &[Entry],
    ) -> Result<Option<String>, Failure> {
        if !self.operator.cache {
            return Ok(None);
        }
        let wanted: Vec<_> = sources::to_be_read(entries).collect();
        if wanted.iter().map(|entry| entry.size).sum::<u64>() > MOST_READ {
            self.log.line(
                "dependencies are not cached: the files that decide them are too long together",
            );
            return Ok(None);
        }
        let ids: Vec<_> = wanted.iter().map(|entry| entry.id.clone()).collect();
        let blobs = self.workspace.repository.blobs(&ids).await;
        let blobs = blobs.map_err(GitError::into_failure)?;
        let text = |(entry, blob): (&&Entry, Vec<u8>)| {
            let text = String::from_utf8_lossy(&blob).into_owned();
            (entry.path.clone(), text)
        };
        let texts = wanted.iter().zip(blobs).map(text).collect();
        let tags = match self.workspace.tags().await {
            Ok(tags) => tags,
            Err(error) => {
                tracing::warn!(%error, "the repository's tags can't be read; nothing is cached");
                return Ok(None);
            }
        };
        let sources = match sources::deciding(commands, entries, &texts) {
            Some(files) => Sources::Files(files),
            None => Sources::Commit(&self.workspace.base, &tags),
        };
        let programs = commands.iter().filter_map(|it| it.words.first().cloned());
        let (programs, sandbox) = (programs.collect::<Vec<_>>(), self.sandbox.clone());
        let system = tokio::task::spawn_blocking(move || sandbox.identity(&programs)).await;
        let Ok(system) = system else { return Ok(None) };
        let ingredients = Ingredients {
            repository: self.name,
            has_contents: !self.workspace.contents.is_empty(),
            commands,
            sources,
            open: &self.operator.open,
            system: &system,
        };
        Ok(Some(ingredients.key()))
    }

    /// What an earlier task installed.
    async fn cached(&self, key: &str) -> Option<(Dependencies, SetupReport)> {
        let CachedSetup {
            dependencies,
            report,
            made_at,
        } = self.cache.find(key, chrono::Utc::now()).await?;
        let report: SetupReport = serde_json::from_value(report).ok()?;
        let report = SetupReport {
            cached_at: Some(made_at),
            ..report
        };
        self.log.line(&report.words().unwrap_or_default());
        Some((dependencies, report))
    }

    /// The right to install for the cache, once nobody else does so; without it, when that takes as
    /// long as installing may take, nothing is kept.
    async fn lock(&self, key: &str) -> Result<Option<InstallLock>, Option<Failure>> {
        let taking = async {
            let taking = self.cache.lock(key);
            tokio::pin!(taking);
            if let Ok(taken) = tokio::time::timeout(PATIENCE, &mut taking).await {
                return Some(taken);
            }
            self.log
                .line("waiting for another task that installs the same dependencies");
            tokio::time::timeout(self.limit(), taking).await.ok()
        };
        let taken = self.cancel.run_until_cancelled(taking).await.ok_or(None)?;
        match taken.transpose() {
            Ok(lock) => Ok(lock),
            Err(error) => {
                tracing::warn!(%error, "dependencies are not kept: nothing can be locked");
                Ok(None)
            }
        }
    }

    /// Runs a command; nothing comes of a detected one whose program is not there. A detected one that
    /// fails, which nobody asked for, ends nothing: the tests may do without.
    async fn step(
        &self,
        command: &Command,
        (deadline, limit): (Instant, Duration),
    ) -> Result<Option<StepReport>, Option<Failure>> {
        self.log.line(&format!("$ {command} (setup)"));
        let proxy = self.proxy(command).map_err(|error| Some(broken(&error)))?;
        let ran = self.run_command(command, &proxy, deadline).await;
        let refusals = proxy.close().await;
        for refusal in refusals.list() {
            self.log.line(&format!("`{command}`: {refusal}"));
        }
        let ran = match ran {
            Err(SandboxError::NotRun(SpawnError::Cancelled)) => return Err(None),
            Err(SandboxError::NotRun(SpawnError::NotFound { program })) if command.is_detected => {
                let line = format!("`{program}` is not on this host; what it installs is left out");
                self.log.line(&line);
                return Ok(None);
            }
            Err(error @ SandboxError::NotAllowed { .. }) if command.is_detected => {
                self.log.line(&format!("`{command}` is left out: {error}"));
                return Ok(None);
            }
            Err(error) => return Err(Some(not_run(command, &error))),
            Ok(ran) => ran,
        };
        let report = StepReport::new(command, &ran, &refusals);
        if let Some(limit) = ran.exceeded.as_ref().filter(|it| it.voids_result()) {
            // What it left is a part of what it should be, or too much to copy.
            let how = format!("has no result: {limit}");
            return Err(Some(failed(command, &how, (&ran, &refusals))));
        }
        let finished = &ran.finished;
        let how = match (finished.timed_out, finished.returncode, finished.signal) {
            (true, ..) => format!("did not end within {} s", limit.as_secs()),
            (_, Some(0), _) => return Ok(Some(report)),
            (_, Some(code), _) => format!("failed with exit code {code}"),
            (_, None, signal) => format!("was ended by signal {}", signal.unwrap_or_default()),
        };
        if command.is_detected {
            self.log.line(&format!(
                "`{command}` {how}; the task goes on without what it installs"
            ));
            return Ok(Some(StepReport {
                failure: Some(how),
                ..report
            }));
        }
        Err(Some(failed(command, &how, (&ran, &refusals))))
    }

    async fn run_command(
        &self,
        command: &Command,
        proxy: &ConnectProxy,
        deadline: Instant,
    ) -> Result<Ran, SandboxError> {
        let layout = &self.workspace.layout;
        let (cwd, private) = (layout.repo_clone(), layout.setup());
        let run = Run {
            folder: &command.folder,
            env: command.env.clone(),
            over: self.workspace.layers(),
            // Versions of packages often come from tags.
            shown: self.workspace.borrowed_objects().await,
            reach: Reach::Allowed(proxy.socket()),
            timeout: deadline.saturating_duration_since(Instant::now()),
            output_cap: OUTPUT_CAP,
            on_line: Some(self.log.for_output()),
            ..Run::new(&command.words, &cwd, &private)
        };
        self.sandbox.run(run, self.cancel).await
    }

    fn proxy(&self, command: &Command) -> std::io::Result<ConnectProxy> {
        let open = &self.operator.open;
        proxy(
            &self.workspace.layout,
            (&command.allow, open),
            &self.network,
        )
    }
}

/// The proxy of a command, on a socket that only this user and the command can reach.
fn proxy(
    layout: &TaskLayout,
    (allow, open): (&AllowList, &[IpNet]),
    network: &Arc<dyn Network>,
) -> std::io::Result<ConnectProxy> {
    let opened = AddressRules::opening(open.iter().copied());
    let policy = Policy {
        phase: egress::Phase::Setup,
        allow: allow.clone(),
        addresses: opened.map_err(std::io::Error::other)?,
        limits: egress::Limits::default(),
    };
    let folder = layout.implementation().join("proxy");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&folder)?;
    ConnectProxy::bind(&folder.join("setup.sock"), policy, Arc::clone(network))
}

fn failure(kind: FailureKind, message: &str, retryable: bool) -> Failure {
    Failure {
        kind,
        message: patchfleet_guard::redact(message).into_owned(),
        retryable,
        // A newer base may say otherwise.
        discard_checkpoints: kind == FailureKind::SetupFailed,
    }
}

fn broken(error: &std::io::Error) -> Failure {
    let message = format!("the proxy of the setup phase can't be started: {error}");
    failure(FailureKind::HostFault, &message, true)
}

fn not_run(command: &Command, error: &SandboxError) -> Failure {
    let kind = match error {
        SandboxError::NotAllowed { .. } | SandboxError::NotRun(_) => FailureKind::SetupFailed,
        _ => FailureKind::HostFault,
    };
    let message = format!("`{command}`, which installs dependencies, can't be run: {error}");
    failure(kind, &message, kind == FailureKind::HostFault)
}

fn failed(command: &Command, how: &str, (ran, refusals): (&Ran, &Refusals)) -> Failure {
    let refused = refusals.list();
    let mut message = format!("`{command}`, which installs dependencies, {how}");
    if !refused.is_empty() {
        let hosts: Vec<_> = refused
            .iter()
            .map(|it| format!("{} ({})", it.host, it.reason))
            .collect();
        let hosts = hosts.join(", ");
        message = format!(
            "{message}; it was refused the hosts {hosts}, which `network` in `.patchfleet.yaml` \
             has to ask for and `agents.setup.allow` of the operator to allow"
        );
    }
    let tail = report::tail(&ran.finished);
    let message = format!("{message}; it said last:\n{tail}");
    // A registry that was away may be back.
    failure(FailureKind::SetupFailed, &message, refused.is_empty())
}
