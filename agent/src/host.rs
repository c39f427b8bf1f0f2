//! How busy the host is, as Linux tells it (`proc(5)`, `cgroups(7)`, `statvfs(3)`).

mod group;

use std::fs;
use std::path::Path;

use nix::sys::statvfs::statvfs;

/// Above this load a host is overloaded.
const FULL: f32 = 0.95;
/// Below this share of available memory a host is overloaded.
const SCARCE: f32 = 0.05;
/// With less free space on the workspaces' disk than this share and than that many bytes a host is
/// overloaded.
const NARROW: (u64, u64) = (50, 1 << 30);
/// The same for how many files can still be made there.
const FEW: (u64, u64) = (50, 10_000);

/// A look at the host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HostLoad {
    /// Runnable tasks per core over the last minute, or the share of it that this process's
    /// control group waited for a processor, whichever is more, 0.0 to 1.0.
    pub(crate) load: f32,
    /// The share of memory that is available, of the host's or of a limit's, 0.0 to 1.0.
    pub(crate) available_memory: f32,
    /// The workspaces' disk is as good as full.
    pub(crate) disk_is_full: bool,
}

impl HostLoad {
    /// Looks now, for work in that folder. What can't be read counts as no pressure: refusing work
    /// for it helps nobody.
    pub(crate) fn now(workspaces: &Path) -> Self {
        Self {
            disk_is_full: is_disk_full(workspaces),
            ..Self::read(Path::new("/"))
        }
    }

    /// What the files below a root say.
    fn read(root: &Path) -> Self {
        let text = |path: &str| fs::read_to_string(root.join(path)).unwrap_or_default();
        let running: f32 = text("proc/loadavg")
            .split_whitespace()
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0);
        // Those of the host: its load is not this process's alone.
        let cores = text("proc/stat")
            .lines()
            .filter(|line| is_core(line))
            .count();
        let cores = f32::from(u16::try_from(cores.max(1)).unwrap_or(u16::MAX));
        let waiting = group::cpu_pressure(root).unwrap_or(0.0);
        let memory = text("proc/meminfo");
        let field = |name: &str| -> Option<u64> {
            let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse().ok()
        };
        let of_host = match (field("MemAvailable:"), field("MemTotal:")) {
            (Some(available), Some(total @ 1..)) => group::share(available, total),
            _ => 1.0,
        };
        let of_group = group::available_memory(root).unwrap_or(1.0);
        Self {
            load: (running / cores).max(waiting).clamp(0.0, 1.0),
            available_memory: of_host.min(of_group),
            disk_is_full: false,
        }
    }

    /// Why the host should get nothing new, if it should not.
    pub(crate) fn pressure(self) -> Option<&'static str> {
        if self.disk_is_full {
            Some("the workspaces' disk is as good as full")
        } else if self.available_memory < SCARCE {
            Some("the host's memory is used up")
        } else if self.load > FULL && self.available_memory < 2.0 * SCARCE {
            Some("all cores are busy and memory is scarce")
        } else {
            None
        }
    }
}

/// True when so little space is left for a folder that nothing should begin there.
pub(crate) fn is_disk_full(folder: &Path) -> bool {
    statvfs(folder).is_ok_and(|disk| {
        let (free, size) = (disk.blocks_available(), disk.blocks());
        let unit = disk.fragment_size();
        is_narrow(free * unit, size * unit, NARROW)
            || is_narrow(disk.files_available(), disk.files(), FEW)
    })
}

const fn is_narrow(free: u64, size: u64, (share, least): (u64, u64)) -> bool {
    free < size / share && free < least
}

/// A line of `/proc/stat` about one core.
fn is_core(line: &str) -> bool {
    let number = line.strip_prefix("cpu");
    number.is_some_and(|number| number.starts_with(|digit: char| digit.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> HostLoad {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        HostLoad::read(root.path())
    }

    const PROC: [(&str, &str); 3] = [
        ("proc/loadavg", "3.00 1.00 0.50 1/200 99\n"),
        (
            "proc/stat",
            "cpu  1 2\ncpu0 1\ncpu1 1\ncpu2 1\ncpu3 1\nctxt 5\n",
        ),
        (
            "proc/meminfo",
            "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    250 kB\n",
        ),
    ];

    #[test]
    fn the_files_of_proc_are_read() {
        let seen = host(&PROC);
        assert_eq!((seen.load, seen.available_memory), (0.75, 0.25));
        assert_eq!(seen.pressure(), None);
        for pressed in [
            HostLoad {
                available_memory: 0.01,
                ..seen
            },
            HostLoad {
                disk_is_full: true,
                ..seen
            },
        ] {
            assert!(pressed.pressure().is_some(), "{pressed:?}");
        }
        assert_eq!(host(&[]).pressure(), None);
    }

    #[test]
    fn a_container_that_is_used_up_is_under_pressure_on_a_host_that_is_not() {
        let limits = [
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "990\n"),
            (
                "sys/fs/cgroup/cpu.pressure",
                "some avg10=9.00 avg60=98.00 avg300=1.00 total=1\n",
            ),
        ];
        let seen = host(&[PROC.as_slice(), &limits].concat());
        assert_eq!((seen.load, seen.available_memory), (0.98, 0.01));
        assert!(seen.pressure().is_some());
    }

    #[test]
    fn a_disk_is_full_when_little_is_left_of_it_and_little_at_all() {
        const GIB: u64 = 1 << 30;
        assert!(is_narrow(0, 64 << 20, NARROW));
        assert!(is_narrow(GIB / 2, 100 * GIB, NARROW));
        assert!(
            !is_narrow(3 * GIB, 252 * GIB, NARROW),
            "a share of a large disk is enough"
        );
        assert!(
            !is_narrow(32 << 20, 64 << 20, NARROW),
            "so is half of a small one"
        );
        assert!(is_narrow(9, 1_000_000, FEW), "no file can be made");
        assert!(!is_narrow(0, 0, FEW), "a file system without such a limit");
        assert!(!is_disk_full(Path::new("/nowhere")), "nobody knows");
    }
}
