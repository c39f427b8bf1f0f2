//! The host's processes, as `proc(5)` lists them.

use std::collections::HashMap;
use std::fs;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// One process, as far as its parentage goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Process {
    pub(super) pid: Pid,
    pub(super) parent: Pid,
    /// It has ended and only waits to be reaped.
    pub(super) is_dead: bool,
    /// When it started, in clock ticks since the boot. With the number it names one process for
    /// as long as the host runs; the number alone is given away again.
    pub(super) started: u64,
}

impl Process {
    /// Looks one up; none when there is no such process.
    pub(super) fn find(pid: Pid) -> Option<Self> {
        Self::parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Reads `/proc/<pid>/stat`. The name comes second, in brackets, and may contain anything.
    fn parse(pid: Pid, stat: &str) -> Option<Self> {
        let (_, rest) = stat.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_ascii_whitespace().collect();
        Some(Self {
            pid,
            parent: Pid::from_raw(fields.get(1)?.parse().ok()?),
            is_dead: matches!(*fields.first()?, "Z" | "X"),
            started: fields.get(19)?.parse().ok()?,
        })
    }
}

/// Every process that can be seen.
pub(super) fn all() -> Vec<Process> {
    let Ok(entries) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(|pid| Process::find(Pid::from_raw(pid)))
        .collect()
}

/// All living processes below these, which are not among them.
pub(super) fn descendants(of: &[Pid], processes: &[Process]) -> Vec<Pid> {
    let mut children: HashMap<Pid, Vec<&Process>> = HashMap::new();
    for process in processes {
        children.entry(process.parent).or_default().push(process);
    }
    let mut found = Vec::new();
    let mut open = of.to_vec();
    while let Some(pid) = open.pop() {
        for process in children.remove(&pid).unwrap_or_default() {
            open.push(process.pid);
            if !process.is_dead {
                found.push(process.pid);
            }
        }
    }
    found
}

/// Sends a signal to each; who has ended meanwhile needs none.
pub(super) fn signal(pids: &[Pid], signal: Signal) {
    for pid in pids {
        let _ = kill(*pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: i32, parent: i32) -> Process {
        Process {
            pid: Pid::from_raw(pid),
            parent: Pid::from_raw(parent),
            is_dead: pid == 30,
            started: 1,
        }
    }

    #[test]
    fn a_name_with_brackets_and_spaces_does_not_mislead() {
        let stat = "7 (a) Z 1 (b) S 3 7 7 0 -1 0 0 0 0 0 0 0 0 0 20 0 1 0 4711 0 0";
        let found = Process::parse(Pid::from_raw(7), stat).unwrap();
        assert_eq!((found.parent, found.started), (Pid::from_raw(3), 4711));
        assert!(!found.is_dead);
        let myself = Process::find(nix::unistd::getpid()).unwrap();
        assert_eq!(myself.parent, nix::unistd::getppid());
    }

    #[test]
    fn descendants_are_found_at_every_depth_and_the_dead_are_passed_through() {
        let processes = [
            process(10, 1),
            process(20, 10),
            process(30, 20),
            process(40, 30),
            process(50, 1),
        ];
        let mut found = descendants(&[Pid::from_raw(10)], &processes);
        found.sort_unstable();
        assert_eq!(found, [20, 40].map(Pid::from_raw));
    }
}
