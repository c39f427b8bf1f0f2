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
/// Said of a run whose supervisor can't say any more who is left.
const LOST: &str = "the process that oversees it was killed, by it or by the kernel";
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

/// A command's end that gives no result.
#[derive(Debug)]
pub(super) enum End {
    /// Processes of it may live on, for this reason.
    Unproven(String),
    /// It never ran.
    Failed(io::Error),
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
    ) -> Result<(Report, Option<T>), End> {
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
            Some(read) => read.map(|_| Report::from_line(&line)),
            None => {
                let supervisor = self.child.id();
                tracing::warn!(supervisor, "a command can't be ended");
                let why = "it can't be ended, not by SIGKILL either".to_owned();
                return Err(End::Unproven(why));
            }
        };
        match report.map_err(End::Failed)? {
            Some(report) => Ok((report, why)),
            None => Err(self.find_out().await),
        }
    }

    /// The supervisor ended without a word. One that could not begin says so by its exit code. One
    /// that was killed leaves nobody to say who is left: what carries its mark is found and ended,
    /// and a process that cleared its environment is not.
    async fn find_out(&mut self) -> End {
        let status = match self.child.wait().await {
            Ok(status) => status,
            Err(error) => return End::Failed(error),
        };
        if std::os::unix::process::ExitStatusExt::signal(&status).is_none() {
            return End::Failed(io::Error::other(format!("its supervisor failed: {status}")));
        }
        orphans::end_marked(&self.mark).await;
        End::Unproven(LOST.to_owned())
    }

    /// Waits until no descendant is left, which the supervisor's own end proves: it ends when it has
    /// reaped its last child, and whoever loses a parent becomes its child. In namespaces the last
    /// one is process 1 of the namespace, which the kernel lets be reaped only when that is empty.
    ///
    /// # Errors
    /// Why nobody knows that after this time.
    pub(super) async fn gone(&mut self, patience: Duration) -> Result<(), String> {
        let child = &mut self.child;
        let reports = &mut self.reports;
        let end = async {
            let mut rest = Vec::new();
            let _ = reports.read_to_end(&mut rest).await;
            child.wait().await
        };
        match tokio::time::timeout(patience, end).await {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Err(error)) => Err(format!("its end can't be waited for: {error}")),
            Ok(Ok(_)) => {
                orphans::end_marked(&self.mark).await;
                Err(LOST.to_owned())
            }
            Err(_) => {
                let supervisor = self.child.id();
                tracing::warn!(supervisor, "processes of a command can't be ended");
                let patience = patience.as_secs();
                Err(format!(
                    "after {patience} s of SIGKILL some are still there"
                ))
            }
        }
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

/// The file of the program that stages of a sandbox are run with.
pub(crate) fn own_file() -> io::Result<PathBuf> {
    let program = program()?;
    if program.starts_with("/proc") {
        return std::env::current_exe();
    }
    Ok(program)
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
