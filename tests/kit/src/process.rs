//! The parts of a fleet as real processes: the `patchfleet` program, started as coordinator or agent.
//!
//! They end with the process that started them, however it ends. Logs are appended to, so that a
//! part that is killed and started again tells its whole story in one file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// How long a process may take to say that it is ready.
const START_DEADLINE: Duration = Duration::from_secs(30);

/// A running part of the fleet. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Child,
}

/// What to start.
#[derive(Debug)]
pub struct Start<'a> {
    /// The `patchfleet` program.
    pub program: &'a Path,
    /// For people and for the log file's name.
    pub name: &'a str,
    /// Subcommand and its arguments.
    pub args: Vec<String>,
    /// Secrets, which must not stand in a file.
    pub secrets: Vec<(&'static str, String)>,
    /// Where the log goes.
    pub folder: &'a Path,
}

/// The coordinator's word that it can be reached.
#[derive(Debug, Clone, Copy, Deserialize)]
pub struct Ready {
    /// Webhooks and API.
    pub http: SocketAddr,
    /// Agents.
    pub fleet: SocketAddr,
}

impl Process {
    /// Starts the program with a subcommand; its log goes to `<folder>/<name>.log`.
    ///
    /// # Errors
    /// When the log can't be written or the program can't be started.
    pub fn start(start: Start<'_>) -> anyhow::Result<Self> {
        let log = start.folder.join(format!("{}.log", start.name));
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .with_context(|| format!("can't write the log {}", log.display()))?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the test kit's door to the product's own processes"
        )]
        let child = Command::new(start.program)
            .args(&start.args)
            .args(["--json", "--end-with-parent"])
            .envs(start.secrets)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(file)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("can't start the {}", start.name))?;
        Ok(Self {
            name: start.name.to_owned(),
            log,
            child,
        })
    }

    /// Waits until the process says where it can be reached; only a coordinator does.
    ///
    /// # Errors
    /// When it ends or says something else first; the end of its log is told.
    pub async fn ready(&mut self) -> anyhow::Result<Ready> {
        self.ready_as().await
    }

    /// The same for another kind of process, whose word has another form.
    ///
    /// # Errors
    /// When it ends or says something else first; the end of its log is told.
    pub async fn ready_as<T: DeserializeOwned>(&mut self) -> anyhow::Result<T> {
        let out = self
            .child
            .stdout
            .take()
            .context("its output was read before")?;
        let mut lines = BufReader::new(out).lines();
        let line = tokio::time::timeout(START_DEADLINE, lines.next_line())
            .await
            .with_context(|| {
                format!(
                    "the {} said nothing; its log is {}",
                    self.name,
                    self.log.display()
                )
            })??;
        match line {
            Some(line) => serde_json::from_str(&line).with_context(|| {
                format!(
                    "the {} said `{line}`, which is not that it is ready",
                    self.name
                )
            }),
            None => bail!("the {} ended: {}", self.name, last_lines(&self.log)),
        }
    }

    /// Looks whether it still runs.
    ///
    /// # Errors
    /// When the process has ended, with what it said last.
    pub fn check(&mut self) -> anyhow::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => {
                bail!(
                    "the {} ended ({status}): {}",
                    self.name,
                    last_lines(&self.log)
                )
            }
        }
    }

    /// Asks the process to end with SIGTERM, as a service manager would, and waits until it has.
    ///
    /// # Errors
    /// When it can't be asked, or does not end with success.
    pub async fn end(mut self) -> anyhow::Result<()> {
        self.signal(nix::sys::signal::Signal::SIGTERM)?;
        let status = self.child.wait().await?;
        if !status.success() {
            bail!(
                "the {} ended with {status}: {}",
                self.name,
                last_lines(&self.log)
            );
        }
        Ok(())
    }

    /// Ends the process with SIGKILL, as a power cut would, and waits until it has ended.
    pub async fn kill(mut self) {
        // It ends anyway when this process does; there is nobody to tell a failure to.
        let _ = self.child.kill().await;
    }

    /// Stops the process where it is, as an overloaded or sleeping machine would.
    ///
    /// # Errors
    /// When it has ended.
    pub fn freeze(&self) -> anyhow::Result<()> {
        self.signal(nix::sys::signal::Signal::SIGSTOP)
    }

    /// Lets it go on.
    ///
    /// # Errors
    /// When it has ended.
    pub fn thaw(&self) -> anyhow::Result<()> {
        self.signal(nix::sys::signal::Signal::SIGCONT)
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it has ended.
    pub fn signal(&self, signal: nix::sys::signal::Signal) -> anyhow::Result<()> {
        let id = self.pid().context("it has ended before")?;
        let id = nix::unistd::Pid::from_raw(i32::try_from(id)?);
        Ok(nix::sys::signal::kill(id, signal)?)
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Errors
    /// When it can't be waited for.
    pub async fn ended(&mut self) -> anyhow::Result<ExitStatus> {
        Ok(self.child.wait().await?)
    }

    /// The process's number, for people who want to look at it.
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// What it is.
    pub fn name(&self) -> &str {
        &self.name
    }
}

/// The end of a log, on one line.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(5).collect();
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    lines.into_iter().rev().collect::<Vec<_>>().join(" | ")
}
