//! Tests that harm their host as far as they can: what becomes of the task, of the agent, and that
//! nothing is left of any of it.

use patchfleet_domain::{FailureKind, Task, TaskState};

use crate::world::{Plan, REPOSITORY, World, kit};

/// More than an agent needs, and less than an output without end would take.
const MEMORY_KIB: u64 = 400 << 10;

async fn finished(world: &World, count: usize, state: TaskState) -> Vec<Task> {
    let look = async || {
        let mut tasks = world.tasks().await;
        tasks.retain(|task| task.state == state);
        (tasks.len() >= count).then_some(tasks)
    };
    let what = format!("{count} tasks that are {state}");
    world.eventually(&what, look).await
}

/// A repository whose tests are a program that does not end, for two seconds at most.
async fn tested_by(harm: &'static [(&'static str, &'static str)]) -> World {
    let answer = std::fs::read_to_string(kit("sample/answers/1.diff")).unwrap();
    World::with(Plan {
        repository_config: Some("test: python3 tests/harm.py\ntest_timeout: 2s\n"),
        more_files: harm,
        answers: vec![answer],
        ..Plan::default()
    })
    .await
}

async fn assert_timed_out(world: &World) {
    let issue = world.open();
    world.label(issue);
    let task = finished(world, 1, TaskState::Failed).await.remove(0);
    let failure = task.failure.unwrap();
    assert_eq!(
        failure.kind,
        FailureKind::TestsTimedOut,
        "{}",
        failure.message
    );
    world.idle_agent().await;
    world.nothing_is_left().await;
}

const STOPS: &str = "import os, signal
if os.fork() == 0:
    os.setsid()
    os.kill(os.getpid(), signal.SIGSTOP)
os.kill(os.getpid(), signal.SIGSTOP)
";

#[tokio::test]
async fn tests_that_stop_themselves_time_out_and_nothing_of_them_is_left() {
    assert_timed_out(&tested_by(&[("tests/harm.py", STOPS)]).await).await;
}

const FLOODS: &str = "import os
piece = b'x' * 65536 if os.fork() else b'line\\n' * 10000
while True:
    os.write(1 if piece[0] == 120 else 2, piece)
";

#[tokio::test]
async fn an_output_without_end_or_lines_costs_the_agent_no_memory() {
    let world = tested_by(&[("tests/harm.py", FLOODS)]).await;
    assert_timed_out(&world).await;
    let status = std::fs::read_to_string(format!("/proc/{}/status", world.agent_pid())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.unwrap().trim().trim_end_matches(" kB");
    assert!(peak.parse::<u64>().unwrap() < MEMORY_KIB, "{peak} KiB");
}

const REMOVES: &str = "import os, shutil, subprocess, sys
ended = subprocess.run([sys.executable, '-m', 'unittest', 'discover', '-v'])
for name in os.listdir('.'):
    shutil.rmtree(name) if os.path.isdir(name) and not os.path.islink(name) else os.unlink(name)
try:
    os.rmdir(os.getcwd())
except OSError:
    pass
sys.exit(ended.returncode)
";

#[tokio::test]
async fn tests_that_remove_their_own_work_tree_count_as_what_they_said() {
    for isolated in [true, false] {
        let world = World::with(Plan {
            repository_config: Some("test: python3 tests/harm.py\n"),
            more_files: &[("tests/harm.py", REMOVES)],
            isolated,
            ..Plan::default()
        })
        .await;
        let issue = world.open();
        world.label(issue);
        world.merge_and_check(issue).await;
        let invoice = world.github.file(REPOSITORY, "main", "orders/invoice.py");
        assert!(invoice.unwrap().is_some(), "isolated: {isolated}");
        world.nothing_is_left().await;
    }
}

const FILLS: &str = "import os, unittest


class Fills(unittest.TestCase):
    def test_there_is_always_room(self):
        if os.path.exists('orders/fill.txt'):
            with open('filler', 'wb', buffering=0) as file:
                while file.write(bytes(65536)):
                    pass
";

#[tokio::test]
async fn a_disk_that_a_test_fills_costs_that_task_alone() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let world = World::with(Plan {
        more_files: &[("tests/test_fill.py", FILLS)],
        afterwards: "if test -e \"${gate%gate}fill\"; then echo $PATCHFLEET_ROUND > orders/fill.txt; fi",
        disk: Some("48m"),
        ..Plan::default()
    })
    .await;
    let fill = world.draft_folder().join("fill");
    std::fs::write(&fill, "").unwrap();
    let issue = world.open();
    world.label(issue);
    let task = finished(&world, 1, TaskState::Failed).await.remove(0);
    let failure = task.failure.unwrap();
    assert_ne!(failure.kind, FailureKind::Internal, "{}", failure.message);
    let told = world.status_says(issue, failure.kind.as_str()).await;
    assert!(told.contains("No space left"), "{told}");
    std::fs::remove_file(&fill).unwrap();
    let issue = world.open();
    world.label(issue);
    finished(&world, 1, TaskState::Review).await;
    world.idle_agent().await;
    world.nothing_is_left().await;
}

const MANY: usize = 20;

#[tokio::test]
async fn twenty_tasks_at_once_on_one_root_leave_nothing() {
    let world = World::with(Plan {
        slots: Some(20),
        ..Plan::default()
    })
    .await;
    let gate = world.draft_gate();
    for _ in 0..MANY {
        let issue = world.open();
        world.label(issue);
    }
    let look = async || (world.drafts() == MANY).then_some(());
    world.eventually("twenty drafts at once", look).await;
    gate.open();
    let tasks = finished(&world, MANY, TaskState::Review).await;
    assert!(tasks.iter().all(|task| task.failures == 0), "{tasks:#?}");
    assert_eq!(world.github.pulls(REPOSITORY).unwrap().len(), MANY);
    world.idle_agent().await;
    world.nothing_is_left().await;
}
