//! What work leaves on its host: nothing, once it is over, of whatever kind.

use std::fs;
use std::os::unix::fs::FileTypeExt as _;
use std::path::{Path, PathBuf};

use patchfleet_testkit::container::containers_of;
use patchfleet_testkit::process::Process;

use super::World;

/// What says in a process's environment whose command it is.
const MARK: &str = "PATCHFLEET_SUPERVISED_BY=";
/// How names begin of folders that are being built or taken away.
const PASSING: [&str; 2] = [".unfinished-", ".doomed-"];

impl World {
    /// Waits until processes, mounts, control groups, containers, sockets and passing folders of all
    /// agents that ever ran here are gone.
    pub(crate) async fn nothing_is_left(&self) {
        let gone = async {
            while !self.leftovers().is_empty() {
                tokio::time::sleep(super::LOOK).await;
            }
        };
        let gone = tokio::time::timeout(super::PATIENCE, gone).await;
        assert!(gone.is_ok(), "left: {:#?}", self.leftovers());
    }

    fn leftovers(&self) -> Vec<String> {
        let mut left = Vec::new();
        let groups = self.groups();
        for folder in &groups {
            left.push(format!("the group {}", folder.display()));
        }
        for pid in self.pids.iter().filter(|_| self.plan.container.is_some()) {
            left.extend(containers_of(*pid).unwrap());
        }
        let parts = [&self.coordinator, &self.agent].into_iter().flatten();
        let living: Vec<_> = parts.chain(&self.others).filter_map(Process::pid).collect();
        for pid in processes() {
            if !living.contains(&pid) && self.is_of_this_world(pid) {
                let words = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                left.push(format!("the process {pid}: {}", words.replace('\0', " ")));
            }
        }
        let folder = self.folder().display().to_string();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mounts = mounts.lines().filter(|line| line.contains(&folder));
        left.extend(mounts.map(|line| format!("the mount {line}")));
        let mut open = vec![self.folder().join("workspaces")];
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let Ok(kind) = entry.file_type() else {
                    continue;
                };
                let name = entry.file_name().to_string_lossy().into_owned();
                if kind.is_socket() || PASSING.iter().any(|it| name.starts_with(it)) {
                    left.push(entry.path().display().to_string());
                } else if kind.is_dir() {
                    open.push(entry.path());
                }
            }
        }
        left
    }

    fn is_of_this_world(&self, pid: u32) -> bool {
        let place = PathBuf::from(format!("/proc/{pid}"));
        let text = |name: &str| {
            let bytes = fs::read(place.join(name)).unwrap_or_default();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let environment = text("environ");
        let mark = environment.split('\0').find_map(|it| it.strip_prefix(MARK));
        let owner = mark.and_then(|mark| mark.split(':').nth(1)?.parse().ok());
        let is_of_an_agent = owner.is_some_and(|owner: u32| self.pids.contains(&owner));
        let words = text("cmdline");
        let is_a_git_of_ours = words.contains(&*self.folder().to_string_lossy());
        // The processes of a test's own database have other folders.
        is_of_an_agent || is_a_git_of_ours
    }

    /// Control groups of every agent that ever ran here.
    fn groups(&self) -> Vec<PathBuf> {
        let (mut open, mut found) = (vec![PathBuf::from("/sys/fs/cgroup")], Vec::new());
        while let Some(folder) = open.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                if !entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    continue;
                }
                if self.is_a_group_of_ours(&entry.path()) {
                    found.push(entry.path());
                }
                open.push(entry.path());
            }
        }
        found
    }

    fn is_a_group_of_ours(&self, folder: &Path) -> bool {
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        let mark = name.strip_prefix("patchfleet-");
        let owner = mark.and_then(|mark| mark.split(':').nth(1)?.parse().ok());
        owner.is_some_and(|owner: u32| self.pids.contains(&owner))
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}
