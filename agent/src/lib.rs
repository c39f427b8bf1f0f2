//! The agent: takes one task at a time per slot from its assignment to its outcome.
//!
//! The modules stand in the order of the data: a `session` brings an assignment, a `job` works on
//! it in a `workspace` with the `nodes` of the coding flow, and reports on the same session.
//! Absent: choosing work, and anything kept between tasks but mirrors, templates and what setup
//! phases installed.

mod command_paths;
mod config;
mod excerpt;
mod fitness;
mod follow_ups;
mod host;
mod host_paths;
mod http;
mod member;
mod patience;
mod schema;
mod session;

mod job;

pub mod workspace;

pub mod setup;

pub mod draft;
mod gateway;
mod model;
pub mod nodes;
mod second_models;
mod tools;

mod disk;
pub mod git;
pub mod process;
pub mod sandbox;

#[doc(hidden)]
pub mod properties;

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use patchfleet_resilience::{watch, watch_endless};
use tokio_util::sync::CancellationToken;

pub use config::{
    AgentConfig, CliDraftConfig, CommitConfig, CoordinatorAddress, DiffDraftConfig, DraftConfig,
    HttpConfig, LanguageModelConfig, PublishConfig, RepositorySettings, SecondModelConfig,
    TestsConfig, ToolsDraftConfig, WorkspaceConfig,
};
pub use draft::{
    CheckedModel, DraftModel, KeyHeader, ModelConfig, ModelFault, Needed, Profile, check_model,
    fingerprint,
};
pub use model::{Budgets, LanguageModel};

use http::Http;
use member::Member;
use sandbox::{Backend, Sandbox};
use session::desk::Stop;
pub use session::{IdTaken, NotAdmitted};
pub use setup::SetupConfig;
use workspace::{Retention, Workspaces};

/// The first thing in `main`: a process that was started as a supervisor, or as a stage of a
/// sandbox, is one and ends here with its exit code.
pub fn enter() -> Option<std::process::ExitCode> {
    process::enter().or_else(sandbox::enter)
}

/// How often old workspaces are looked for, at the least.
const SWEEP_INTERVAL: Duration = Duration::from_hours(1);
/// Sweeps in the time that a workspace is kept, so that none outlives it by much.
const SWEEPS: u32 = 10;
/// How long after a sweep a full disk is no reason for another one, unless an attempt ended.
const SWEEP_PAUSE: Duration = Duration::from_mins(1);

/// Runs one agent until it is told to end: it takes nothing new, lets running tasks end within
/// the deadline, interrupts the rest and says goodbye.
///
/// # Errors
/// When it can't begin: the folder can't be written, a key can't be read or its HTTP address can't
/// be had. A coordinator that is away is no error; the agent goes on trying. [`IdTaken`] when
/// another process has the agent's id, [`NotAdmitted`] when the coordinator does not take this one,
/// [`patchfleet_resilience::StageEnded`] when a part of the agent ended that should not.
pub async fn run(config: AgentConfig, shutdown: CancellationToken) -> anyhow::Result<()> {
    let retention = Retention {
        keep: chrono::TimeDelta::from_std(config.workspace.retention.0)
            .context("agents.workspace.retention")?,
        disk_limit: config
            .workspace
            .max_disk_mib
            .map(|mib| mib.saturating_mul(1024 * 1024)),
    };
    let ended = process::end_orphans()
        .await
        .context("can't look for what an earlier agent left behind")?;
    if ended > 0 {
        tracing::info!(
            ended,
            "processes that an earlier agent left behind were ended"
        );
    }
    let groups = sandbox::remove_left_groups().await;
    if groups > 0 {
        tracing::info!(
            groups,
            "control groups that an earlier agent left behind were removed"
        );
    }
    let root = &config.workspace.root;
    let workspaces = Workspaces::open(root, &config.id, retention)
        .await
        .with_context(|| format!("can't use the folder {}", root.display()))?;
    let http = match &config.http {
        Some(http) => Some(Http::bind(http).await?),
        None => None,
    };
    let deadline = config.shutdown_deadline.0;
    let programs = config.tests.allowed_programs.clone();
    let sandbox = {
        let limits = config.sandbox.clone().shared_by(config.slots);
        Sandbox::for_host(&limits, programs).await
    };
    let containers = sandbox.remove_left_containers().await;
    if containers > 0 {
        tracing::info!(
            containers,
            "containers that an earlier agent left behind were removed"
        );
    }
    let owner = match sandbox.backend() {
        Backend::Namespace | Backend::Container => config.sandbox.owner(),
        Backend::None => None,
    };
    let workspaces = workspaces.owned_by(owner);
    let workspaces = if config.workspace.overlay {
        workspaces.over_templates(&sandbox).await
    } else {
        workspaces
    };
    let member = Arc::new(Member::new(config, workspaces, sandbox)?);
    let goodbye = CancellationToken::new();
    let session = connect(Arc::clone(&member), goodbye.clone());
    let recovering = member.fitness.recover(|| member.desk.news.notify_one());
    let ended: anyhow::Result<()> = tokio::select! {
        ended = watch("session", session) => ended.unwrap_or_else(|ended| Err(ended.into())),
        ended = watch_endless("workspaces", sweep_now_and_then(&member)) => Err(ended.into()),
        ended = watch_endless("self-test", recovering) => Err(ended.into()),
        ended = watch_endless("http", serve(http, &member)) => Err(ended.into()),
        ended = watch_endless("shutdown", end(&member, shutdown, (deadline, &goodbye))) => {
            Err(ended.into())
        }
    };
    if ended.is_err() {
        // What this process works on is the other one's, or lost.
        member.drain();
        member.desk.stop_all(Stop::Dropped);
        member.jobs.close();
        let _ = tokio::time::timeout(deadline, member.jobs.wait()).await;
    }
    ended
}

/// Tests the host, then connects; probes are answered meanwhile, and the way down is open.
async fn connect(member: Arc<Member>, goodbye: CancellationToken) -> anyhow::Result<()> {
    let tested = goodbye.run_until_cancelled(member.fitness.check()).await;
    if tested.is_none() {
        return Ok(());
    }
    session::run(member, goodbye).await
}

/// The way down, in order; the session goes on meanwhile, so that ends can be reported.
async fn end(
    member: &Member,
    shutdown: CancellationToken,
    (deadline, goodbye): (Duration, &CancellationToken),
) {
    shutdown.cancelled().await;
    member.drain();
    member.jobs.close();
    if tokio::time::timeout(deadline, member.jobs.wait())
        .await
        .is_err()
    {
        member.desk.stop_all(Stop::Interrupted);
        // What can't be told now is found out by the coordinator when the lease runs out.
        let _ = tokio::time::timeout(deadline, member.jobs.wait()).await;
    }
    goodbye.cancel();
    std::future::pending::<()>().await;
}

/// Answers over HTTP, if the interface is on.
async fn serve(http: Option<Http>, member: &Arc<Member>) {
    match http {
        Some(http) => http.serve(Arc::clone(member)).await,
        None => std::future::pending().await,
    }
}

/// Sweeps at the beginning, every hour, and when the disk is found full.
async fn sweep_now_and_then(member: &Member) {
    let root = &member.config.workspace.root;
    let kept = member.config.workspace.retention.0;
    let every = (kept / SWEEPS).clamp(Duration::from_millis(100), SWEEP_INTERVAL);
    let mut interval = tokio::time::interval(every);
    loop {
        tokio::select! {
            _ = interval.tick() => {}
            () = member.disk_pressure.notified() => {}
        }
        let live = member.desk.tasks();
        let (now, is_full) = (chrono::Utc::now(), || host::is_disk_full(root));
        match member.workspaces.sweep(now, &live, &is_full).await {
            Ok(swept) => tracing::debug!(?swept, "old workspaces removed"),
            Err(error) => tracing::warn!(%error, "old workspaces can't be removed"),
        }
        // What is in use stays, so that the same sweep again would find no more.
        tokio::select! {
            () = tokio::time::sleep(SWEEP_PAUSE.min(every)) => {}
            () = member.attempt_ended.notified() => {}
        }
    }
}
