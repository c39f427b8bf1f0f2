//! How busy the host is, as Linux tells it (`proc(5)`).

use std::fs;

/// Above this load a host is overloaded.
const FULL: f32 = 0.95;
/// Below this share of available memory a host is overloaded.
const SCARCE: f32 = 0.05;

/// A look at the host.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct HostLoad {
    /// Runnable tasks per core over the last minute, 0.0 to 1.0.
    pub(crate) load: f32,
    /// The share of memory that is available, 0.0 to 1.0.
    pub(crate) available_memory: f32,
}

impl HostLoad {
    /// Looks now. What can't be read counts as no pressure: refusing work for it helps nobody.
    pub(crate) fn now() -> Self {
        let average = fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let memory = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self::read(&average, &memory, cores)
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
        }
    }

    /// True when the host should get nothing new.
    pub(crate) fn is_overloaded(self) -> bool {
        self.load > FULL && self.available_memory < 2.0 * SCARCE || self.available_memory < SCARCE
    }
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
                available_memory: 0.25
            }
        );
        assert!(!host.is_overloaded());
        assert!(
            HostLoad {
                load: 0.1,
                available_memory: 0.01
            }
            .is_overloaded()
        );
        assert!(!HostLoad::read("", "", 2).is_overloaded());
    }
}
