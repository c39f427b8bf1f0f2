//! `patchfleet sandbox`: runs a command as tests are run, and says what it would see.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand, ValueEnum};
use patchfleet_agent::AgentConfig;
use patchfleet_agent::process::OnLine;
use patchfleet_agent::sandbox::egress::{
    self, AddressRules, AllowList, ConnectProxy, Entry, HostNetwork, IpNet, Policy, Refusals,
};
use patchfleet_agent::sandbox::{
    self, Backend, ContainerConfig, Exceeded, Explained, Fact, Ran, Reach, Run, Sandbox,
    SandboxConfig, SandboxError,
};
use patchfleet_config::HumanDuration;
use patchfleet_domain::AgentId;
use serde_json::json;

use crate::config::ConfigArgs;
use crate::output::{Line, Output, Tone};
use crate::runtime;

/// What a command was ended with when its time was over, as `timeout` does it.
const TIMED_OUT: u8 = 124;
/// Signals end a command with this and their number, as in a shell.
const BY_SIGNAL: i32 = 128;
/// The signal by which the kernel ends what uses its memory up.
const SIGKILL: i32 = 9;

/// Which part.
#[derive(Debug, Args)]
pub(crate) struct SandboxArgs {
    #[command(subcommand)]
    command: SandboxCommand,
}

#[derive(Debug, Subcommand)]
enum SandboxCommand {
    /// Run a command as tests are run; ends with the command's exit status, or with 137 when it ran
    /// out of memory or disk, whatever the command says.
    Run(RunArgs),
    /// Print what a command would see, what is set and what is denied, and why.
    Explain(ExplainArgs),
}

/// Where and how.
#[derive(Debug, Args)]
struct PlaceArgs {
    /// How it is isolated.
    #[arg(long, value_enum, default_value_t)]
    backend: Isolation,
    /// The image of the backend `container`.
    #[arg(long, required_if_eq("backend", "container"))]
    image: Option<String>,
    /// The program that runs containers.
    #[arg(long, default_value = "podman")]
    engine: String,
    /// Another runtime of the engine, such as `runsc`.
    #[arg(long)]
    runtime: Option<String>,
    /// A file or folder of the host that it may read, at its own path.
    #[arg(long, value_name = "PATH")]
    read_only: Vec<PathBuf>,
    /// The work tree, which the command may write; an empty folder that is deleted afterwards when
    /// absent.
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
}

#[derive(Debug, Args)]
struct ExplainArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// What the draft command of this agent of the configuration would see, and what the agent's
    /// tests would not.
    #[arg(long, value_name = "ID", conflicts_with = "backend")]
    draft: Option<AgentId>,
    #[command(flatten)]
    config: ConfigArgs,
}

#[derive(Debug, Args)]
struct RunArgs {
    #[command(flatten)]
    place: PlaceArgs,
    /// Which network it has.
    #[arg(long, value_enum, default_value_t)]
    phase: Phase,
    /// A host that it may reach in the phase `setup`: `example.org`, `*.example.org`, or the name
    /// of an ecosystem, such as `rust`, for its registries.
    #[arg(long, value_name = "HOST")]
    allow: Vec<Entry>,
    /// A network whose addresses allowed hosts may have although they are not public, as those of
    /// your own mirrors.
    #[arg(long, value_name = "NETWORK")]
    open: Vec<IpNet>,
    /// How long it may take.
    #[arg(long, default_value = "120s")]
    timeout: HumanDuration,
    /// The program and its arguments.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<String>,
}

/// Kinds of isolation.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum Isolation {
    /// Namespaces, Landlock and a filter of system calls.
    #[default]
    Namespace,
    /// A container of Podman or Docker.
    Container,
    /// None at all.
    None,
}

/// Parts of a task's work that differ in their network.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Phase {
    /// Dependencies are fetched.
    Setup,
    /// Tests run, without network.
    #[default]
    Work,
}

/// Runs a command in the sandbox, or explains what it would see.
pub(crate) async fn run(args: SandboxArgs, output: Output) -> anyhow::Result<ExitCode> {
    match args.command {
        SandboxCommand::Run(args) => run_command(args, output).await,
        SandboxCommand::Explain(args) => explain(&args, output).await,
    }
}

async fn run_command(args: RunArgs, output: Output) -> anyhow::Result<ExitCode> {
    if args.phase == Phase::Work && !(args.allow.is_empty() && args.open.is_empty()) {
        bail!("there is no network in the phase `work`; write `--phase setup` to reach hosts");
    }
    sandbox::remove_left_groups().await;
    let sandbox = sandbox(&args.place);
    sandbox.remove_left_containers().await;
    let scratch = tempfile::tempdir().context("no folder for temporary files can be made")?;
    let folder = workspace(args.place.workspace.as_deref(), scratch.path())?;
    let owner = std::fs::metadata(&folder).map(|it| (it.uid(), it.gid()))?;
    let private = scratch.path().join("private");
    let proxy = proxy(&args, scratch.path())?;
    let run = Run {
        reach: proxy
            .as_ref()
            .map_or(Reach::Nothing, |proxy| Reach::Allowed(proxy.socket())),
        env: sandbox::test_environment(),
        timeout: args.timeout.0,
        on_line: Some(pass_on(output.is_json())),
        on_error_line: Some(pass_on(true)),
        ..Run::new(&args.command, &folder, &private)
    };
    let ran = sandbox
        .run_trusted(run, &runtime::shutdown_on_signal()?)
        .await;
    if let Err(error @ SandboxError::Left { .. }) = ran {
        // Not while something may change it.
        bail!("{error}; {} is not given back", folder.display());
    }
    sandbox
        .give_back(&folder, owner)
        .with_context(|| format!("{} can't be given back", folder.display()))?;
    let ran = ran?;
    let refusals = match proxy {
        Some(proxy) => proxy.close().await,
        None => Refusals::new(egress::Phase::Work),
    };
    output.object(&report(&ran, &refusals));
    show_refused(&refusals);
    if let Some(limit) = &ran.exceeded {
        let _ = writeln!(std::io::stderr(), "patchfleet: {limit}");
    }
    if ran.finished.timed_out {
        let mut error = std::io::stderr();
        let _ = writeln!(error, "patchfleet: it did not end within {}", args.timeout);
    }
    Ok(ExitCode::from(status(&ran)))
}

/// The proxy of the phase `setup`; without one there is no network.
fn proxy(args: &RunArgs, scratch: &Path) -> anyhow::Result<Option<ConnectProxy>> {
    if args.phase == Phase::Work {
        return Ok(None);
    }
    let policy = Policy {
        phase: egress::Phase::Setup,
        allow: AllowList::new(&args.allow),
        addresses: AddressRules::opening(args.open.iter().copied()).context("--open")?,
        limits: egress::Limits::default(),
    };
    let socket = scratch.join("proxy.sock");
    let proxy = ConnectProxy::bind(&socket, policy, Arc::new(HostNetwork));
    Ok(Some(proxy.context("the proxy can't be started")?))
}

/// Says which hosts were refused, and why.
fn show_refused(refusals: &Refusals) {
    let mut error = std::io::stderr();
    for refusal in refusals.list() {
        let _ = writeln!(error, "patchfleet: {refusal}");
    }
    if refusals.others() > 0 {
        let others = refusals.others();
        let _ = writeln!(error, "patchfleet: and {others} more attempts were refused");
    }
}

fn sandbox(place: &PlaceArgs) -> Sandbox {
    let config = SandboxConfig {
        backend: match place.backend {
            Isolation::Namespace => Backend::Namespace,
            Isolation::Container => Backend::Container,
            Isolation::None => Backend::None,
        },
        container: ContainerConfig {
            engine: place.engine.clone(),
            image: place.image.clone().unwrap_or_default(),
            runtime: place.runtime.clone(),
            ..ContainerConfig::default()
        },
        read_only: place.read_only.clone(),
        ..SandboxConfig::default()
    };
    Sandbox::new(&config, [])
}

/// The folder that is meant, or an empty one.
fn workspace(named: Option<&Path>, scratch: &Path) -> anyhow::Result<PathBuf> {
    match named {
        Some(folder) => folder
            .canonicalize()
            .with_context(|| format!("the workspace {}", folder.display())),
        None => {
            let folder = scratch.join("workspace");
            std::fs::create_dir(&folder).context("no empty workspace can be made")?;
            Ok(folder)
        }
    }
}

/// Passes lines on as they come.
fn pass_on(is_error: bool) -> OnLine {
    Arc::new(move |line| {
        // Whoever reads may have gone away.
        let _ = if is_error {
            writeln!(std::io::stderr(), "{line}")
        } else {
            writeln!(std::io::stdout(), "{line}")
        };
    })
}

fn report(ran: &Ran, refusals: &Refusals) -> serde_json::Value {
    json!({
        "backend": ran.backend,
        "exit_code": ran.finished.returncode,
        "signal": ran.finished.signal,
        "timed_out": ran.finished.timed_out,
        "oom_kills": ran.usage.oom_kills,
        "peak_memory_bytes": ran.usage.peak_memory_bytes,
        "throttled_ms": ran.usage.throttled.map(|it| it.as_millis()),
        "refused_processes": ran.usage.refused_processes,
        "exceeded": ran.exceeded,
        "refused_hosts": refusals.list(),
        "limits_not_enforced": ran.limits_not_enforced,
    })
}

/// The exit status that says the same as the command's end; of a run that lost processes to a limit,
/// that it was killed.
fn status(ran: &Ran) -> u8 {
    let finished = &ran.finished;
    let is_void = ran.exceeded.as_ref().is_some_and(Exceeded::voids_result);
    let code = match (finished.timed_out, finished.returncode, finished.signal) {
        (true, _, _) => return TIMED_OUT,
        // Its exit status says nothing.
        _ if is_void => BY_SIGNAL + SIGKILL,
        (false, Some(code), _) => code,
        (false, None, signal) => BY_SIGNAL + signal.unwrap_or_default(),
    };
    u8::try_from(code).unwrap_or(u8::MAX)
}

async fn explain(args: &ExplainArgs, output: Output) -> anyhow::Result<ExitCode> {
    let folder = match &args.place.workspace {
        Some(folder) => workspace(Some(folder), folder)?,
        None => PathBuf::from("(an empty folder)"),
    };
    let private = PathBuf::from("(a folder of its own)");
    let explained = match &args.draft {
        None => sandbox(&args.place).explain(&Run::new(&[], &folder, &private))?,
        Some(id) => {
            let config = args.config.load()?;
            let agent = config.agents.iter().find(|agent| agent.id == *id);
            let file = args.config.file().display();
            let agent = agent.with_context(|| format!("{file} has no agent `{id}`"))?;
            explain_draft(agent, (&folder, &private)).await?
        }
    };
    output.object(&explained);
    output.line(format!("backend {}", explained.backend));
    for fact in &explained.facts {
        let tone = match fact.kind {
            "denied" | "missing" => Tone::Bad,
            "shown" => Tone::Good,
            _ => Tone::Notice,
        };
        let kind = Line::toned(tone, format!("{:<7}", fact.kind));
        output.line(kind.and(format!(" {}  ({})", fact.what, fact.why)));
    }
    Ok(ExitCode::SUCCESS)
}

/// What the draft command of an agent would see.
async fn explain_draft(
    agent: &AgentConfig,
    (folder, private): (&Path, &Path),
) -> anyhow::Result<Explained> {
    let cli = agent.draft.cli().with_context(|| {
        let id = &agent.id;
        format!("the agent `{id}` has no draft command: its drafts are recordings")
    })?;
    let limits = agent.sandbox.clone().shared_by(agent.slots);
    let socket = Path::new("(a socket of the agent's)");
    let reach = match &cli.model {
        Some(_) => Reach::Model(socket),
        None if cli.network => Reach::Host,
        None => Reach::Nothing,
    };
    let run = Run {
        folders: cli.folders.clone(),
        reach,
        ..Run::new(&cli.command, folder, private)
    };
    let sandbox = Sandbox::new(&limits, []);
    let mut explained = sandbox.explain(&run)?;
    explained.facts.extend(cli.facts());
    if agent.workspace.overlay {
        let checked = sandbox.check_overlay(&agent.workspace.root).await;
        let why = match checked {
            Ok(()) => "an overlay over a check-out that tasks share".to_owned(),
            Err(why) => format!("a check-out of its own: {why}"),
        };
        explained.facts.push(Fact::set("work tree", why));
    }
    Ok(explained)
}
