//! Limits of whole runs, met for real. What this host can't enforce is said, with the reason.

use super::*;

/// A sandbox that isolates and enforces this limit; nothing, said aloud, where that can't be.
async fn limiting(limit: Limit, config: SandboxConfig) -> Option<Sandbox> {
    let sandbox = isolating(config).await?;
    let mut missing = sandbox.limits_not_enforced().into_iter();
    let Some((_, why)) = missing.find(|(found, _)| *found == limit) else {
        return Some(sandbox);
    };
    println!("can't run here: {} are not limited: {why}", limit.as_str());
    None
}

fn config() -> SandboxConfig {
    SandboxConfig {
        memory_mib: 128,
        processes: 32,
        file_mib: 64,
        disk_mib: 64,
        ..SandboxConfig::default()
    }
}

async fn python(sandbox: &Sandbox, script: &str) -> Ran {
    let place = Place::new();
    place
        .run(sandbox, &["python3", "-c", script])
        .await
        .unwrap()
}

#[tokio::test]
async fn a_grandchild_that_ran_out_of_memory_is_told_though_the_command_ends_well() {
    let Some(sandbox) = limiting(Limit::Memory, config()).await else {
        return;
    };
    let script = "python3 -c 'print(len(b\"x\" * (1 << 30)))'; exit 0";
    let script = format!("sh -c \"{}\"; exit 0", script.replace('"', "\\\""));
    let ran = Place::new().run(&sandbox, &["sh", "-c", &script]).await;
    let ran = ran.unwrap();
    assert!(ran.usage.oom_kills > Some(0), "{ran:?}");
    let peak = ran.usage.peak_memory_bytes.unwrap();
    assert!((64 << 20..=128 << 20).contains(&peak), "{peak}");
    let exceeded = ran.exceeded.unwrap();
    assert!(exceeded.voids_result() && exceeded.to_string().contains("128 MiB"));
    assert!(!ran.limits_not_enforced.contains(&"memory"));
}

#[tokio::test]
async fn a_run_that_keeps_to_its_memory_reports_what_it_used_and_no_limit() {
    let Some(sandbox) = limiting(Limit::Memory, config()).await else {
        return;
    };
    let ran = python(&sandbox, "x = b'x' * (32 << 20)").await;
    assert!(ran.finished.succeeded(), "{ran:?}");
    assert_eq!((ran.usage.oom_kills, ran.exceeded), (Some(0), None));
    assert!(ran.usage.peak_memory_bytes > Some(32 << 20));
}

#[tokio::test]
async fn folders_in_memory_leave_half_of_it_to_programs() {
    let Some(sandbox) = limiting(Limit::Memory, config()).await else {
        return;
    };
    let fill = |folder| format!("dd if=/dev/zero of={folder}/big bs=1M 2>/dev/null");
    let script = format!(
        "{}; {}; python3 -c \"x = b'x' * (32 << 20)\"",
        fill("/tmp"),
        fill("/dev/shm")
    );
    let ran = Place::new().run(&sandbox, &["sh", "-c", &script]).await;
    let ran = ran.unwrap();
    assert!(ran.finished.succeeded(), "{ran:?}");
    assert_eq!(ran.usage.oom_kills, Some(0));
}

const FORKS: &str = "import os, time
for _ in range(400):
    if os.fork() == 0:
        time.sleep(60)
        os._exit(0)
";

#[tokio::test]
async fn a_fork_bomb_is_refused_processes_and_leaves_none() {
    let Some(sandbox) = limiting(Limit::Processes, config()).await else {
        return;
    };
    let ran = python(&sandbox, FORKS).await;
    assert!(!ran.finished.succeeded());
    let exceeded = ran.exceeded.unwrap();
    let met = matches!(exceeded, Exceeded::TooManyProcesses { limit: 32, .. });
    assert!(met, "{exceeded}");
}

#[tokio::test]
async fn processes_are_limited_without_control_groups_too_and_the_rest_is_named() {
    if isolating(config()).await.is_none() {
        return;
    }
    let mut namespace = Namespace::new(&config(), &[]);
    namespace.without_groups();
    let sandbox = Sandbox {
        backend: Isolating::Namespace(Arc::new(namespace)),
        ..Sandbox::default()
    };
    let ran = python(&sandbox, FORKS).await;
    assert!(!ran.finished.succeeded(), "{ran:?}");
    assert_eq!(ran.usage, Usage::default());
    assert_eq!(ran.limits_not_enforced, ["memory", "processors"]);
}

#[tokio::test]
async fn a_timeout_says_that_the_command_waited_for_its_share_of_processors() {
    if limiting(Limit::Processors, config()).await.is_none() {
        return;
    }
    let mut namespace = Namespace::new(&config(), &[]);
    namespace.replace_cpu_percent(5);
    let sandbox = Sandbox {
        backend: Isolating::Namespace(Arc::new(namespace)),
        ..Sandbox::default()
    };
    let place = Place::new();
    let (tree, private) = (place.tree(), place.private());
    let command = ["sh", "-c", "while :; do :; done"].map(str::to_owned);
    let run = Run {
        timeout: Duration::from_secs(3),
        ..Run::new(&command, &tree, &private)
    };
    let ran = sandbox.run_trusted(run, &CancellationToken::new()).await;
    let ran = ran.unwrap();
    assert!(ran.finished.timed_out);
    assert!(ran.usage.throttled_periods > Some(0), "{ran:?}");
    let exceeded = ran.exceeded.unwrap();
    assert!(matches!(exceeded, Exceeded::Throttled { .. }), "{exceeded}");
}

#[tokio::test]
async fn no_file_grows_beyond_its_limit() {
    let Some(sandbox) = isolating(config()).await else {
        return;
    };
    let place = Place::new();
    let script = "head -c 65M /dev/zero > big";
    let ran = place.run(&sandbox, &["sh", "-c", script]).await.unwrap();
    assert!(!ran.finished.succeeded());
    let length = std::fs::metadata(place.tree().join("big")).unwrap().len();
    assert_eq!(length, 64 << 20);
}

#[tokio::test]
async fn what_fills_the_disk_is_ended_and_says_what_it_said_until_then() {
    let Some(sandbox) = isolating(config()).await else {
        return;
    };
    let place = Place::new();
    // Each file is small enough; then it waits, so that nothing but the watcher ends it.
    let script = "echo begun; trap 'exit 0' TERM; \
        for n in 1 2 3 4 5; do head -c 20M /dev/zero > $HOME/$n; done; \
        sleep 100 & wait";
    let ran = place.run(&sandbox, &["sh", "-c", script]).await.unwrap();
    let exceeded = ran.exceeded.unwrap();
    let met = matches!(
        exceeded,
        Exceeded::DiskLimit {
            used_mib: 65..,
            limit_mib: 64
        }
    );
    assert!(met, "{exceeded}");
    assert_eq!(ran.finished.stdout_text(), "begun\n");
    assert_eq!(ran.finished.returncode, None);
    assert!(!ran.finished.timed_out);
}

#[tokio::test]
async fn files_without_a_name_count_for_as_long_as_they_are_open() {
    let Some(sandbox) = isolating(config()).await else {
        return;
    };
    let script = "import os, sys, time
for number in range(5):
    file = os.open('file', os.O_CREAT | os.O_WRONLY)
    os.unlink('file')
    os.write(file, bytes(20 << 20))
print('written', flush=True)
time.sleep(100)";
    let ran = python(&sandbox, script).await;
    let met = matches!(ran.exceeded, Some(Exceeded::DiskLimit { .. }));
    assert!(met, "{ran:?}");
    assert!(!ran.finished.timed_out);
}
