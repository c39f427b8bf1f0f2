//! Being process 1, as in a container without an init.
//!
//! The kernel gives process 1 every orphan to reap, and no default action for signals. A service
//! that does neither gathers dead processes and can't be ended. So process 1 does only that, and
//! the program proper is its child.

use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Pid, getpid};

/// When this is process 1: runs this very program as a child, passes signals on and reaps, and
/// gives the child's exit code. Otherwise there is nothing to do.
///
/// # Errors
/// When the child can't be started or waited for.
pub fn be_init() -> io::Result<Option<ExitCode>> {
    if getpid() != Pid::from_raw(1) {
        // The child of such a process has inherited what that blocked.
        SigSet::all().thread_unblock()?;
        return Ok(None);
    }
    // Before the child is there, so that no signal is lost.
    let signals = SigSet::all();
    signals.thread_block()?;
    let child = start()?;
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                if let Some(code) = reap(child)? {
                    return Ok(Some(code.into()));
                }
            }
            // The terminal's, about this process only; and real-time signals, which have no name.
            Ok(Signal::SIGTTIN | Signal::SIGTTOU) | Err(_) => {}
            Ok(signal) => {
                // It may have ended at this very moment.
                let _ = kill(child, signal);
            }
        }
    }
}

fn start() -> io::Result<Pid> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the door: everything is spawned here"
    )]
    let mut command = Command::new("/proc/self/exe");
    let mut args = std::env::args_os();
    if let Some(name) = args.next() {
        command.arg0(name);
    }
    // In a group of its own, so that the terminal's keys reach it once, through this process.
    let child = command.args(args).process_group(0).spawn()?;
    i32::try_from(child.id())
        .map(Pid::from_raw)
        .map_err(io::Error::other)
}

/// Reaps whoever has ended; the exit code when the child has, 128 and the signal as shells say it.
fn reap(child: Pid) -> io::Result<Option<u8>> {
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG))? {
            WaitStatus::StillAlive => return Ok(None),
            WaitStatus::Exited(pid, code) if pid == child => {
                return Ok(Some(u8::try_from(code).unwrap_or(u8::MAX)));
            }
            WaitStatus::Signaled(pid, signal, _) if pid == child => {
                return Ok(Some(128 + u8::try_from(signal as i32).unwrap_or_default()));
            }
            _ => {}
        }
    }
}
