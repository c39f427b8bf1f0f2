//! Limits of a run as a whole, what it used, and which of them it met.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A limit that the kernel enforces on a run as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Limit {
    /// Memory, folders in memory included.
    Memory,
    /// A share of the processors.
    Processors,
    /// The number of processes and threads.
    Processes,
}

/// What a run used, by the kernel's counters; unknown where nothing counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Usage {
    /// Processes that the kernel killed because memory was used up.
    pub oom_kills: Option<u64>,
    /// The most memory that was in use at a time.
    pub peak_memory_bytes: Option<u64>,
    /// Time that processes waited because the processors' share was used up.
    pub throttled: Option<Duration>,
    /// Spans of 100 ms in which they did.
    pub throttled_periods: Option<u64>,
    /// Processes and threads that were not made because there were too many.
    pub refused_processes: Option<u64>,
}

/// The limit that a run met.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum Exceeded {
    /// It used its memory up. Its exit code says nothing then: whoever started the process that
    /// was killed may go on as if nothing had happened.
    #[error(
        "the kernel ended {kills} of its processes, because it used up its {limit_mib} MiB of \
         memory (`/tmp` and `/dev/shm` count; `sandbox.memory_mib`, for containers \
         `sandbox.container.memory_mib`)"
    )]
    OutOfMemory {
        /// How many processes were killed.
        kills: u64,
        /// The run's memory limit, in MiB.
        limit_mib: u64,
    },
    /// It wrote more than it may have.
    #[error(
        "it was ended, because what it may write grew to {used_mib} MiB, beyond the \
         {limit_mib} MiB of its limit (`sandbox.disk_mib`)"
    )]
    DiskLimit {
        /// How much was found.
        used_mib: u64,
        /// How much it may have.
        limit_mib: u64,
    },
    /// It had its part in filling the host's disk.
    #[error(
        "it was ended, because the agent's disk is as good as full and it has written {written_mib} \
         MiB; give the agent more space or a lower `sandbox.disk_mib`"
    )]
    DiskFull {
        /// How much it wrote since it began.
        written_mib: u64,
    },
    /// It failed after it had asked for more processes than it may have.
    #[error(
        "{refused} times a process or thread could not be made, because it has at most {limit} \
         at a time (`sandbox.processes`, for containers `sandbox.container.processes`)"
    )]
    TooManyProcesses {
        /// How often a new process was refused.
        refused: u64,
        /// How many processes the run may have at once.
        limit: u64,
    },
    /// Its time was over, a good part of which it waited for its share of the processors.
    #[error(
        "its processes waited {} s for their share of {}.{:02} processors (`sandbox.cpus`, for \
         containers `sandbox.container.cpus`)",
        .waited.as_secs(), .cpu_percent / 100, .cpu_percent % 100
    )]
    Throttled {
        /// How long, summed over processors.
        waited: Duration,
        /// Hundredths of a processor that it has.
        cpu_percent: u64,
    },
}

/// What a run was allowed, for [`Exceeded::find`].
#[derive(Debug, Clone, Copy)]
pub(super) struct Allowed {
    pub(super) memory_mib: u64,
    pub(super) processes: u64,
    /// Hundredths of a processor.
    pub(super) cpu_percent: u64,
}

/// How a run ended, for [`Exceeded::find`].
#[derive(Debug, Clone, Copy)]
pub(super) struct End {
    pub(super) succeeded: bool,
    pub(super) timed_out: bool,
    pub(super) duration: Duration,
}

impl Limit {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Memory, Self::Processors, Self::Processes];

    /// As it is reported.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Processors => "processors",
            Self::Processes => "processes",
        }
    }
}

impl Exceeded {
    /// Finds the limit that explains an end. Memory does also where the command says that all is
    /// well; the others only where it failed: a program may try for more and do with what it gets.
    pub(super) fn find(usage: &Usage, allowed: Allowed, end: End) -> Option<Self> {
        let kills = usage.oom_kills.unwrap_or_default();
        let refused = usage.refused_processes.unwrap_or_default();
        let waited = usage.throttled.unwrap_or_default();
        if kills > 0 {
            let limit_mib = allowed.memory_mib;
            return Some(Self::OutOfMemory { kills, limit_mib });
        }
        if refused > 0 && !end.succeeded {
            let limit = allowed.processes;
            return Some(Self::TooManyProcesses { refused, limit });
        }
        let cpu_percent = allowed.cpu_percent;
        let is_long = waited >= end.duration / 4 && !waited.is_zero();
        (end.timed_out && is_long).then_some(Self::Throttled {
            waited,
            cpu_percent,
        })
    }

    /// The run has no result, whatever the command's exit code says.
    pub const fn voids_result(&self) -> bool {
        matches!(
            self,
            Self::OutOfMemory { .. } | Self::DiskLimit { .. } | Self::DiskFull { .. }
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(usage: Usage, succeeded: bool, timed_out: bool) -> Option<Exceeded> {
        let allowed = Allowed {
            memory_mib: 64,
            processes: 16,
            cpu_percent: 100,
        };
        let duration = Duration::from_secs(8);
        let end = End {
            succeeded,
            timed_out,
            duration,
        };
        Exceeded::find(&usage, allowed, end)
    }

    #[test]
    fn a_kill_for_memory_counts_whatever_the_exit_code_is() {
        let usage = Usage {
            oom_kills: Some(1),
            ..Usage::default()
        };
        for (succeeded, timed_out) in [(true, false), (false, false), (false, true)] {
            let found = find(usage, succeeded, timed_out).unwrap();
            assert!(found.voids_result());
            assert!(
                found.to_string().contains("`sandbox.memory_mib`"),
                "{found}"
            );
        }
    }

    #[test]
    fn a_program_that_did_with_fewer_processes_or_in_time_met_no_limit() {
        let usage = Usage {
            refused_processes: Some(3),
            throttled: Some(Duration::from_secs(4)),
            ..Usage::default()
        };
        assert_eq!(find(usage, true, false), None);
        let failed = find(usage, false, false).unwrap();
        assert!(matches!(
            failed,
            Exceeded::TooManyProcesses { refused: 3, .. }
        ));
        assert!(!failed.voids_result());
    }

    #[test]
    fn a_timeout_names_the_processors_when_a_good_part_was_waiting() {
        let waited = |secs| Usage {
            oom_kills: Some(0),
            throttled: Some(Duration::from_secs(secs)),
            ..Usage::default()
        };
        assert_eq!(find(waited(1), false, true), None);
        assert_eq!(find(waited(4), false, false), None);
        let found = find(waited(4), false, true).unwrap();
        assert!(found.to_string().contains("waited 4 s"), "{found}");
    }
}
