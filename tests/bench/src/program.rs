//! Processes of the release binary.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Stdio;

use anyhow::Context as _;
use patchfleet_testkit::github::Simulator;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

use crate::processes;

/// What agents of a benchmark show.
pub(crate) const KEY: &str = "benchmark";

/// A free port.
const ANYWHERE: &str = "127.0.0.1:0";

/// A running coordinator. Killed when dropped.
#[derive(Debug)]
pub(crate) struct Coordinator {
    child: Child,
    /// Where agents connect, `http://…`.
    pub(crate) fleet: String,
    /// Where webhooks and the API are, `http://…`.
    pub(crate) http: String,
    _folder: TempDir,
}

/// What a coordinator is beside.
struct Beside<'a> {
    database: &'a str,
    redis: Option<&'a str>,
    /// Where agents are to connect.
    fleet: &'a str,
    /// GitHub's address and token; nobody is there when absent.
    github: Option<(&'a str, &'a str)>,
}

impl<'a> Beside<'a> {
    /// A database and nothing else.
    const fn only(database: &'a str) -> Self {
        Self {
            database,
            redis: None,
            fleet: ANYWHERE,
            github: None,
        }
    }
}

impl Coordinator {
    /// Starts one on a new SQLite file, without a GitHub.
    pub(crate) async fn on_sqlite(program: &Path) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir()?;
        let database = format!("sqlite:{}", folder.path().join("tasks.db").display());
        Self::start(program, folder, Beside::only(&database)).await
    }

    /// Starts one on that database, of which that GitHub is.
    pub(crate) async fn of(
        program: &Path,
        database: &str,
        github: &Simulator,
    ) -> anyhow::Result<Self> {
        let token = github.bot_token();
        let beside = Beside {
            github: Some((github.base_url(), &token)),
            ..Beside::only(database)
        };
        Self::start(program, tempfile::tempdir()?, beside).await
    }

    /// Starts one on that database, where agents connect to that address, without a GitHub.
    pub(crate) async fn on(program: &Path, database: &str, fleet: &str) -> anyhow::Result<Self> {
        let beside = Beside {
            fleet,
            ..Beside::only(database)
        };
        Self::start(program, tempfile::tempdir()?, beside).await
    }

    /// The same with that Redis.
    pub(crate) async fn beside(
        program: &Path,
        (database, redis): (&str, &str),
        fleet: &str,
    ) -> anyhow::Result<Self> {
        let beside = Beside {
            redis: Some(redis),
            fleet,
            ..Beside::only(database)
        };
        Self::start(program, tempfile::tempdir()?, beside).await
    }

    /// Waits for the word that it is ready.
    async fn start(program: &Path, folder: TempDir, beside: Beside<'_>) -> anyhow::Result<Self> {
        let config = folder.path().join("patchfleet.toml");
        let url = folder.path().join("database");
        std::fs::write(&url, beside.database)?;
        let fleet = beside.fleet;
        let (api, token) = beside.github.unwrap_or(("http://127.0.0.1:9", KEY));
        let redis = beside
            .redis
            .map(|url| format!("[coordinator.redis]\nurl = '{url}'\n"));
        let text = format!(
            "[coordinator]\nlisten = '127.0.0.1:0'\n\
             [coordinator.fleet]\nlisten = '{fleet}'\nkey = '{KEY}'\n\
             [coordinator.database]\nurl = {{ file = '{}' }}\n\
             [coordinator.github]\napi_url = '{api}'\ntoken = '{token}'\n\
             webhook_secrets = ['{KEY}']\n[coordinator.api]\nkey = '{KEY}'\n{}",
            url.display(),
            redis.unwrap_or_default()
        );
        std::fs::write(&config, text)?;
        let config = config.display().to_string();
        let mut child = spawn(program, &["--json", "coordinator", "--config", &config])?;
        let out = child.stdout.take().context("its output is piped")?;
        let line = BufReader::new(out).lines().next_line().await?;
        let line = line.context("the coordinator ended at once")?;
        let ready: Value = serde_json::from_str(&line)?;
        let address = |of: &str| {
            let address = ready[of].as_str().context("it tells its addresses")?;
            anyhow::Ok(format!("http://{address}"))
        };
        Ok(Self {
            fleet: address("fleet")?,
            http: address("http")?,
            child,
            _folder: folder,
        })
    }

    /// Its resident memory in bytes.
    pub(crate) fn resident(&self) -> anyhow::Result<u64> {
        processes::resident(self.child.id())
    }

    /// What it has used of processors so far, in seconds.
    pub(crate) fn processor_seconds(&self) -> anyhow::Result<f64> {
        processes::own(self.child.id().context("the process has ended")?)
    }

    /// Kills it at once.
    pub(crate) async fn kill(mut self) -> anyhow::Result<()> {
        Ok(self.child.kill().await?)
    }
}

/// A program to be run.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "the benchmark's one door to spawning"
    )]
    Command::new(program)
}

/// Starts the binary with its output piped; it is killed when the handle is dropped.
pub(crate) fn spawn(program: &Path, args: &[&str]) -> anyhow::Result<Child> {
    command(program)
        .args(args)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("can't start {}", program.display()))
}
