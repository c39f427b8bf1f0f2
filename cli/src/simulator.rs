//! `patchfleet simulator github`: a GitHub on this machine, for flows, plugins and tests.
//!
//! It is the simulator of the demo and the tests, driven by GitHub's own REST and git with the
//! tokens that it prints. Repositories are copies; nothing outlives it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::str::FromStr;

use anyhow::{Context as _, ensure};
use clap::{Args, Subcommand};
use patchfleet_domain::RepositoryName;
use patchfleet_testkit::github::{Options, Permission, Simulator};
use secrecy::{ExposeSecret as _, SecretString};

use crate::output::Output;
use crate::runtime;

/// Administers every repository.
const MAINTAINER: &str = "maintainer";
/// May write to every repository: whose token Patchfleet has.
const BOT: &str = "patchfleet-bot";
/// May read what is public.
const OUTSIDER: &str = "outsider";
/// Calls that each caller has in an hour: enough for programs that look often.
const RATE_LIMIT: u64 = 1_000_000;

/// What to simulate.
#[derive(Debug, Args)]
pub(crate) struct SimulatorArgs {
    #[command(subcommand)]
    which: Which,
}

#[derive(Debug, Subcommand)]
enum Which {
    /// Run a GitHub: REST, git over HTTP, webhooks.
    Github(GithubArgs),
}

/// Where it is reached and what is there at first.
#[derive(Debug, Args)]
struct GithubArgs {
    /// Where to listen; port 0 is a free one.
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// A git repository to begin with a copy of; may be given several times.
    #[arg(long, value_name = "OWNER/NAME=PATH", required = true)]
    repository: Vec<Origin>,
    /// Where every event is delivered, `http://HOST:PORT/webhooks/github`.
    #[arg(long, value_name = "URL", requires = "secret")]
    webhook: Option<url::Url>,
    /// What deliveries are signed with.
    #[arg(
        long,
        value_name = "S",
        env = "PATCHFLEET_SIMULATOR_SECRET",
        hide_env_values = true
    )]
    secret: Option<SecretString>,
    /// End when the process that started this one ends.
    #[arg(long, hide = true)]
    end_with_parent: bool,
}

/// A repository and where it is copied from.
#[derive(Debug, Clone)]
struct Origin {
    name: RepositoryName,
    path: PathBuf,
}

impl FromStr for Origin {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, path) = text
            .split_once('=')
            .filter(|(_, path)| !path.is_empty())
            .context("it has the form OWNER/NAME=PATH")?;
        let name = name
            .parse()
            .with_context(|| format!("`{name}` is no OWNER/NAME"))?;
        let path = path.into();
        Ok(Self { name, path })
    }
}

/// Runs until it is told to end.
pub(crate) async fn run(args: SimulatorArgs, output: Output) -> anyhow::Result<ExitCode> {
    let Which::Github(args) = args.which;
    if args.end_with_parent {
        runtime::end_with_parent()?;
    }
    let shutdown = runtime::shutdown_on_signal()?;
    let github = Simulator::start_with(Options {
        listen: args.listen,
        bot_login: BOT.to_owned(),
        rate_limit: RATE_LIMIT,
        ..Options::default()
    })
    .await?;
    for origin in &args.repository {
        import(&github, origin)?;
    }
    if let (Some(url), Some(secret)) = (&args.webhook, &args.secret) {
        github.add_webhook(url.as_str(), secret.expose_secret());
    }
    announce(&github, output);
    shutdown.cancelled().await;
    github.shutdown().await;
    Ok(ExitCode::SUCCESS)
}

fn import(github: &Simulator, origin: &Origin) -> anyhow::Result<()> {
    let Origin { name, path } = origin;
    let source = repository_at(path).with_context(|| format!("--repository {name}"))?;
    github
        .import_repository(name.as_str(), &source.to_string_lossy())
        .with_context(|| format!("can't copy the repository {}", path.display()))?;
    github.set_permission(name.as_str(), MAINTAINER, Permission::Admin)?;
    Ok(())
}

/// The absolute path of a git repository, bare or with a work tree.
fn repository_at(path: &Path) -> anyhow::Result<PathBuf> {
    let found = path
        .canonicalize()
        .with_context(|| format!("can't find {}", path.display()))?;
    ensure!(
        found.join(".git").exists() || found.join("HEAD").is_file(),
        "{} is no git repository; make it one with `git init` and a commit",
        path.display()
    );
    Ok(found)
}

/// Says where it is and who is who.
fn announce(github: &Simulator, output: Output) {
    let api_url = github.base_url();
    github.add_user(OUTSIDER);
    let [maintainer, bot, outsider] =
        [MAINTAINER, BOT, OUTSIDER].map(|login| github.issue_token(login));
    output.object(&serde_json::json!({
        "event": "ready",
        "api_url": api_url,
        "tokens": { "maintainer": maintainer, "bot": bot, "outsider": outsider },
    }));
    output.line(format!(
        "simulated GitHub ready on {api_url}; tokens: \
         maintainer {maintainer}, bot {bot}, outsider {outsider}"
    ));
}
