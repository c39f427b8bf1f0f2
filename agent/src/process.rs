//! The one spawner: every child process of the agent starts here.
//!
//! A child gets a clean environment (only what is named), a timeout and an output cap, and a
//! supervisor (`supervise`) between the agent and it: all its descendants are dead when
//! [`Spawn::run`] returns, or it returns [`SpawnError::Left`]; and they die when the future is
//! dropped or the agent dies, however it dies.
//! There is no shell anywhere: arguments go to the program as they are.
//!
//! Absent: isolation (see [`crate::sandbox`]).

mod capture;
mod init;
mod meter;
mod orphans;
mod program;
mod protocol;
mod supervise;
mod supervisor;
mod table;

use std::ffi::OsString;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use capture::Capture;
use command_fds::FdMapping;
pub use init::be_init;
pub use meter::Meter;
pub use orphans::end_orphans;
pub(crate) use orphans::{VARIABLE as MARK, is_orphaned, is_own_program, new_mark};
pub use program::find_program;
use protocol::{Order, Report};
pub use supervise::enter;
pub(crate) use supervisor::own_file;
use supervisor::{End, Supervised, Surroundings};

/// How long a command and its descendants may take to end after SIGTERM before SIGKILL.
const GRACE: Duration = Duration::from_secs(2);
/// How long is waited for the last descendants after the command's end. They are killed again and
/// again meanwhile; only those that hang in the kernel, or start others faster than they are
/// killed, need it.
const PATIENCE: Duration = Duration::from_secs(10);
/// Called with every line of output, as it comes; must not block.
pub type OnLine = Arc<dyn Fn(&str) + Send + Sync>;

/// What the child reads from its standard input.
#[derive(Debug, Default)]
pub enum Input {
    /// The end of the file at once.
    #[default]
    Nothing,
    /// These bytes.
    Bytes(Vec<u8>),
}

/// Limits that the kernel enforces on the child and all its descendants, each on its own.
///
/// Limits on memory and on the number of processes need isolation to be meaningful and are absent
/// here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest file that may be written, in bytes.
    pub file_size: u64,
    /// Most files open at a time.
    pub open_files: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_size: 1 << 30,
            open_files: 4096,
        }
    }
}

/// One child process to be.
pub struct Spawn {
    program: OsString,
    args: Vec<OsString>,
    cwd: PathBuf,
    env: Vec<(OsString, OsString)>,
    input: Input,
    descriptors: Vec<FdMapping>,
    timeout: Duration,
    stop: CancellationToken,
    output_cap: usize,
    limits: Option<Limits>,
    linger: Duration,
    redacted: bool,
    meter: Option<Meter>,
    on_line: Option<OnLine>,
    on_error_line: Option<OnLine>,
}

/// How a child ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; absent when a signal ended it.
    pub returncode: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The end of standard output, at most the cap.
    pub stdout: Vec<u8>,
    /// The end of standard error, at most the cap.
    pub stderr: Vec<u8>,
    /// Bytes that were dropped from the beginning of standard output.
    pub stdout_dropped: u64,
    /// Bytes that were dropped from the beginning of standard error.
    pub stderr_dropped: u64,
    /// Wall time.
    pub duration: Duration,
    /// The timeout ended it.
    pub timed_out: bool,
}

/// A child could not be started or was called off.
#[derive(Debug, thiserror::Error)]
pub enum SpawnError {
    /// There is no such program.
    #[error("the program `{program}` does not exist on this host or is not executable")]
    NotFound {
        /// As it was asked for.
        program: String,
    },
    /// The system refused.
    #[error("`{program}` can't be run: {source}")]
    Failed {
        /// As it was asked for.
        program: String,
        /// Why.
        source: std::io::Error,
    },
    /// The caller called it off; it is dead.
    #[error("it was called off")]
    Cancelled,
    /// Nobody can say that all its processes are dead, so whatever it worked on may still change.
    #[error(
        "`{program}` has ended, but processes that it started may live on: {why}; what it worked \
         on is not used. Look on the agent's host for processes in the state D (`ps -eo \
         pid,stat,wchan,args`), for a file system that hangs, and for a lack of memory"
    )]
    Left {
        /// The program, as the caller named it.
        program: String,
        /// What is known of the processes that are left.
        why: String,
    },
}

impl Spawn {
    /// A program, to be run in a folder. Without further ado it sees only `PATH` and `LANG`.
    pub fn new(program: impl Into<OsString>, cwd: impl Into<PathBuf>) -> Self {
        Self {
            program: program.into(),
            args: Vec::new(),
            cwd: cwd.into(),
            env: vec![
                ("PATH".into(), program::search_path()),
                ("LANG".into(), "C.UTF-8".into()),
            ],
            input: Input::Nothing,
            descriptors: Vec::new(),
            timeout: Duration::from_mins(1),
            stop: CancellationToken::new(),
            output_cap: 1 << 20,
            limits: None,
            linger: Duration::ZERO,
            redacted: false,
            meter: None,
            on_line: None,
            on_error_line: None,
        }
    }

    /// This very program, also when its file was replaced meanwhile: its supervisor's, which is the
    /// same one. For hidden subcommands.
    pub fn own(cwd: impl Into<PathBuf>) -> Self {
        Self::new("/proc/self/exe", cwd)
    }

    /// Appends arguments.
    pub fn args<A: Into<OsString>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Sets a variable of the environment; the last one with a name counts.
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.env.push((name.into(), value.into()));
        self
    }

    /// Sets what the child reads.
    pub fn input(mut self, input: Input) -> Self {
        self.input = input;
        self
    }

    /// Has the child, and no other child that starts meanwhile, inherit a descriptor as `number`.
    pub fn descriptor(mut self, number: i32, descriptor: OwnedFd) -> Self {
        self.descriptors.push(FdMapping {
            parent_fd: descriptor,
            child_fd: number,
        });
        self
    }

    /// Ends the child after this time; without it, after a minute.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Ends the child when this fires. Unlike one that is called off it has a result: what it said
    /// until then. Whoever fires knows why.
    pub fn stop(mut self, stop: CancellationToken) -> Self {
        self.stop = stop;
        self
    }

    /// Keeps so many bytes of the end of each output; without it, 1 MiB.
    pub fn output_cap(mut self, bytes: usize) -> Self {
        self.output_cap = bytes;
        self
    }

    /// Sets kernel limits.
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = Some(limits);
        self
    }

    /// Lets what the child started go on for this long after the child's own end; without it,
    /// whoever is left is killed at once. For programs that have another process tidy up.
    pub fn linger(mut self, linger: Duration) -> Self {
        self.linger = linger;
        self
    }

    /// Takes secrets out of the output before it is kept or reported, wherever its pieces end.
    /// The output is text then: bytes that are not UTF-8 are replaced.
    pub fn redacted(mut self) -> Self {
        self.redacted = true;
        self
    }

    /// Has the processor time of the child and all its descendants counted.
    pub fn meter(mut self, meter: Meter) -> Self {
        self.meter = Some(meter);
        self
    }

    /// Has every line of output reported while it comes.
    pub fn on_line(mut self, on_line: OnLine) -> Self {
        self.on_line = Some(on_line);
        self
    }

    /// Has the lines of standard error reported here, and not with the others.
    pub fn on_error_line(mut self, on_line: OnLine) -> Self {
        self.on_error_line = Some(on_line);
        self
    }

    /// Runs the child to its end.
    ///
    /// # Errors
    /// When it can't be started, `cancel` fires, or processes of it may be left, which comes
    /// before all else. A failing exit code, a signal and a timeout are results, not errors.
    pub async fn run(mut self, cancel: &CancellationToken) -> Result<Finished, SpawnError> {
        let started = Instant::now();
        let mut child = self.start()?;
        if let Some(meter) = &self.meter {
            meter.begin(child.id());
        }
        let (stdout, stderr) = child.outputs();
        let (mut io, gone) = (JoinSet::new(), CancellationToken::new());
        let stdout = self.capture((stdout, self.on_line.clone()), (&mut io, &gone));
        let on_error_line = self.on_error_line.clone().or_else(|| self.on_line.clone());
        let stderr = self.capture((stderr, on_error_line), (&mut io, &gone));

        let enough = async {
            tokio::select! {
                () = tokio::time::sleep(self.timeout) => Enough::TimedOut,
                () = cancel.cancelled() => Enough::Cancelled,
                () = self.stop.cancelled() => Enough::Stopped,
            }
        };
        let end = child.wait(enough).await;
        let (report, enough) = match end {
            Ok(end) => end,
            Err(End::Unproven(why)) => return Err(self.left(why)),
            Err(End::Failed(source)) => return Err(self.failed(source)),
        };
        child
            .gone(PATIENCE + self.linger)
            .await
            .map_err(|why| self.left(why))?;
        gone.cancel();
        while io.join_next().await.is_some() {}
        if enough == Some(Enough::Cancelled) {
            return Err(SpawnError::Cancelled);
        }
        let (returncode, signal) = match report {
            Report::Exited(code) => (Some(code), None),
            Report::Killed(signal) => (None, Some(signal)),
            Report::NotStarted(errno) => {
                return Err(self.failed(std::io::Error::from_raw_os_error(errno)));
            }
        };
        let ((stdout, stdout_dropped), (stderr, stderr_dropped)) = (stdout.take(), stderr.take());
        Ok(Finished {
            returncode,
            signal,
            stdout,
            stderr,
            stdout_dropped,
            stderr_dropped,
            duration: started.elapsed(),
            timed_out: enough == Some(Enough::TimedOut),
        })
    }

    fn start(&mut self) -> Result<Supervised, SpawnError> {
        let path = program::resolve(&self.program, &self.cwd, &self.env).ok_or_else(|| {
            SpawnError::NotFound {
                program: self.name(),
            }
        })?;
        let input = match std::mem::take(&mut self.input) {
            Input::Nothing => Vec::new(),
            Input::Bytes(bytes) => bytes,
        };
        let order = Order {
            input: input.len(),
            limits: self.limits,
            linger: self.linger,
            program: path.into(),
            args: std::mem::take(&mut self.args),
        };
        let surroundings = Surroundings {
            cwd: &self.cwd,
            env: &self.env,
            descriptors: std::mem::take(&mut self.descriptors),
            input,
        };
        Supervised::start(&order, surroundings).map_err(|source| self.failed(source))
    }

    fn capture<R>(
        &self,
        (pipe, on_line): (Option<R>, Option<OnLine>),
        (io, gone): (&mut JoinSet<()>, &CancellationToken),
    ) -> Capture
    where
        R: tokio::io::AsyncRead + Unpin + Send + 'static,
    {
        let capture = Capture::new(self.output_cap, self.redacted);
        if let Some(pipe) = pipe {
            io.spawn(capture.clone().read(pipe, on_line, gone.clone()));
        }
        capture
    }

    fn name(&self) -> String {
        self.program.to_string_lossy().into_owned()
    }

    fn left(&self, why: String) -> SpawnError {
        SpawnError::Left {
            program: self.name(),
            why,
        }
    }

    fn failed(&self, source: std::io::Error) -> SpawnError {
        SpawnError::Failed {
            program: self.name(),
            source,
        }
    }
}

/// Arguments and variables stay out: they may be long, and variables may be secret.
impl fmt::Debug for Spawn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spawn")
            .field("program", &self.program)
            .field("cwd", &self.cwd)
            .finish_non_exhaustive()
    }
}

impl Finished {
    /// The exit code is 0.
    pub fn succeeded(&self) -> bool {
        self.returncode == Some(0) && !self.timed_out
    }

    /// Standard output as text, marked when its beginning was dropped.
    pub fn stdout_text(&self) -> String {
        text(&self.stdout, self.stdout_dropped)
    }

    /// Standard error as text, marked when its beginning was dropped.
    pub fn stderr_text(&self) -> String {
        text(&self.stderr, self.stderr_dropped)
    }
}

fn text(bytes: &[u8], dropped: u64) -> String {
    let kept = String::from_utf8_lossy(bytes);
    match dropped {
        0 => kept.into_owned(),
        _ => format!("[{dropped} bytes before this were dropped]\n{kept}"),
    }
}

/// Why a child was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Enough {
    TimedOut,
    Cancelled,
    Stopped,
}

/// True when the path names a file that this process may execute.
pub(crate) fn is_executable(path: &Path) -> bool {
    path.is_file() && nix::unistd::access(path, nix::unistd::AccessFlags::X_OK).is_ok()
}

#[cfg(test)]
mod tests;
