//! A supervisor as the agent sees it: started, fed, awaited, let go.
//!
//! The agent's end of the socket is the command's lifeline. Whatever closes it ends the command
//! with all its descendants: letting go, dropping this value, the death of the agent.

use std::ffi::OsString;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as Socket;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use command_fds::{CommandFdExt as _, FdMapping};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedReadHalf;
use tokio::process::{Child, ChildStderr, ChildStdout, Command};
use tokio::task::JoinSet;

use super::orphans::{self, Mark};
use super::protocol::{Order, Report};
use super::supervise::can_supervise;
use super::{GRACE, is_executable};

/// How long a command that was let go may take beyond its grace. Only one that hangs in the
/// kernel takes longer; its supervisor stays with it.
const PATIENCE: Duration = Duration::from_secs(5);
/// The supervisor of programs that are none themselves: tests.
const HELPER: &str = "patchfleet-supervise";

/// A command that runs.
pub(super) struct Supervised {
    child: Child,
    mark: Mark,
    reports: BufReader<OwnedReadHalf>,
    /// The one task that has the other half of the socket.
    lifeline: JoinSet<()>,
}

/// Where, and with what.
pub(super) struct Surroundings<'a> {
    pub(super) cwd: &'a Path,
    pub(super) env: &'a [(OsString, OsString)],
    /// The command inherits them from its supervisor.
    pub(super) descriptors: Vec<FdMapping>,
    pub(super) input: Vec<u8>,
}

impl Supervised {
    /// Starts a supervisor, which starts the command.
    pub(super) fn start(order: &Order, mut surroundings: Surroundings<'_>) -> io::Result<Self> {
        let (ours, theirs) = Socket::pair()?;
        ours.set_nonblocking(true)?;
        let mark = Mark::new()?;
        let child = spawn(order, &mut surroundings, (theirs, &mark))?;
        let (reports, mut lifeline) = UnixStream::from_std(ours)?.into_split();
        let mut supervised = Self {
            child,
            mark,
            reports: BufReader::new(reports),
            lifeline: JoinSet::new(),
        };
        let input = surroundings.input;
        supervised.lifeline.spawn(async move {
            // The supervisor takes it all, whether the command reads it or not.
            let _ = lifeline.write_all(&input).await;
            std::future::pending::<()>().await;
        });
        Ok(supervised)
    }

    /// The supervisor's process number, while it lives.
    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    pub(super) fn outputs(&mut self) -> (Option<ChildStdout>, Option<ChildStderr>) {
        (self.child.stdout.take(), self.child.stderr.take())
    }

    /// Waits for the end of the command; when `enough` comes first, asks it and all its
    /// descendants to end, then ends them. Says which it was.
    pub(super) async fn wait<T>(
        &mut self,
        enough: impl Future<Output = T>,
    ) -> io::Result<(Report, Option<T>)> {
        let mut line = String::new();
        let (why, read) = {
            let mut report = std::pin::pin!(self.reports.read_line(&mut line));
            tokio::select! {
                read = &mut report => (None, Some(read)),
                why = enough => {
                    self.lifeline.abort_all();
                    (Some(why), tokio::time::timeout(GRACE + PATIENCE, report).await.ok())
                }
            }
        };
        let report = match read {
            Some(read) => read.map(|_| Report::from_line(&line))?,
            None => {
                tracing::warn!(supervisor = self.child.id(), "a command can't be ended");
                Some(Report::Killed(nix::libc::SIGKILL))
            }
        };
        match report {
            Some(report) => Ok((report, why)),
            None => self.find_out().await.map(|report| (report, why)),
        }
    }

    /// The supervisor ended without a word: somebody killed it. The command is not told apart
    /// from it, and what it left is found by its mark.
    async fn find_out(&mut self) -> io::Result<Report> {
        let status = self.child.wait().await?;
        orphans::end_marked(&self.mark).await;
        match std::os::unix::process::ExitStatusExt::signal(&status) {
            Some(signal) => Ok(Report::Killed(signal)),
            None => Err(io::Error::other(format!("its supervisor failed: {status}"))),
        }
    }

    /// Waits until no descendant is left.
    pub(super) async fn gone(&mut self) {
        let mut rest = Vec::new();
        let _ = self.reports.read_to_end(&mut rest).await;
        let _ = self.child.wait().await;
    }
}

fn spawn(
    order: &Order,
    surroundings: &mut Surroundings<'_>,
    (socket, mark): (Socket, &Mark),
) -> io::Result<Child> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the door: everything is spawned here"
    )]
    let mut command = Command::new(program()?);
    command
        .arg0(HELPER)
        .args(order.to_args())
        .current_dir(surroundings.cwd)
        .env_clear()
        .envs(surroundings.env.iter().map(|(name, value)| (name, value)))
        .env(orphans::VARIABLE, mark.as_str())
        .stdin(Stdio::from(OwnedFd::from(socket)))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let descriptors = std::mem::take(&mut surroundings.descriptors);
    if !descriptors.is_empty() {
        // Something to do between fork and exec: without it there is no fork, which copies the page
        // tables of this process, but `posix_spawn`.
        command.fd_mappings(descriptors).map_err(io::Error::other)?;
    }
    command.spawn()
}

/// This very program, also when its file was replaced meanwhile; for tests, the helper that is
/// built beside them.
fn program() -> io::Result<PathBuf> {
    if can_supervise() {
        return Ok("/proc/self/exe".into());
    }
    let exe = std::env::current_exe()?;
    let mut beside = exe.ancestors().skip(1).take(2).map(|it| it.join(HELPER));
    beside.find(|path| is_executable(path)).ok_or_else(|| {
        let exe = exe.display();
        io::Error::other(format!(
            "{exe} is no supervisor and `{HELPER}` is not beside it; build it with \
             `cargo build -p patchfleet-agent --bins`"
        ))
    })
}
