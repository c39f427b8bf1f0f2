//! What the two inner stages share: how they are started, read their plan and say what failed.
//!
//! ```text
//! agent → supervisor → `sandbox-enter` → bubblewrap → `sandbox-init` → the command
//! ```
//! Each arrow but the first two replaces the process. The supervisor's first thread starts the
//! whole chain and lives as long as that process, which matters: the kernel ends what asked to die
//! with its parent when the *thread* ends that started it.

use std::fs::{File, OpenOptions};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::process::ExitCode;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use serde::{Deserialize, Serialize};

use super::plan::Plan;
use super::{bridge, canary, container, inside, outside};

/// The subcommand of the stage outside of the namespaces.
pub(super) const ENTER: &str = "sandbox-enter";
/// The subcommand of the stage inside of them.
pub(super) const INIT: &str = "sandbox-init";
/// The subcommand of the process inside that forwards connections to the proxy.
pub(super) const BRIDGE: &str = "sandbox-bridge";
/// The subcommand that looks at a sandbox from inside.
pub(super) const CANARY: &str = "sandbox-canary";
/// The subcommand that looks whether a program is there.
pub(super) const WHICH: &str = "sandbox-which";
/// The subcommand of the first process of a container.
pub(super) const CONTAINED: &str = "sandbox-contained";
/// The descriptor with the plan.
pub(super) const PLAN: i32 = 3;
/// The descriptor that takes reports.
pub(super) const STATUS: i32 = 4;
/// The exit code of a stage that failed; nobody takes it for the command's, because a fault is
/// reported too.
pub(super) const FAILED: u8 = 125;

/// Why a stage gave up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Fault {
    pub(super) stage: String,
    pub(super) what: String,
    /// The command's program does not exist in the sandbox.
    pub(super) is_not_found: bool,
}

/// A stage's result that is only an error: one that goes well ends in another program.
pub(super) type Failed = Fault;

impl Fault {
    pub(super) fn new(stage: &str, what: impl Into<String>) -> Self {
        Self {
            stage: stage.to_owned(),
            what: what.into(),
            is_not_found: false,
        }
    }
}

/// A process that was started as a stage is one, and ends here or becomes another program.
pub(crate) fn enter() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let name = args.next()?;
    let (fault, status) = match name.to_str()? {
        ENTER => (outside::run(), append(STATUS).ok()),
        INIT => inside::run(args),
        CONTAINED => return Some(container::contained()),
        BRIDGE => return Some(bridge::run(args)),
        CANARY => return Some(canary::run(args)),
        WHICH => return Some(canary::which(args)),
        _ => return None,
    };
    // Without a report the run counts as failed as well.
    if let Some(mut status) = status {
        let line = serde_json::json!({ "fault": fault });
        let _ = status.write_all(format!("{line}\n").as_bytes());
    }
    Some(ExitCode::from(FAILED))
}

/// The plan, from its descriptor.
pub(super) fn plan(stage: &str) -> Result<Plan, Fault> {
    let read = || -> io::Result<Plan> {
        let mut bytes = Vec::new();
        File::open(own(PLAN))?.read_to_end(&mut bytes)?;
        serde_json::from_slice(&bytes).map_err(io::Error::other)
    };
    read().map_err(|error| Fault::new(stage, format!("the plan can't be read: {error}")))
}

/// One of this process's own descriptors, by name. Opening it again is allowed for memory, also
/// to another user than the one that made it.
pub(super) fn own(descriptor: i32) -> String {
    format!("/proc/self/fd/{descriptor}")
}

/// Opens a report for writing at its end.
pub(super) fn append(descriptor: i32) -> io::Result<File> {
    OpenOptions::new().append(true).open(own(descriptor))
}

/// A piece of memory with this content, to be read from its beginning.
pub(super) fn memory(content: &[u8]) -> io::Result<File> {
    let memory = memfd_create(c"patchfleet", MFdFlags::MFD_CLOEXEC)?;
    let mut file = File::from(memory);
    file.write_all(content)?;
    file.rewind()?;
    Ok(file)
}

/// A piece of memory that several write to, each at its end; and the view of the one who reads.
pub(super) fn report() -> io::Result<(File, OwnedFd)> {
    use std::os::fd::AsRawFd as _;
    let reader = memory(&[])?;
    let writer = append(reader.as_raw_fd())?;
    Ok((reader, writer.into()))
}

/// Lets the program that replaces this one have a descriptor.
pub(super) fn inherit(file: &impl std::os::fd::AsFd) -> io::Result<()> {
    fcntl(file, FcntlArg::F_SETFD(FdFlag::empty()))?;
    Ok(())
}
