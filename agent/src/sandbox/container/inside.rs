//! The first process of a container: takes the agent's order, has the command as its child, reaps
//! whoever is left without a parent, and tells the agent how the command ended.
//!
//! The command becomes what it is in the stage that the namespaces' backend has too
//! (`sandbox/inside.rs`). It has the same user as this process, which therefore lets nobody look
//! into it; that nobody inside can signal process 1 is the kernel's rule.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio, exit};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use command_fds::{CommandFdExt as _, FdMapping};
use nix::errno::Errno;
use nix::sys::prctl::set_dumpable;
use nix::sys::signal::kill;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::control::{self, Order};
use crate::sandbox::plan::{OWN, WORKSPACE};
use crate::sandbox::stage::{self, FAILED, Fault};

/// Signals end a command with this and their number, as shells have it.
const BY_SIGNAL: i32 = 128;
/// The first signal that has no name.
const REAL_TIME: i32 = 32;

/// Runs the command of the agent's order.
pub(in crate::sandbox) fn run() -> ExitCode {
    match oversee() {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            // The engine passes it on, and without a report the run counts as failed.
            let _ = writeln!(io::stderr(), "patchfleet: in the container: {error}");
            ExitCode::from(FAILED)
        }
    }
}

fn oversee() -> io::Result<u8> {
    let socket = Path::new(OWN).join(control::NAME);
    let mut control = UnixStream::connect(&socket).map_err(|error| {
        let hint = "with gVisor, the runtime needs `--host-uds=open`";
        io::Error::other(format!("{}: {error} ({hint})", socket.display()))
    })?;
    let order = Order::read(&mut control)?;
    let (mut report, writer) = stage::report()?;
    let plan = serde_json::to_vec(&order.plan).map_err(io::Error::other)?;
    let plan = stage::memory(&plan)?;
    // From here on nobody of this user may look into this process.
    set_dumpable(false)?;
    let is_over = Arc::new(AtomicBool::new(false));
    let agent = watch(control.try_clone()?, Arc::clone(&is_over))?;
    let code = match start(&order, (plan, writer.into())) {
        Ok(child) => wait(child)?,
        Err(fault) => {
            let line = serde_json::json!({ "fault": fault });
            control.write_all(format!("{line}\n").as_bytes())?;
            i32::from(FAILED)
        }
    };
    let mut said = String::new();
    report.read_to_string(&mut said)?;
    is_over.store(true, Ordering::Release);
    control.write_all(said.as_bytes())?;
    control.write_all(control::last_line(code).as_bytes())?;
    let _ = agent.join();
    Ok(u8::try_from(code).unwrap_or(u8::MAX))
}

/// Waits for the agent to hang up. When it does so before the command's end, it is gone, or wants
/// all of this to be gone.
fn watch(mut control: UnixStream, is_over: Arc<AtomicBool>) -> io::Result<thread::JoinHandle<()>> {
    thread::Builder::new().spawn(move || {
        while matches!(control.read(&mut [0; 16]), Ok(1..)) {}
        if !is_over.load(Ordering::Acquire) {
            exit(i32::from(FAILED));
        }
    })
}

/// Starts the stage that becomes the command.
fn start(order: &Order, (plan, report): (File, File)) -> Result<Pid, Fault> {
    let failed =
        |what: &str, error: io::Error| Fault::new(stage::CONTAINED, format!("{what}: {error}"));
    let folder = Path::new(WORKSPACE).join(&order.plan.folder);
    std::env::set_current_dir(&folder)
        .map_err(|error| failed(&folder.display().to_string(), error))?;
    let (program, args) = order
        .plan
        .program
        .split_first()
        .ok_or_else(|| Fault::new(stage::CONTAINED, "there is no program to start"))?;
    #[expect(
        clippy::disallowed_methods,
        reason = "inside of the container there is no supervisor; its end ends the process"
    )]
    let mut command = Command::new(program);
    // An engine may have settings that put the addresses of proxies, with passwords, in here.
    let image = std::env::vars_os().filter(|(name, _)| {
        let name = name.to_string_lossy().to_ascii_lowercase();
        !name.ends_with("_proxy")
    });
    command
        .args(args)
        .args([stage::INIT, &stage::STATUS.to_string()])
        .env_clear()
        .env("LANG", "C.UTF-8")
        .envs(image)
        .envs(order.env.iter().map(|(name, value)| (name, value)))
        .stdin(input(order).map_err(|error| failed("its input", error))?);
    let mapping = |file: File, number| FdMapping {
        parent_fd: file.into(),
        child_fd: number,
    };
    let mappings = vec![mapping(plan, stage::PLAN), mapping(report, stage::STATUS)];
    let mapped = command.fd_mappings(mappings);
    mapped.map_err(|error| failed("descriptors", io::Error::other(error)))?;
    let child = command.spawn().map_err(|error| failed(program, error))?;
    let pid = i32::try_from(child.id()).map_err(io::Error::other);
    pid.map(Pid::from_raw)
        .map_err(|error| failed(program, error))
}

/// The command's standard input.
fn input(order: &Order) -> io::Result<Stdio> {
    if order.input.is_empty() {
        return Ok(Stdio::null());
    }
    Ok(stage::memory(&order.input)?.into())
}

/// Reaps until the child has ended; its exit code, or 128 and its signal.
fn wait(child: Pid) -> io::Result<i32> {
    loop {
        match waitpid(None, None) {
            Ok(WaitStatus::Exited(pid, code)) if pid == child => return Ok(code),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == child => {
                return Ok(BY_SIGNAL + signal as i32);
            }
            // Somebody was ended by a signal that has no name; whom, only the table of processes says.
            Err(Errno::EINVAL) if kill(child, None).is_err() => return Ok(BY_SIGNAL + REAL_TIME),
            Ok(_) | Err(Errno::EINVAL | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
