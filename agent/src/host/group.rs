//! The control group that this process runs in, and what its limits leave (`cgroups(7)`, both
//! versions): a container or a service may have far less than its host.
//!
//! Limits of enclosing groups count too; the tightest one decides. Pages of files are given back
//! when memory is needed, so they are not counted as used.
//!
//! Not by a crate: `sysinfo` looks at the root of the hierarchy alone, which is right in a
//! container and wrong for a service with `MemoryMax`, and counts pages of files as used.

use std::fs;
use std::path::{Path, PathBuf};

/// Limits from here on mean that there is none.
const NO_LIMIT: u64 = 1 << 60;

/// The names of one version.
struct Files {
    limit: &'static str,
    usage: &'static str,
    reclaimable: [&'static str; 2],
}

const V2: Files = Files {
    limit: "memory.max",
    usage: "memory.current",
    reclaimable: ["inactive_file", "active_file"],
};

const V1: Files = Files {
    limit: "memory.limit_in_bytes",
    usage: "memory.usage_in_bytes",
    reclaimable: ["total_inactive_file", "total_active_file"],
};

/// The share of memory that the tightest limit leaves; `None` without a limit.
pub(super) fn available_memory(root: &Path) -> Option<f32> {
    let v2 = folders(root, "", "")
        .into_iter()
        .map(|folder| (folder, &V2));
    let v1 = folders(root, "memory", "memory")
        .into_iter()
        .map(|folder| (folder, &V1));
    v2.chain(v1)
        .filter_map(|(folder, files)| files.left(&folder))
        .min_by(f32::total_cmp)
}

/// The share of the last minute in which something of the group waited for a processor; `None`
/// where the kernel does not tell.
pub(super) fn cpu_pressure(root: &Path) -> Option<f32> {
    let group = folders(root, "", "").into_iter().next()?;
    let text = fs::read_to_string(group.join("cpu.pressure")).ok()?;
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let average = some
        .split(' ')
        .find_map(|part| part.strip_prefix("avg60="))?;
    average.parse::<f32>().ok().map(|percent| percent / 100.0)
}

impl Files {
    fn left(&self, folder: &Path) -> Option<f32> {
        let number = |name: &str| -> Option<u64> {
            fs::read_to_string(folder.join(name))
                .ok()?
                .trim()
                .parse()
                .ok()
        };
        let limit = number(self.limit).filter(|limit| (1..NO_LIMIT).contains(limit))?;
        let statistics = fs::read_to_string(folder.join("memory.stat")).unwrap_or_default();
        let reclaimable = statistics.lines().filter_map(|line| {
            let (name, bytes) = line.split_once(' ')?;
            self.reclaimable
                .contains(&name)
                .then(|| bytes.parse::<u64>().ok())?
        });
        let used = number(self.usage)?.saturating_sub(reclaimable.sum());
        Some(share(limit.saturating_sub(used), limit))
    }
}

/// A share of a total; exact enough for a look.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    reason = "a look at the host needs no exact bytes"
)]
pub(super) fn share(part: u64, total: u64) -> f32 {
    (part as f64 / total as f64) as f32
}

/// The group's folder in the hierarchy with a controller (the one of version 2 has none), then
/// those that enclose it. In a container its own folder is mounted as the root.
fn folders(root: &Path, controller: &str, mount: &str) -> Vec<PathBuf> {
    let groups = fs::read_to_string(root.join("proc/self/cgroup")).unwrap_or_default();
    let path = groups.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        controllers
            .split(',')
            .any(|it| it == controller)
            .then_some(path)
    });
    let Some(path) = path else {
        return Vec::new();
    };
    let top = root.join("sys/fs/cgroup").join(mount);
    let group = top.join(path.trim_start_matches('/'));
    let enclosing = group
        .ancestors()
        .take_while(|folder| folder.starts_with(&top));
    enclosing
        .filter(|folder| folder.is_dir())
        .map(Path::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        root
    }

    #[test]
    fn the_tightest_limit_around_a_service_decides_and_pages_of_files_count_as_free() {
        let statistics = "anon 600\ninactive_file 200\nactive_file 100\n";
        let root = host(&[
            ("proc/self/cgroup", "0::/fleet.slice/agent.service\n"),
            (
                "sys/fs/cgroup/fleet.slice/agent.service/memory.max",
                "max\n",
            ),
            (
                "sys/fs/cgroup/fleet.slice/agent.service/memory.current",
                "1\n",
            ),
            ("sys/fs/cgroup/fleet.slice/memory.max", "1000\n"),
            ("sys/fs/cgroup/fleet.slice/memory.current", "950\n"),
            ("sys/fs/cgroup/fleet.slice/memory.stat", statistics),
            (
                "sys/fs/cgroup/fleet.slice/agent.service/cpu.pressure",
                "some avg10=1.00 avg60=25.50 avg300=0.00 total=9\nfull avg10=0.00\n",
            ),
        ]);
        assert_eq!(available_memory(root.path()), Some(0.35));
        assert_eq!(cpu_pressure(root.path()), Some(0.255));
    }

    #[test]
    fn a_container_sees_its_own_group_as_the_root_in_either_version() {
        let first = host(&[
            (
                "proc/self/cgroup",
                "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n0::/\n",
            ),
            ("sys/fs/cgroup/memory/memory.limit_in_bytes", "1000\n"),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "990\n"),
            (
                "sys/fs/cgroup/memory/memory.stat",
                "total_inactive_file 10\n",
            ),
        ]);
        assert_eq!(available_memory(first.path()), Some(0.02));
        assert_eq!(cpu_pressure(first.path()), None);
        let second = host(&[
            ("proc/self/cgroup", "0::/\n"),
            ("sys/fs/cgroup/memory.max", "1000\n"),
            ("sys/fs/cgroup/memory.current", "250\n"),
        ]);
        assert_eq!(available_memory(second.path()), Some(0.75));
    }

    #[test]
    fn without_a_limit_nothing_is_said() {
        let root = host(&[
            ("proc/self/cgroup", "4:memory:/\n"),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            ("sys/fs/cgroup/memory/memory.usage_in_bytes", "5\n"),
        ]);
        assert_eq!(available_memory(root.path()), None);
        assert_eq!(available_memory(Path::new("/nowhere")), None);
    }
}
