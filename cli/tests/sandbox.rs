//! Sandboxes of this program from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(
    clippy::disallowed_methods,
    reason = "a test starts the program itself"
)]
#![allow(clippy::print_stdout, reason = "a test says why it was not run")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

fn patchfleet(command: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_patchfleet"))
        .args(["sandbox", "run", "--"])
        .args(command)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Control groups of this process, wherever they are.
fn groups(of: u32) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![PathBuf::from("/sys/fs/cgroup")], Vec::new());
    while let Some(folder) = open.pop() {
        let entries = fs::read_dir(&folder).into_iter().flatten().flatten();
        for path in entries.map(|entry| entry.path()).filter(|it| is_folder(it)) {
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            let mut parts = name
                .strip_prefix("patchfleet-")
                .unwrap_or_default()
                .split(':');
            if parts.nth(1) == Some(&of.to_string()) {
                found.push(path.clone());
            }
            open.push(path);
        }
    }
    found
}

fn is_folder(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|it| it.is_dir())
}

fn members(groups: &[PathBuf]) -> usize {
    let texts = groups
        .iter()
        .map(|it| fs::read_to_string(it.join("cgroup.procs")).unwrap_or_default());
    texts.map(|text| text.lines().count()).sum()
}

fn wait_until(what: &str, is_so: impl Fn() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < Duration::from_mins(1), "{what}");
        thread::yield_now();
    }
}

#[test]
fn nothing_is_left_of_a_run_whose_agent_was_killed() {
    let mut killed = patchfleet(&["sleep", "600"]);
    let pid = killed.id();
    wait_until("it neither began nor ended", || {
        members(&groups(pid)) > 0
            || fs::read_to_string(format!("/proc/{pid}/stat"))
                .unwrap()
                .contains(") Z ")
    });
    if groups(pid).is_empty() {
        println!("can't run here: no control groups are made on this host");
        killed.wait().unwrap();
        return;
    }
    killed.kill().unwrap();
    killed.wait().unwrap();
    wait_until("its command lives on", || members(&groups(pid)) == 0);
    let next = patchfleet(&["true"]).wait().unwrap();
    assert!(next.success());
    assert_eq!(groups(pid), Vec::<PathBuf>::new());
}
