//! The supervisor: a process of this very program between the agent and each of its commands.
//!
//! Nothing that a command starts outlives the command, and no command outlives the agent. Leaving
//! the process group (`setsid`) or the parent (a double fork) does not help: the supervisor is a
//! child subreaper, so whoever loses its parent becomes its child. It ends everything below it
//! when the command has ended, and also when the agent closes its end of the socket, which the
//! kernel does for an agent that dies, however it dies. `PR_SET_PDEATHSIG` would not do: it fires
//! when the *thread* that started a process ends.
//!
//! Absent: defence against a command that kills its supervisor, which has the same user. What it
//! leaves behind is found by its mark ([`super::orphans`]).

use std::ffi::OsString;
use std::io;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStdin, Command, ExitCode, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::prctl::set_child_subreaper;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid, setsid};

use super::protocol::{Order, Report, SUBCOMMAND};
use super::{GRACE, Limits, table};

/// How long after a SIGKILL to descendants is looked for others.
const AGAIN: Duration = Duration::from_millis(5);

/// This program can be its own supervisor: its `main` begins with [`enter`].
static ENTERED: OnceLock<()> = OnceLock::new();

/// The first thing in `main`: a process that was started as a supervisor is one, and ends here
/// with its exit code.
pub fn enter() -> Option<ExitCode> {
    ENTERED.get_or_init(|| ());
    let mut args = std::env::args_os().skip(1);
    if args.next()? != SUBCOMMAND {
        return None;
    }
    Some(supervise(args))
}

pub(super) fn can_supervise() -> bool {
    ENTERED.get().is_some()
}

/// What happens to a supervisor.
enum Event {
    /// The agent closed its end, or is dead.
    Released,
    /// The command ended, and whether it was the last descendant.
    Ended(WaitStatus, bool),
    /// No descendant is left.
    Alone,
}

fn supervise(args: impl Iterator<Item = OsString>) -> ExitCode {
    let Some(order) = Order::from_args(args) else {
        return ExitCode::FAILURE;
    };
    let Ok(mut socket) = socket() else {
        return ExitCode::FAILURE;
    };
    match begin(&order, &socket) {
        Ok(events) => oversee(&events, &mut socket, order.linger),
        Err(error) => report(&mut socket, Report::not_started(&error)),
    }
    ExitCode::SUCCESS
}

/// Standard input, which is a socket.
fn socket() -> io::Result<UnixStream> {
    Ok(io::stdin().as_fd().try_clone_to_owned()?.into())
}

fn begin(order: &Order, socket: &UnixStream) -> io::Result<Receiver<Event>> {
    // Out of reach of the terminal's keys, and so is the command, which then can't ask there.
    setsid()?;
    set_child_subreaper(true)?;
    if let Some(limits) = order.limits {
        limit(limits)?;
    }
    let socket = socket.try_clone()?;
    let mut child = start(order)?;
    // Only now: the command would inherit it. A service manager that asks all processes of the
    // service to end asks the agent as well, which decides; and the commands themselves.
    SigSet::all().thread_block()?;
    let (events, received) = channel();
    let command = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let (input, stdin) = (order.input, child.stdin.take());
    let released = events.clone();
    thread::Builder::new().spawn(move || hold(socket, (input, stdin), &released))?;
    thread::Builder::new().spawn(move || reap(command, &events))?;
    Ok(received)
}

/// Sets kernel limits on this process, for all below it; never above what it has.
fn limit(limits: Limits) -> io::Result<()> {
    for (resource, wanted) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, limits.file_size),
        (Resource::RLIMIT_NOFILE, limits.open_files),
    ] {
        let (_, hard) = getrlimit(resource)?;
        let value = wanted.min(hard);
        setrlimit(resource, value, value)?;
    }
    Ok(())
}

fn start(order: &Order) -> io::Result<Child> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the door: everything is spawned here"
    )]
    let mut command = Command::new(&order.program);
    command
        .args(&order.args)
        .stdin(match order.input {
            0 => Stdio::null(),
            _ => Stdio::piped(),
        })
        // A command that signals its own group does not hit the supervisor.
        .process_group(0)
        .spawn()
}

/// Passes the input on, then waits until the agent closes its end.
fn hold(
    mut socket: UnixStream,
    (length, stdin): (usize, Option<ChildStdin>),
    events: &Sender<Event>,
) {
    let mut input = vec![0; length];
    let mut open = socket.read_exact(&mut input).is_ok();
    if let (true, Some(mut stdin)) = (open, stdin) {
        // A thread of its own: a command that does not read must not keep this one from the
        // socket. It has its reasons, and there is nobody to tell.
        let write = move || drop(stdin.write_all(&input));
        let _ = thread::Builder::new().spawn(write);
    }
    while open {
        open = matches!(socket.read(&mut [0; 64]), Ok(1..));
    }
    let _ = events.send(Event::Released);
}

/// Reaps all children, own and inherited. When none is left, no descendant is: one whose parent
/// has ended is a child.
fn reap(command: Pid, events: &Sender<Event>) {
    loop {
        match waitpid(None, None) {
            Ok(status) if status.pid() == Some(command) => {
                let is_last = has_no_children();
                let _ = events.send(Event::Ended(status, is_last));
                if is_last {
                    return;
                }
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => {
                let _ = events.send(Event::Alone);
                return;
            }
        }
    }
}

/// Reaps who has ended already; true when there are no children then, and so no descendants.
fn has_no_children() -> bool {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return false,
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return true,
        }
    }
}

/// Until nobody is left. After the command's own end whoever is left is killed, at once unless it
/// may linger; when the agent lets go, all are asked to end first.
fn oversee(events: &Receiver<Event>, socket: &mut UnixStream, linger: Duration) {
    let mut kill_at: Option<Instant> = None;
    loop {
        let event = match kill_at {
            None => events.recv().map_err(|_| RecvTimeoutError::Disconnected),
            Some(at) => events.recv_timeout(at.saturating_duration_since(Instant::now())),
        };
        match event {
            Ok(Event::Ended(status, is_last)) => {
                report(socket, Report::of(status));
                if is_last {
                    return;
                }
                kill_at.get_or_insert_with(|| Instant::now() + linger);
            }
            Ok(Event::Released) => {
                signal_descendants(Signal::SIGTERM);
                kill_at.get_or_insert_with(|| Instant::now() + GRACE);
            }
            Ok(Event::Alone) | Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => {
                signal_descendants(Signal::SIGKILL);
                kill_at = Some(Instant::now() + AGAIN);
            }
        }
    }
}

fn signal_descendants(signal: Signal) {
    let descendants = table::descendants(&[getpid()], &table::all());
    table::signal(&descendants, signal);
}

/// An agent that is dead is told nothing.
fn report(socket: &mut UnixStream, report: Report) {
    let _ = socket.write_all(report.to_line().as_bytes());
}
