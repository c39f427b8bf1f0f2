//! How busy the host is, as Linux tells it (`proc(5)`, `statvfs(3)`).

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

/// A look at the host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HostLoad {
    /// Runnable tasks per core over the last minute, 0.0 to 1.0.
    pub(crate) load: f32,
    /// The share of memory that is available, 0.0 to 1.0.
    pub(crate) available_memory: f32,
    /// The workspaces' disk is as good as full.
    pub(crate) disk_is_full: bool,
}

impl HostLoad {
    /// Looks now, for work in that folder. What can't be read counts as no pressure: refusing work
    /// for it helps nobody.
    pub(crate) fn now(workspaces: &Path) -> Self {
        let average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            disk_is_full: is_disk_full(workspaces),
            ..Self::read(&average, &memory, cores)
        }
    }

    fn read(average: &str, memory: &str, cores: usize) -> Self {
        let cores = f32::from(u16::try_from(cores).unwrap_or(u16::MAX));
        let running: f32 = average
            .split_whitespace()
            .next()
            .and_then(|text| text.parse().ok())
            .unwrap_or(0.0);
        let field = |name: &str| -> Option<f32> {
            let line = memory.lines().find_map(|line| line.strip_prefix(name))?;
            line.trim_start_matches(':')
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        };
        let available = match (field("MemAvailable"), field("MemTotal")) {
            (Some(available), Some(total)) if total > 0.0 => available / total,
            _ => 1.0,
        };
        Self {
            load: (running / cores).clamp(0.0, 1.0),
            available_memory: available,
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
        is_narrow(free * disk.fragment_size(), size * disk.fragment_size())
    })
}

const fn is_narrow(free: u64, size: u64) -> bool {
    let (share, bytes) = NARROW;
    free < size / share && free < bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_files_of_proc_are_read() {
        let memory = "MemTotal:       1000 kB\nMemFree: 1 kB\nMemAvailable:    250 kB\n";
        let host = HostLoad::read("3.00 1.00 0.50 1/200 99\n", memory, 4);
        assert_eq!(
            host,
            HostLoad {
                load: 0.75,
                available_memory: 0.25,
                disk_is_full: false,
            }
        );
        assert_eq!(host.pressure(), None);
        for pressed in [
            HostLoad {
                available_memory: 0.01,
                ..host
            },
            HostLoad {
                disk_is_full: true,
                ..host
            },
        ] {
            assert!(pressed.pressure().is_some(), "{pressed:?}");
        }
        assert_eq!(HostLoad::read("", "", 2).pressure(), None);
    }

    #[test]
    fn a_disk_is_full_when_little_is_left_of_it_and_little_at_all() {
        const GIB: u64 = 1 << 30;
        assert!(is_narrow(0, 64 << 20));
        assert!(is_narrow(GIB / 2, 100 * GIB));
        assert!(
            !is_narrow(3 * GIB, 252 * GIB),
            "a share of a large disk is enough"
        );
        assert!(!is_narrow(32 << 20, 64 << 20), "so is half of a small one");
        assert!(!is_disk_full(Path::new("/nowhere")), "nobody knows");
    }
}
