//! The processes of a command that runs: the command and everything below it, and what they use.
//!
//! Processes are found by their parents, which are the same from inside and outside of namespaces:
//! in a sandbox neither a work folder nor an environment tells whose a process is.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use nix::unistd::Pid;

use super::table;

/// Counts for one command, from its start on.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<[AtomicI32; 2]>);

impl Meter {
    /// The command's supervisor runs.
    pub(super) fn begin(&self, supervisor: Option<u32>) {
        let pid = supervisor.and_then(|pid| i32::try_from(pid).ok());
        self.0[0].store(pid.unwrap_or_default(), Ordering::Relaxed);
    }

    /// What the command does is done below this process, which a service has started for it.
    pub(crate) fn also_below(&self, pid: i32) {
        self.0[1].store(pid, Ordering::Relaxed);
    }

    /// All processes of the command that live; none before it starts. Reads files, and is therefore
    /// not for tasks of a runtime.
    pub(crate) fn processes(&self) -> Vec<Pid> {
        let roots = self.0.iter().map(|pid| pid.load(Ordering::Relaxed));
        let roots: Vec<_> = roots.filter(|pid| *pid > 0).map(Pid::from_raw).collect();
        if roots.is_empty() {
            return Vec::new();
        }
        let mut processes = table::descendants(&roots, &table::all());
        // One may be below the other.
        processes.sort_unstable();
        processes.dedup();
        processes
    }

    /// The processor time of these processes.
    pub fn processor_time(&self) -> Duration {
        let processes = self.processes().into_iter();
        processes.filter_map(ticks).sum()
    }
}

/// User and system time of a process. Linux counts both in hundredths of a second for programs.
fn ticks(pid: Pid) -> Option<Duration> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat")).ok()?;
    // The name, in parentheses, may have spaces and parentheses itself.
    let fields = stat.rsplit_once(')')?.1;
    let mut fields = fields.split_whitespace().skip(11);
    let (user, system): (u64, u64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Duration::from_millis((user + system) * 10))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_processor_time_of_a_process_is_read() {
        assert!(ticks(nix::unistd::getpid()).is_some());
        assert_eq!(Meter::default().processor_time(), Duration::ZERO);
    }
}
