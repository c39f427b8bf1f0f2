//! The control groups that somebody else made for a process, as an engine does for a container:
//! which limits they really have, and their counters.
//!
//! An engine's own word does not do. Podman says that memory did not run out where version 1 counted
//! a kill, and leaves limits out where it can't set them.

use std::fs;
use std::path::{Path, PathBuf};

use super::places::{self, Tree};
use super::texts::{self, Allowance, Version};
use super::{DEPTH, Member, folders, is_empty, remove, trees, usage};
use crate::sandbox::{Limit, Usage};

/// The groups of a process that is alive, or was until a moment ago.
#[derive(Debug, Default)]
pub(in crate::sandbox) struct Seen {
    members: Vec<Member>,
}

impl Seen {
    /// Looks for the groups of a process that keep it to what it is allowed. Reads files.
    pub(in crate::sandbox) fn of(pid: i32, allowance: Allowance) -> Self {
        let own = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        Self::in_trees(&places::trees(&mounts, &own), allowance)
    }

    fn in_trees(trees: &[Tree], allowance: Allowance) -> Self {
        let found = Limit::ALL.into_iter().filter_map(|limit| {
            let folder = trees.iter().find_map(|tree| {
                let folder = keeper(tree, limit, allowance)?;
                Some((folder, tree.version))
            });
            let (folder, version) = folder?;
            let limits = vec![limit];
            Some(Member {
                folder,
                version,
                limits,
            })
        });
        Self {
            members: found.collect(),
        }
    }

    /// Limits that no group enforces.
    pub(in crate::sandbox) fn missing(&self) -> Vec<Limit> {
        let kept: Vec<_> = self.members.iter().flat_map(|it| &it.limits).collect();
        let all = Limit::ALL.into_iter();
        all.filter(|limit| !kept.contains(&limit)).collect()
    }

    /// What was used so far; nothing once the groups are gone.
    pub(in crate::sandbox) fn usage(&self) -> Usage {
        usage(&self.members)
    }
}

/// Ids of containers are longer than this; what is shorter could be a part of many names.
const LEAST_ID: usize = 12;

/// Removes the groups of a container that is gone, where its engine left them.
///
/// # Errors
/// Which group still has processes, or may have.
pub(in crate::sandbox) fn remove_of_container(id: &str) -> Result<(), String> {
    if id.len() < LEAST_ID {
        return Ok(());
    }
    for tree in trees().map_err(|error| error.to_string())? {
        for folder in of_container(&tree.root, id) {
            if remove(&folder, tree.version).is_err() && !is_empty(&folder) {
                let group = folder.display();
                return Err(format!("the control group {group} still has processes"));
            }
        }
    }
    Ok(())
}

/// The groups below a folder that have an id in their name, or are below one; the inner ones first.
fn of_container(root: &Path, id: &str) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![(root.to_owned(), 0, false)], Vec::new());
    while let Some((folder, depth, is_inside)) = open.pop() {
        for path in folders(&folder) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            let is_meant = is_inside || name.contains(id);
            if depth < DEPTH {
                open.push((path.clone(), depth + 1, is_meant));
            }
            if is_meant {
                found.push(path);
            }
        }
    }
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    found
}

/// The group of a tree whose counters tell of a limit: of version 2 the one that has it, which counts
/// what is below it too; of version 1 the process's own.
fn keeper(tree: &Tree, limit: Limit, allowance: Allowance) -> Option<PathBuf> {
    let controller = texts::controller(limit);
    if tree.version == Version::One && !tree.controllers.iter().any(|it| it == controller) {
        return None;
    }
    let allowed = match limit {
        Limit::Memory => allowance.memory,
        Limit::Processors => allowance.cpu_percent,
        Limit::Processes => allowance.processes,
    };
    let groups = tree.own.ancestors();
    let mut groups = groups.take_while(|folder| folder.starts_with(&tree.root));
    let has_limit = |folder: &&Path| {
        let read = |file: &str| fs::read_to_string(folder.join(file)).ok();
        texts::limited(tree.version, limit, read).is_some_and(|it| it <= allowed)
    };
    let folder = groups.find(has_limit)?;
    match tree.version {
        Version::One => Some(tree.own.clone()),
        Version::Two => Some(folder.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const ALLOWANCE: Allowance = Allowance {
        memory: 1 << 30,
        processes: 256,
        cpu_percent: 50,
    };

    /// A group of a tree that is faked in a folder.
    fn group(root: &Path, path: &str, files: &[(&str, &str)]) {
        let folder = root.join(path);
        fs::create_dir_all(&folder).unwrap();
        for (name, text) in files {
            fs::write(folder.join(name), text).unwrap();
        }
    }

    fn tree(version: Version, root: &Path, own: &str, controllers: &[&str]) -> Tree {
        Tree {
            version,
            root: root.to_owned(),
            own: root.join(own),
            controllers: controllers.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    #[test]
    fn a_group_around_the_process_keeps_a_limit_for_it_in_version_2() {
        let root = tempfile::tempdir().unwrap();
        // As systemd and crun make them: the scope has the limits, and a group in it the processes.
        let scope = [
            ("memory.max", "1073741824\n"),
            ("memory.events", "oom_kill 2\n"),
            ("memory.peak", "4096\n"),
            ("cpu.max", "50000 100000\n"),
            ("cpu.stat", "throttled_usec 7\n"),
            ("pids.max", "1000\n"),
        ];
        group(root.path(), "machine/scope", &scope);
        let inner = [("memory.max", "max\n"), ("memory.events", "oom_kill 0\n")];
        group(root.path(), "machine/scope/container", &inner);
        let tree = tree(Version::Two, root.path(), "machine/scope/container", &[]);
        let seen = Seen::in_trees(&[tree], ALLOWANCE);
        // More processes than it was asked for are no limit.
        assert_eq!(seen.missing(), [Limit::Processes]);
        let usage = seen.usage();
        assert_eq!(usage.oom_kills, Some(2));
        assert_eq!(usage.peak_memory_bytes, Some(4096));
        assert_eq!(usage.throttled, Some(Duration::from_micros(7)));
    }

    #[test]
    fn the_processes_own_group_counts_its_kills_in_version_1() {
        let root = tempfile::tempdir().unwrap();
        let limit = [
            ("memory.limit_in_bytes", "1073741824\n"),
            ("memory.oom_control", "oom_kill 0\n"),
        ];
        group(root.path(), "engine", &limit);
        let own = [
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            (
                "memory.oom_control",
                "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n",
            ),
        ];
        group(root.path(), "engine/container", &own);
        let tree = tree(Version::One, root.path(), "engine/container", &["memory"]);
        let seen = Seen::in_trees(&[tree], ALLOWANCE);
        assert_eq!(seen.missing(), [Limit::Processors, Limit::Processes]);
        assert_eq!(seen.usage().oom_kills, Some(1));
    }

    #[test]
    fn the_groups_of_a_container_are_told_by_its_id_and_the_inner_ones_come_first() {
        let root = tempfile::tempdir().unwrap();
        for path in [
            "machine/libpod-0123456789ab.scope/container/inner",
            "machine/libpod-ba9876543210.scope",
            "docker/0123456789ab",
            "machine/libpod-conmon-0123456789ab.scope",
        ] {
            group(root.path(), path, &[]);
        }
        let found = of_container(root.path(), "0123456789ab");
        let mut names: Vec<_> = found
            .iter()
            .map(|path| path.strip_prefix(root.path()).unwrap().to_str().unwrap())
            .collect();
        assert!(
            names[0].ends_with("/inner") && names[1].ends_with("/container"),
            "{names:?}"
        );
        names.sort_unstable();
        let outer = "machine/libpod-0123456789ab.scope";
        assert_eq!(
            names,
            [
                "docker/0123456789ab",
                outer,
                &format!("{outer}/container"),
                &format!("{outer}/container/inner"),
                "machine/libpod-conmon-0123456789ab.scope",
            ]
        );
        // Too short to be one.
        assert_eq!(remove_of_container("m"), Ok(()));
    }

    #[test]
    fn a_process_that_nobody_sees_has_no_limits() {
        let seen = Seen::of(i32::MAX, ALLOWANCE);
        assert_eq!(seen.missing(), Limit::ALL);
        assert_eq!(seen.usage(), Usage::default());
    }
}
