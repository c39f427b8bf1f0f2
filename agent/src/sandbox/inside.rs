//! The stage inside of the namespaces: gives away what the command must not have, then becomes it.
//!
//! In this order: descriptors, kernel limits, Landlock, system calls, and the way to the proxy where
//! there is one. Each layer is there because the one before it has had holes; none is left out when
//! it can't be had.

use std::convert::Infallible;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};

use super::plan::{Plan, ProcessLimits};
use super::stage::{self, Failed, Fault};
use super::{bridge, files, syscalls};
use crate::process::MARK;

/// Becomes the command; comes back only when that fails, with where to say so. The argument is the
/// number of the descriptor that takes reports.
pub(super) fn run(mut args: impl Iterator<Item = OsString>) -> (Failed, Option<File>) {
    let number = args.next().and_then(|text| text.to_str()?.parse().ok());
    let Some(number) = number else {
        return (Fault::new(stage::INIT, "no report can be made"), None);
    };
    // Open until the command takes over; then the kernel closes it.
    let status = match stage::append(number) {
        Ok(status) => status,
        Err(error) => return (Fault::new(stage::INIT, error.to_string()), None),
    };
    let became = stage::plan(stage::INIT).and_then(|plan| become_command(&plan, &status));
    match became {
        Ok(never) => match never {},
        Err(fault) => (fault, Some(status)),
    }
}

fn become_command(plan: &Plan, status: &File) -> Result<Infallible, Fault> {
    let failed = |what: &'static str| {
        move |error: String| Fault::new(stage::INIT, format!("{what}: {error}"))
    };
    close_all_but(status).map_err(|error| failed("descriptors")(error.to_string()))?;
    limit(plan.limits).map_err(|error| failed("limits")(error.to_string()))?;
    let (program, arguments) = plan
        .command
        .split_first()
        .ok_or_else(|| Fault::new(stage::INIT, "there is no program to run"))?;
    files::restrict(plan).map_err(failed("Landlock"))?;
    syscalls::restrict().map_err(failed("seccomp"))?;
    if plan.network.is_bridged() {
        bridge::start(&plan.program)
            .map_err(|error| failed("the way to the proxy")(error.to_string()))?;
    }
    #[expect(
        clippy::disallowed_methods,
        reason = "replaces this process, which the process module started"
    )]
    let error = Command::new(program)
        .args(arguments)
        .env_remove(MARK)
        .exec();
    Err(Fault {
        is_not_found: error.kind() == io::ErrorKind::NotFound,
        ..Fault::new(stage::INIT, format!("`{program}`: {error}"))
    })
}

/// Closes every descriptor but the standard ones and the report: one that leaks from outside is a
/// way out (CVE-2024-21626).
fn close_all_but(status: &File) -> io::Result<()> {
    let listed = fs::read_dir("/proc/self/fd")?;
    let numbers: Vec<i32> = listed
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect();
    for number in numbers {
        if number > 2 && number != status.as_raw_fd() {
            // The one that listed them is closed already.
            let _ = nix::unistd::close(number);
        }
    }
    Ok(())
}

/// Sets kernel limits on this process and all below it; never above what it has.
fn limit(limits: ProcessLimits) -> io::Result<()> {
    for (resource, wanted) in [
        (Resource::RLIMIT_CORE, 0),
        (Resource::RLIMIT_FSIZE, limits.file_size),
        (Resource::RLIMIT_NOFILE, limits.open_files),
        (Resource::RLIMIT_CPU, limits.cpu_seconds),
        (Resource::RLIMIT_NPROC, limits.processes),
    ] {
        let (_, hard) = getrlimit(resource)?;
        let value = wanted.min(hard);
        setrlimit(resource, value, value)?;
    }
    Ok(())
}
