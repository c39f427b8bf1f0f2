//! Nothing survives its owner: no command an agent that dies, however it dies, and no dead process
//! a binary that is process 1.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::Stdio;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::json;

use crate::world::{Part, World};

/// Processes of the draft command: those that were started with the path of its folder. In a
/// sandbox neither their folders nor their environments tell whose they are.
fn drafting(world: &World) -> Vec<i32> {
    let folder = world.draft_folder().display().to_string();
    let is_there = |pid: &i32| command_line(*pid).contains(&folder);
    processes().filter(is_there).collect()
}

/// The supervisors of an agent's commands.
fn supervisors(agent: u32) -> Vec<i32> {
    let agent = agent.to_string();
    let is_child = |pid: &i32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        let rest = stat.rsplit_once(')').map(|(_, rest)| rest.to_owned());
        rest.is_some_and(|rest| rest.split_whitespace().nth(1) == Some(&agent))
    };
    processes().filter(is_child).collect()
}

fn processes() -> impl Iterator<Item = i32> {
    let entries = std::fs::read_dir("/proc").unwrap();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn command_line(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).into_owned()
}

/// An agent that gets these signals while its draft command waits for a gate that nobody opens.
async fn dies_by(signals: &[Signal]) {
    let mut world = World::new().await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.drafting().await;
    assert!(!drafting(&world).is_empty());
    let mut agent = world.take(Part::Agent);
    for signal in signals {
        agent.signal(*signal).unwrap();
    }
    agent.ended().await.unwrap();
    let look = async || drafting(&world).is_empty().then_some(());
    world.eventually("the command's end", look).await;
    gate.open();
}

#[tokio::test]
async fn a_killed_agent_leaves_no_command_running() {
    dies_by(&[Signal::SIGKILL]).await;
}

#[tokio::test]
async fn an_agent_that_crashes_leaves_no_command_running() {
    dies_by(&[Signal::SIGABRT]).await;
}

#[tokio::test]
async fn an_agent_that_is_hung_up_on_ends_in_order_and_leaves_no_command_running() {
    dies_by(&[Signal::SIGHUP]).await;
}

#[tokio::test]
async fn an_agent_that_is_told_twice_to_end_leaves_no_command_running() {
    dies_by(&[Signal::SIGTERM, Signal::SIGINT]).await;
}

/// An agent whose supervisors died with it, as when the host is out of memory.
#[tokio::test]
async fn the_next_start_ends_what_an_agent_and_its_supervisors_left() {
    let mut world = World::new().await;
    let gate = world.draft_gate();
    let issue = world.open();
    world.label(issue);
    world.drafting().await;
    let agent = world.take(Part::Agent);
    agent.signal(Signal::SIGSTOP).unwrap();
    let before = drafting(&world);
    let supervisors = supervisors(agent.pid().unwrap());
    assert!(!supervisors.is_empty());
    for pid in supervisors {
        kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    }
    agent.kill().await;
    // A sandbox ends with its supervisor; without one there is an orphan.
    assert!(world.isolates || !drafting(&world).is_empty(), "the orphan");
    world.start(Part::Agent).await;
    let is_old = |pid: &i32| before.contains(pid);
    let look = async || (!drafting(&world).iter().any(is_old)).then_some(());
    world.eventually("the orphan's end", look).await;
    gate.open();
    world.merge_and_check(issue).await;
}

/// As a container's process 1, beside an orphan that waits for a gate.
#[tokio::test]
async fn as_process_1_it_reaps_orphans_and_ends_when_told() {
    let folder = tempfile::tempdir().unwrap();
    let (config, gate) = (folder.path().join("agent.toml"), folder.path().join("gate"));
    let agent = json!({"agents": [{
        "id": "general-1", "type": "general",
        "coordinator": {"url": "http://127.0.0.1:9", "key": "nobody-listens"},
        "workspace": {"root": folder.path().join("work")},
        "draft": {"mode": "cli", "command": ["true"]},
    }]});
    std::fs::write(&config, toml::to_string(&agent).unwrap()).unwrap();
    nix::unistd::mkfifo(&gate, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let script = "(cat \"$1\" &); exec \"$2\" agent --config \"$3\"";
    let flags = [
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
    ];
    #[expect(clippy::disallowed_methods, reason = "a container's place")]
    let mut unshare = tokio::process::Command::new("unshare");
    unshare
        .args(flags)
        .args(["--kill-child", "sh", "-c", script, "sh"]);
    unshare.args([&gate, Path::new(env!("CARGO_BIN_EXE_patchfleet")), &config]);
    let mut unshare = unshare
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();

    let outside = unshare.id().unwrap();
    // The orphan waits until somebody writes; that the program proper began is seen by its folder.
    let begun = async || folder.path().join("work").exists().then_some(());
    eventually(begun).await;
    let init = children(outside)[0];
    let orphan = |pid: &u32| command(*pid).starts_with("cat");
    let orphan = children(init).into_iter().find(orphan).unwrap();
    tokio::fs::write(&gate, "").await.unwrap();
    let reaped = async || (!Path::new(&format!("/proc/{orphan}")).exists()).then_some(());
    eventually(reaped).await;

    kill(Pid::from_raw(init.cast_signed()), Signal::SIGTERM).unwrap();
    let status = unshare.wait().await.unwrap();
    assert_eq!((status.code(), status.signal()), (Some(0), None));
}

async fn eventually<T>(look: impl AsyncFn() -> Option<T>) -> T {
    let search = async {
        loop {
            if let Some(found) = look().await {
                return found;
            }
            tokio::time::sleep(std::time::Duration::from_millis(15)).await;
        }
    };
    let patience = std::time::Duration::from_mins(1);
    tokio::time::timeout(patience, search).await.unwrap()
}

fn children(pid: u32) -> Vec<u32> {
    let stat = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/stat")).ok();
    let parent = |child: u32| -> Option<u32> {
        let stat = stat(child)?;
        let (_, fields) = stat.rsplit_once(')')?;
        fields.split_whitespace().nth(1)?.parse().ok()
    };
    let entries = std::fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|child| parent(*child) == Some(pid)).collect()
}

fn command(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default()
}
