//! The process inside of a sandbox that forwards the proxy's loopback port to its unix socket.
//!
//! It is confined as the command is and can do nothing that the command can't. By the time the
//! command begins it is nobody's child but the first process's of the namespace, with which it
//! ends: a command that waits for all its children does not wait for this one.

use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus, Stdio};

use super::egress::Bridge;
use super::plan::{PROXY_PORT, PROXY_SOCKET};
use super::stage;

/// The argument of the process that forwards, not of the one that starts it.
const SERVE: &str = "serve";

/// Binds the port and has a process forward its connections: this program, started by these words.
pub(super) fn start(program: &[String]) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PROXY_PORT))?;
    let mut command = command(program, listener.into())?;
    check(command.arg(stage::BRIDGE).args(program).status()?)
}

/// Runs the stage: starts the process that forwards, by the words in the arguments, or is it.
pub(super) fn run(args: impl Iterator<Item = OsString>) -> ExitCode {
    let args: Vec<_> = args.collect();
    let listener = io::stdin().as_fd().try_clone_to_owned();
    let done = listener.and_then(|listener| match args.as_slice() {
        [argument] if argument == SERVE => serve(listener),
        program => {
            let mut command = command(program, listener)?;
            command.args([stage::BRIDGE, SERVE]).spawn().map(drop)
        }
    });
    if done.is_ok() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn serve(listener: OwnedFd) -> io::Result<()> {
    Bridge::on(TcpListener::from(listener), Path::new(PROXY_SOCKET))?.serve()
}

/// This very program, with the listener where its input would be and with none of the command's
/// outputs, which would not end before it does.
fn command(program: &[impl AsRef<OsStr>], listener: OwnedFd) -> io::Result<Command> {
    let (program, args) = program.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    #[expect(
        clippy::disallowed_methods,
        reason = "inside of the sandbox there is no supervisor; its namespace ends the process"
    )]
    let mut command = Command::new(program);
    command
        .args(args)
        .env_clear()
        .stdin(listener)
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

fn check(status: ExitStatus) -> io::Result<()> {
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("it ended with {status}")))
}
