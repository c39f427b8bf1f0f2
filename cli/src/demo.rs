//! `patchfleet demo`: an issue becomes a merged pull request, on this machine.
//!
//! The GitHub simulator runs in this process; coordinator and agents are processes of this very
//! program and take the product's own path, webhooks, gRPC and tools of a model included. Only GitHub
//! is played, and the model where none is named.

mod author;
mod fleet;
mod scene;
mod settings;
mod timeline;
mod verdict;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{ArgGroup, Args};
use patchfleet_agent::sandbox::{Sandbox, SandboxConfig};
use patchfleet_domain::{Task, TaskState};
use secrecy::SecretString;

use crate::demo::author::{Author, ModelArgs};
use crate::demo::fleet::Fleet;
use crate::demo::scene::Scene;
use crate::demo::timeline::Timeline;
use crate::output::{Line, Output, Tone};
use crate::runtime;

/// What to show.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("author").args(["provider", "replay", "draft_command"]))]
pub(crate) struct DemoArgs {
    /// Leave everything running afterwards, and say where.
    #[arg(long)]
    keep: bool,
    /// Keep tasks in this PostgreSQL instead of a temporary SQLite file.
    #[arg(
        long,
        value_name = "URL",
        env = "PATCHFLEET_DEMO_POSTGRES",
        hide_env_values = true
    )]
    postgres: Option<SecretString>,
    #[command(flatten)]
    model: ModelArgs,
    /// Replay a recorded answer, without any model.
    #[arg(long)]
    replay: bool,
    /// Have this command write the change, instead of a model. It runs in the worktree; the
    /// request is in the file `$PATCHFLEET_REQUEST_FILE`.
    #[arg(long, value_name = "CMD")]
    draft_command: Option<String>,
    /// Let the command that writes the change use the network, as to reach a model.
    #[arg(long, requires = "draft_command")]
    draft_network: bool,
    /// Let commands read this file or folder, besides the worktree and the system.
    #[arg(long, value_name = "PATH")]
    read_only: Vec<PathBuf>,
    /// Install dependencies also from registries whose addresses are in this network, as where a
    /// mirror answers in their name.
    #[arg(long, value_name = "NETWORK")]
    setup_open: Vec<String>,
    /// Use this git repository instead of the sample.
    #[arg(long, value_name = "PATH_OR_URL", requires_all = ["issue", "author"], conflicts_with = "replay")]
    repository: Option<String>,
    /// The issue, as GitHub's `issues` webhook sends it.
    #[arg(long, value_name = "FILE", requires = "repository")]
    issue: Option<PathBuf>,
    /// How the repository is tested, when its `.patchfleet.yaml` does not say.
    #[arg(long, value_name = "CMD", requires = "repository")]
    test_command: Option<String>,
    /// Give up after so many seconds.
    #[arg(long, default_value_t = 600)]
    timeout: u64,
}

/// Shows it all; success only when the pull request was merged and the task completed.
pub(crate) async fn run(args: DemoArgs, output: Output) -> anyhow::Result<ExitCode> {
    let shutdown = runtime::shutdown_on_signal()?;
    let isolates = isolates(&args, output).await?;
    let author = Author::of(&args).await?;
    let scene = Scene::set(&args).await?;
    let mut fleet = Fleet::start((&args, &author), &scene, isolates).await?;
    let deadline = Duration::from_secs(args.timeout);
    let shown = tokio::time::timeout(deadline, show(&scene, &mut fleet, output));
    let good = tokio::select! {
        shown = shown => {
            shown.with_context(|| format!("the demo did not end within {} s", args.timeout))??
        }
        () = shutdown.cancelled() => anyhow::bail!("the demo was interrupted"),
    };
    if args.keep {
        let environment = fleet.write_environment(scene.folder())?;
        output.object(&serde_json::json!({ "event": "kept", "environment": environment }));
        output.line("");
        output.line("All is left running; Ctrl-C ends it. For `patchfleet task` and others:");
        output.line(format!("  . {}", environment.display()));
        shutdown.cancelled().await;
    }
    fleet.stop().await;
    scene.leave().await;
    Ok(if good {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Whether this host isolates what the repository brings. Where it can't, the sample, which came with
/// this program, runs without, and nobody else's repository does.
async fn isolates(args: &DemoArgs, output: Output) -> anyhow::Result<bool> {
    let sandbox = Sandbox::new(&SandboxConfig::default(), []);
    let Err(why) = sandbox.check().await else {
        return Ok(true);
    };
    if let Some(repository) = &args.repository {
        anyhow::bail!(
            "the code of {repository} is not run, because this host can't isolate it: {why}; {}",
            why.mend()
        );
    }
    output.object(&serde_json::json!({ "event": "not_isolated", "reason": why.to_string() }));
    output.line(Line::toned(
        Tone::Notice,
        format!("the sample runs without isolation, which this host can't give: {why}"),
    ));
    Ok(false)
}

/// From the issue to the merge; whether all went as it should.
async fn show(scene: &Scene, fleet: &mut Fleet, output: Output) -> anyhow::Result<bool> {
    scene.connect(fleet);
    fleet.introduce(scene, output);
    let started = Instant::now();
    let mut timeline = Timeline::new(fleet.client().clone(), output);
    let issue = scene.open_issue()?;
    output.line("");
    output.line(format!(
        "issue #{issue} labelled `patchfleet` in {}",
        scene.repository()
    ));
    output.line("");
    let settled = [
        TaskState::Review,
        TaskState::Failed,
        TaskState::Cancelled,
        // Nobody is there who would mend what it waits for.
        TaskState::Waiting,
    ];
    let labelled = ("issues", "labeled");
    let mut task = timeline
        .follow(issue, &settled, (scene, fleet, labelled))
        .await?;
    verdict::show_change(scene, fleet, &task, output).await?;
    if task.state == TaskState::Review {
        task = merge(scene, &task, issue, (&mut timeline, fleet)).await?;
    }
    verdict::finish((scene, fleet), &task, started.elapsed(), output).await
}

/// The maintainer merges; the webhook tells the coordinator.
async fn merge(
    scene: &Scene,
    task: &Task,
    issue: u64,
    (timeline, fleet): (&mut Timeline, &mut Fleet),
) -> anyhow::Result<Task> {
    let number = task
        .pull_request
        .as_ref()
        .context("a task in review without pull request")?
        .number;
    timeline.say(
        Tone::Notice,
        &format!("the maintainer merges pull request #{number}"),
    );
    scene.merge(number)?;
    timeline
        .follow(
            issue,
            &[TaskState::Completed, TaskState::Failed],
            (scene, fleet, ("pull_request", "closed")),
        )
        .await
}
