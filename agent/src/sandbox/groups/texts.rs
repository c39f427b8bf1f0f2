//! Which file of a control group takes which text, and what its counters say. Pure.
//!
//! `cgroups(7)` version 1 has a tree for each controller, version 2 one tree for all of them.

use std::time::Duration;

use super::super::{Limit, Usage};

/// How control groups are mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    One,
    Two,
}

/// What one run may use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in super::super) struct Allowance {
    /// Bytes of memory, folders in memory included.
    pub(in super::super) memory: u64,
    /// Processes and threads.
    pub(in super::super) processes: u64,
    /// Hundredths of a processor.
    pub(in super::super) cpu_percent: u64,
}

/// One file and what is written into it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) file: &'static str,
    pub(super) text: String,
    /// Kernels without swap, and old ones, lack the others.
    pub(super) is_needed: bool,
}

/// The kernel shares processors out in spans of this length.
const PERIOD_MICROS: u64 = 100_000;

/// The controller that enforces a limit.
pub(super) const fn controller(limit: Limit) -> &'static str {
    match limit {
        Limit::Memory => "memory",
        Limit::Processors => "cpu",
        Limit::Processes => "pids",
    }
}

/// What is written into a new group for one limit, in this order.
pub(super) fn settings(version: Version, limit: Limit, allowance: Allowance) -> Vec<Setting> {
    let Allowance {
        memory,
        processes,
        cpu_percent,
    } = allowance;
    let quota = cpu_percent * PERIOD_MICROS / 100;
    match (version, limit) {
        (Version::One, Limit::Memory) => vec![
            needed("memory.limit_in_bytes", memory),
            // Memory and swap together: no more than memory alone.
            extra("memory.memsw.limit_in_bytes", memory),
        ],
        (Version::Two, Limit::Memory) => vec![
            needed("memory.max", memory),
            extra("memory.swap.max", 0),
            // Half a test suite says nothing: who runs out ends as a whole.
            extra("memory.oom.group", 1),
        ],
        (Version::One, Limit::Processors) => vec![
            needed("cpu.cfs_period_us", PERIOD_MICROS),
            needed("cpu.cfs_quota_us", quota),
        ],
        (Version::Two, Limit::Processors) => {
            vec![needed("cpu.max", format!("{quota} {PERIOD_MICROS}"))]
        }
        (_, Limit::Processes) => vec![needed("pids.max", processes)],
    }
}

/// The limit that a group has, in the unit of [`Allowance`]: what its files say, which are read by
/// their names. Nothing for one without a limit.
pub(super) fn limited(
    version: Version,
    limit: Limit,
    read: impl Fn(&str) -> Option<String>,
) -> Option<u64> {
    let number = |file: &str| read(file)?.trim().parse().ok();
    let percent = |quota: u64, period: u64| Some((quota * 100).div_ceil(period.max(1)));
    match (version, limit) {
        (Version::One, Limit::Memory) => number("memory.limit_in_bytes"),
        (Version::Two, Limit::Memory) => number("memory.max"),
        // Less than nothing without a limit, which is no number here.
        (Version::One, Limit::Processors) => {
            percent(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?)
        }
        (Version::Two, Limit::Processors) => {
            let text = read("cpu.max")?;
            let (quota, period) = text.trim().split_once(' ')?;
            percent(quota.parse().ok()?, period.parse().ok()?)
        }
        (_, Limit::Processes) => number("pids.max"),
    }
}

/// The files that a limit's counters are read from.
pub(super) const fn counters(version: Version, limit: Limit) -> &'static [&'static str] {
    match (version, limit) {
        (Version::One, Limit::Memory) => &["memory.oom_control", "memory.max_usage_in_bytes"],
        (Version::Two, Limit::Memory) => &["memory.events", "memory.peak"],
        (_, Limit::Processors) => &["cpu.stat"],
        (_, Limit::Processes) => &["pids.events"],
    }
}

/// Takes what a counter's file says.
pub(super) fn count(file: &str, text: &str, usage: &mut Usage) {
    match file {
        // `oom` counts attempts to find memory too, and those that another group's limit caused.
        "memory.events" => {
            let both = [field(text, "oom_kill"), field(text, "oom_group_kill")];
            usage.oom_kills = both.into_iter().flatten().max();
        }
        "memory.oom_control" => usage.oom_kills = field(text, "oom_kill"),
        "memory.peak" | "memory.max_usage_in_bytes" => {
            usage.peak_memory_bytes = text.trim().parse().ok();
        }
        "pids.events" => usage.refused_processes = field(text, "max"),
        "cpu.stat" => {
            let micros = field(text, "throttled_usec").map(Duration::from_micros);
            let nanos = field(text, "throttled_time").map(Duration::from_nanos);
            usage.throttled = micros.or(nanos);
            usage.throttled_periods = field(text, "nr_throttled");
        }
        _ => {}
    }
}

/// The number behind a name, in a file of lines `name number`.
fn field(text: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.split_once(' '));
    let (_, number) = lines.find(|(found, _)| *found == name)?;
    number.trim().parse().ok()
}

fn needed(file: &'static str, value: impl ToString) -> Setting {
    Setting {
        file,
        text: value.to_string(),
        is_needed: true,
    }
}

fn extra(file: &'static str, value: impl ToString) -> Setting {
    Setting {
        is_needed: false,
        ..needed(file, value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALLOWANCE: Allowance = Allowance {
        memory: 4 << 30,
        processes: 1024,
        cpu_percent: 200,
    };

    fn written(version: Version) -> Vec<String> {
        let settings = Limit::ALL.map(|limit| settings(version, limit, ALLOWANCE));
        let lines = settings.into_iter().flatten();
        lines
            .map(|it| {
                let mark = if it.is_needed { "" } else { "?" };
                format!("{}{mark}={}", it.file, it.text)
            })
            .collect()
    }

    #[test]
    fn each_version_gets_its_own_files_and_texts() {
        assert_eq!(
            written(Version::One),
            [
                "memory.limit_in_bytes=4294967296",
                "memory.memsw.limit_in_bytes?=4294967296",
                "cpu.cfs_period_us=100000",
                "cpu.cfs_quota_us=200000",
                "pids.max=1024",
            ]
        );
        assert_eq!(
            written(Version::Two),
            [
                "memory.max=4294967296",
                "memory.swap.max?=0",
                "memory.oom.group?=1",
                "cpu.max=200000 100000",
                "pids.max=1024",
            ]
        );
    }

    #[test]
    fn a_limit_is_read_as_it_was_written_and_none_is_none() {
        for version in [Version::One, Version::Two] {
            for (limit, expected) in [
                (Limit::Memory, ALLOWANCE.memory),
                (Limit::Processors, ALLOWANCE.cpu_percent),
                (Limit::Processes, ALLOWANCE.processes),
            ] {
                let settings = settings(version, limit, ALLOWANCE);
                let read = |file: &str| {
                    let found = settings.iter().find(|it| it.file == file)?;
                    Some(format!("{}\n", found.text))
                };
                assert_eq!(limited(version, limit, read), Some(expected));
                assert_eq!(limited(version, limit, |_| None), None);
            }
        }
        for text in ["max\n", "-1\n", "max 100000\n"] {
            for limit in Limit::ALL {
                let read = |_: &str| Some(text.to_owned());
                assert_eq!(limited(Version::Two, limit, read), None, "{text}");
                assert_eq!(limited(Version::One, limit, read), None, "{text}");
            }
        }
    }

    #[test]
    fn kills_are_counted_and_attempts_are_not() {
        let mut usage = Usage::default();
        let events = "low 0\nhigh 0\nmax 90\noom 7\noom_kill 2\noom_group_kill 1\n";
        count("memory.events", events, &mut usage);
        assert_eq!(usage.oom_kills, Some(2));
        // A kernel that counts a group as one and leaves its members out.
        count(
            "memory.events",
            "oom_kill 0\noom_group_kill 1\n",
            &mut usage,
        );
        assert_eq!(usage.oom_kills, Some(1));
        let control = "oom_kill_disable 0\nunder_oom 1\noom_kill 3\n";
        count("memory.oom_control", control, &mut usage);
        assert_eq!(usage.oom_kills, Some(3));
        // A kernel before 4.13 does not say.
        count("memory.oom_control", "under_oom 1\n", &mut usage);
        assert_eq!(usage.oom_kills, None);
    }

    #[test]
    fn waiting_for_processors_is_in_the_unit_of_each_version() {
        let mut usage = Usage::default();
        count(
            "cpu.stat",
            "nr_throttled 4\nthrottled_time 5000\n",
            &mut usage,
        );
        assert_eq!(usage.throttled, Some(Duration::from_micros(5)));
        count("cpu.stat", "usage_usec 9\nthrottled_usec 5\n", &mut usage);
        assert_eq!(usage.throttled, Some(Duration::from_micros(5)));
        count("pids.events", "max 12\n", &mut usage);
        count("memory.peak", "4096\n", &mut usage);
        assert_eq!(usage.refused_processes, Some(12));
        assert_eq!(usage.peak_memory_bytes, Some(4096));
    }
}
