//! Processes that outlived the agent that started them, found by a mark in their environment.
//!
//! Every supervisor and, unless it clears its environment, every descendant carries a variable
//! that names the process that wanted it. Where that one is dead, they are orphans. A file with
//! process numbers would not do: it misses descendants, is not written when the power or the disk
//! goes at the wrong moment, and after a restart its numbers belong to others.
//!
//! Usually there are none, because supervisors end what is below them. There are when supervisors
//! were killed too, as by a host that is out of memory.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use std::{fs, io};

use nix::sys::signal::Signal;
use nix::unistd::{Pid, getpid};
use tokio::time::Instant;

use super::GRACE;
use super::table::{self, Process};

/// The variable that carries a mark.
pub(crate) const VARIABLE: &str = "PATCHFLEET_SUPERVISED_BY";
/// How long supervisors that are still at work may take.
const PATIENCE: Duration = GRACE.saturating_add(Duration::from_secs(1));
/// How long is tried to kill. What hangs in the kernel does not die.
const ENOUGH: Duration = Duration::from_secs(10);
/// How often is looked meanwhile.
const LOOK: Duration = Duration::from_millis(20);

static SERIAL: AtomicU64 = AtomicU64::new(0);

/// Names one command of one process: `<namespace>:<pid>:<start>:<serial>`. With the namespace of
/// process numbers, another container's processes are not taken for orphans.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mark(String);

impl Mark {
    /// A new one of this process.
    pub(super) fn new() -> io::Result<Self> {
        static OWNER: OnceLock<String> = OnceLock::new();
        let owner = match OWNER.get() {
            Some(owner) => owner,
            None => {
                let owner = owner()?;
                OWNER.get_or_init(|| owner)
            }
        };
        let serial = SERIAL.fetch_add(1, Ordering::Relaxed);
        Ok(Self(format!("{owner}:{serial}")))
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// True when its owner was a process of this namespace and lives no more.
    fn is_orphaned(&self, namespace: &str) -> bool {
        let parts: Vec<_> = self.0.split(':').collect();
        let &[theirs, pid, started, _] = parts.as_slice() else {
            return false;
        };
        let (Ok(pid), Ok(started)) = (pid.parse::<i32>(), started.parse::<u64>()) else {
            return false;
        };
        let owner = Process::find(Pid::from_raw(pid));
        let lives = owner.is_some_and(|it| !it.is_dead && it.started == started);
        theirs == namespace && !lives
    }
}

fn owner() -> io::Result<String> {
    let myself = Process::find(getpid()).ok_or_else(|| {
        io::Error::other("/proc is not mounted, and supervising commands needs it")
    })?;
    Ok(format!(
        "{}:{}:{}",
        namespace()?,
        myself.pid,
        myself.started
    ))
}

/// The number of this process's namespace of process numbers, from `pid:[4026531836]`.
fn namespace() -> io::Result<String> {
    let link = fs::read_link("/proc/self/ns/pid")?;
    let digits = link.to_string_lossy();
    Ok(digits.chars().filter(char::is_ascii_digit).collect())
}

/// A mark for something else of this process that has to be found after its death.
pub(crate) fn new_mark() -> io::Result<String> {
    Ok(Mark::new()?.0)
}

/// True when the process that made this mark lives no more. False also for what is no mark, and
/// for those of other containers.
pub(crate) fn is_orphaned(mark: &str) -> bool {
    namespace().is_ok_and(|namespace| Mark(mark.to_owned()).is_orphaned(&namespace))
}

/// True for this process, those below it and other runs of this very program.
pub(crate) fn is_own_program(pid: Pid) -> bool {
    let program = |pid: Pid| fs::read_link(format!("/proc/{pid}/exe")).ok();
    let own = program(getpid());
    (own.is_some() && program(pid) == own)
        || table::descendants(&[getpid()], &table::all()).contains(&pid)
}

/// Ends what agents that are dead left behind; gives the number of processes.
///
/// # Errors
/// When this process can't look at processes.
pub async fn end_orphans() -> io::Result<usize> {
    let namespace = namespace()?;
    Ok(end(move |mark| mark.is_orphaned(&namespace)).await)
}

/// Ends what a command left behind whose supervisor was killed.
pub(super) async fn end_marked(mark: &Mark) {
    let wanted = mark.clone();
    end(move |mark| *mark == wanted).await;
}

/// Waits until those that are marked so have ended, and ends them when they do not by themselves.
/// Gives their number.
async fn end(is_meant: impl Fn(&Mark) -> bool + Send + Clone + 'static) -> usize {
    let started = Instant::now();
    let mut first = None;
    loop {
        let is_meant = is_meant.clone();
        let look = tokio::task::spawn_blocking(move || marked(is_meant));
        let left = look.await.unwrap_or_default();
        let count = *first.get_or_insert(left.len());
        if left.is_empty() {
            return count;
        }
        if started.elapsed() > ENOUGH {
            // Killed all the same: it does nothing more when the kernel lets go of it.
            tracing::warn!(pids = ?left, "processes of an earlier command do not end");
            return count;
        }
        if started.elapsed() > PATIENCE {
            table::signal(&left, Signal::SIGKILL);
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// The living processes whose mark is meant, and all below them. A dead one has no environment.
fn marked(is_meant: impl Fn(&Mark) -> bool) -> Vec<Pid> {
    let processes = table::all();
    let carries = |process: &&Process| mark_of(process.pid).is_some_and(|mark| is_meant(&mark));
    let mut found: Vec<_> = processes.iter().filter(carries).map(|it| it.pid).collect();
    found.extend(table::descendants(&found, &processes));
    found.sort_unstable();
    found.dedup();
    found.retain(|pid| *pid != getpid());
    found
}

/// The mark in a process's environment; only one's own processes show theirs.
fn mark_of(pid: Pid) -> Option<Mark> {
    let environment = fs::read(format!("/proc/{pid}/environ")).ok()?;
    let mut variables = environment.split(|byte| *byte == 0);
    let value =
        variables.find_map(|it| it.strip_prefix(VARIABLE.as_bytes())?.strip_prefix(b"="))?;
    Some(Mark(String::from_utf8_lossy(value).into_owned()))
}
