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

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use patchfleet_testkit::container::{containers_of, image};

fn patchfleet(command: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_patchfleet"))
        .args(["sandbox", "run"])
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
    let mut killed = patchfleet(&["--", "sleep", "600"]);
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
    let next = patchfleet(&["--", "true"]).wait().unwrap();
    assert!(next.success());
    assert_eq!(groups(pid), Vec::<PathBuf>::new());
}

/// Processes whose parent that is.
fn children(of: u32) -> Vec<Pid> {
    let entries = fs::read_dir("/proc").unwrap();
    let numbers = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let is_child = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let after_name = stat.rsplit_once(')').map(|it| it.1).unwrap_or_default();
        after_name.split_whitespace().nth(1) == Some(&of.to_string())
    };
    numbers.filter(is_child).map(Pid::from_raw).collect()
}

#[test]
fn a_container_ends_with_its_agent_also_when_whoever_oversees_it_is_killed_too() {
    let image = match image() {
        Ok(image) if nix::unistd::geteuid().is_root() => image,
        other => {
            println!("can't run here: {other:?}");
            return;
        }
    };
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().display().to_string();
    let options = [
        "--backend",
        "container",
        "--image",
        &image,
        "--workspace",
        &place,
    ];
    let command = ["--", "sh", "-c", "touch begun; sleep 600"];
    let mut killed = patchfleet(&[&options[..], &command].concat());
    let pid = killed.id();
    let begun = folder.path().join("begun");
    wait_until("it did not begin", || begun.exists());
    assert_eq!(containers_of(pid).unwrap().len(), 1);
    // Whoever would end what is below it.
    let supervisors = children(pid);
    assert!(!supervisors.is_empty());
    killed.kill().unwrap();
    for supervisor in supervisors {
        kill(supervisor, Signal::SIGKILL).unwrap();
    }
    killed.wait().unwrap();
    wait_until("its container is there", || {
        containers_of(pid).unwrap().is_empty()
    });
}
