use std::sync::Mutex;

use super::*;

fn spawn(program: &str, args: &[&str]) -> Spawn {
    Spawn::new(program, std::env::temp_dir()).args(args.iter().copied())
}

fn sh(script: &str) -> Spawn {
    spawn("sh", &["-c", script])
}

async fn run(spawn: Spawn) -> Finished {
    spawn.run(&CancellationToken::new()).await.unwrap()
}

/// Waits until the process is gone; a zombie counts as gone.
async fn assert_dies(pid: &str) {
    for _ in 0..1000 {
        if !is_alive(pid) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("process {pid} is still alive");
}

fn assert_is_dead(pid: &str) {
    assert!(!is_alive(pid), "process {pid} is still alive");
}

fn is_alive(pid: &str) -> bool {
    let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
    table::Process::find(pid).is_some_and(|process| !process.is_dead)
}

#[tokio::test]
async fn exit_code_and_both_outputs_are_reported() {
    let finished = run(sh("echo out; echo err >&2; exit 3")).await;
    assert_eq!((finished.returncode, finished.signal), (Some(3), None));
    assert_eq!(finished.stdout_text(), "out\n");
    assert_eq!(finished.stderr_text(), "err\n");
    assert!(!finished.succeeded());
    assert_eq!(run(sh("kill -9 $$")).await.signal, Some(9));
}

#[tokio::test]
async fn the_environment_is_only_what_was_named() {
    let finished = run(spawn("env", &[]).env("HOME", "/nowhere")).await;
    let output = finished.stdout_text();
    let mut names: Vec<_> = output
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    assert_eq!(names, ["HOME", "LANG", "PATCHFLEET_SUPERVISED_BY", "PATH"]);
}

#[tokio::test]
async fn arguments_meet_no_shell() {
    let finished = run(spawn("echo", &["$(id)", "; ls", "*"])).await;
    assert_eq!(finished.stdout_text(), "$(id) ; ls *\n");
}

#[tokio::test]
async fn input_reaches_the_child() {
    let bytes = vec![b'x'; 300_000];
    let finished = run(spawn("wc", &["-c"]).input(Input::Bytes(bytes))).await;
    assert_eq!(finished.stdout_text().trim(), "300000");
}

#[tokio::test]
async fn a_timeout_kills_grandchildren_that_ignore_sigterm() {
    let script = "trap '' TERM; sh -c 'trap \"\" TERM; echo $$; while :; do sleep 60; done' & wait";
    let finished = run(sh(script).timeout(Duration::from_millis(300))).await;
    assert!(finished.timed_out);
    assert_eq!((finished.returncode, finished.signal), (None, Some(9)));
    assert_dies(finished.stdout_text().trim()).await;
}

#[tokio::test]
async fn what_a_child_leaves_behind_is_dead_after_a_normal_end() {
    let finished = run(sh("sleep 600 & echo $!")).await;
    assert!(finished.succeeded());
    assert_is_dead(finished.stdout_text().trim());
}

/// Leaves group, session and parent, shuts its outputs and ignores SIGTERM, as daemons do.
const DAEMON: &str = "setsid sh -c 'trap \"\" TERM; echo $$ > pid; exec >&- 2>&-; \
    while :; do sleep 600; done' & while ! test -s pid; do :; done; cat pid";

#[tokio::test]
async fn a_daemon_that_left_group_session_and_parent_is_dead_after_a_normal_end() {
    let folder = tempfile::tempdir().unwrap();
    let finished = run(Spawn::new("sh", folder.path()).args(["-c", DAEMON])).await;
    assert!(finished.succeeded());
    assert_is_dead(finished.stdout_text().trim());
}

#[tokio::test]
async fn a_command_that_kills_its_supervisor_has_its_daemons_found_by_their_mark() {
    let folder = tempfile::tempdir().unwrap();
    let script = format!("{DAEMON}; kill -9 $PPID; sleep 600");
    let ended = Spawn::new("sh", folder.path()).args(["-c", &script]);
    let left = ended.run(&CancellationToken::new()).await.unwrap_err();
    assert!(matches!(left, SpawnError::Left { .. }), "{left}");
    let pid = std::fs::read_to_string(folder.path().join("pid")).unwrap();
    assert_is_dead(pid.trim());
}

#[tokio::test]
async fn a_command_whose_processes_can_not_be_ended_has_no_result() {
    let (sender, mut lines) = tokio::sync::mpsc::channel(1);
    let stop = CancellationToken::new();
    // Nobody ends processes while the supervisor is stopped.
    let script = "kill -STOP $PPID; echo $PPID; sleep 600";
    let child = sh(script).on_line(first_line(sender)).stop(stop.clone());
    let cancel = CancellationToken::new();
    let (result, supervisor) = tokio::join!(child.run(&cancel), async {
        let supervisor = lines.recv().await.unwrap();
        tokio::time::pause();
        stop.cancel();
        supervisor
    });
    let left = result.unwrap_err();
    let text = left.to_string();
    assert!(matches!(left, SpawnError::Left { .. }), "{text}");
    assert!(
        text.contains("`sh` has ended, but") && text.contains("is not used"),
        "{text}"
    );
    tokio::time::resume();
    run(sh(&format!("kill -CONT {supervisor}"))).await;
    assert_dies(&supervisor).await;
}

#[tokio::test]
async fn what_an_agent_that_is_dead_left_behind_is_ended() {
    // An owner that lives no more: a process that has just ended, with a start that is not its own.
    let gone = run(sh("echo $$")).await.stdout_text();
    let namespace = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let namespace: String = namespace
        .to_string_lossy()
        .matches(char::is_numeric)
        .collect();
    let mark = |owner: &str| format!("PATCHFLEET_SUPERVISED_BY={owner}");
    let orphan = mark(&format!("{namespace}:{}:1:0", gone.trim()));
    let elsewhere = mark(&format!("1{namespace}:{}:1:0", gone.trim()));
    let script = "for mark; do env \"$mark\" sleep 600 & echo $!; done; wait";
    let (sender, mut lines) = tokio::sync::mpsc::channel(2);
    let child = sh(script)
        .args(["sh", &orphan, &elsewhere])
        .on_line(first_line(sender));
    let cancel = CancellationToken::new();
    let (result, ()) = tokio::join!(child.run(&cancel), async {
        let orphan = lines.recv().await.unwrap();
        let elsewhere = lines.recv().await.unwrap();
        // Each has its mark once its shell has become the other program.
        for pid in [&orphan, &elsewhere] {
            let begun = || std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap();
            while !begun().starts_with("sleep") {
                tokio::task::yield_now().await;
            }
        }
        end_orphans().await.unwrap();
        assert_is_dead(&orphan);
        assert!(
            is_alive(&elsewhere),
            "another container's process was ended"
        );
        cancel.cancel();
    });
    assert!(matches!(result, Err(SpawnError::Cancelled)));
}

#[tokio::test]
async fn a_signals_death_is_reported_as_one_even_where_the_supervisor_ignores_it() {
    for signal in [1, 2, 13, 15] {
        let finished = run(sh(&format!("kill -{signal} $$"))).await;
        assert_eq!((finished.returncode, finished.signal), (None, Some(signal)));
    }
}

#[tokio::test]
async fn a_program_that_the_system_refuses_is_an_error_with_its_reason() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("tool");
    std::fs::write(&file, "\0not a program").unwrap();
    let executable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&file, executable).unwrap();
    let spawn = Spawn::new("./tool", folder.path());
    let error = spawn.run(&CancellationToken::new()).await.unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("`./tool`") && text.contains("Exec format error"),
        "{text}"
    );
}

fn first_line(sender: tokio::sync::mpsc::Sender<String>) -> OnLine {
    Arc::new(move |line: &str| {
        let _ = sender.try_send(line.to_owned());
    })
}

#[tokio::test]
async fn calling_off_ends_the_group() {
    let cancel = CancellationToken::new();
    let (sender, mut lines) = tokio::sync::mpsc::channel(1);
    let child = sh("echo $$; sleep 600").on_line(first_line(sender));
    let (result, pid) = tokio::join!(child.run(&cancel), async {
        let pid = lines.recv().await.unwrap();
        cancel.cancel();
        pid
    });
    assert!(matches!(result, Err(SpawnError::Cancelled)));
    assert_dies(&pid).await;
}

#[tokio::test]
async fn dropping_the_future_ends_the_group() {
    let cancel = CancellationToken::new();
    let (sender, mut lines) = tokio::sync::mpsc::channel(1);
    let child = sh("sleep 600 & echo $!; wait").on_line(first_line(sender));
    let pid = tokio::select! {
        _ = child.run(&cancel) => panic!("it ended by itself"),
        pid = lines.recv() => pid.unwrap(),
    };
    assert_dies(&pid).await;
}

#[tokio::test]
async fn output_is_capped_at_its_end_and_marked() {
    let finished = run(sh("seq 1 100000").output_cap(1000)).await;
    assert_eq!(finished.stdout.len(), 1000);
    assert_eq!(finished.stdout_dropped, 588_895 - 1000);
    assert!(finished.stdout_text().starts_with("[587895 bytes before"));
    assert!(finished.stdout_text().ends_with("100000\n"));
}

#[tokio::test]
async fn lines_are_reported_whole_and_in_order() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sink = Arc::clone(&seen);
    let child = sh("printf 'one\\r\\ntwo\\n'; printf 'three'").on_line(Arc::new(move |line| {
        sink.lock().unwrap().push(line.to_owned());
    }));
    run(child).await;
    assert_eq!(*seen.lock().unwrap(), ["one", "two", "three"]);
}

#[tokio::test]
async fn a_missing_program_is_named_with_and_without_limits() {
    for child in [spawn("no-such-program", &[]), spawn("./no-such", &[])] {
        let error = child
            .limits(Limits::default())
            .run(&CancellationToken::new())
            .await
            .unwrap_err();
        assert!(matches!(&error, SpawnError::NotFound { program } if program.contains("no-such")));
    }
}

#[tokio::test]
async fn limits_hold() {
    let limits = Limits {
        file_size: 4096,
        open_files: 64,
    };
    let finished = run(sh("ulimit -n; ulimit -c").limits(limits)).await;
    assert_eq!(finished.stdout_text(), "64\n0\n");
}

#[tokio::test]
async fn a_redacted_output_has_no_token_across_the_cut_of_a_long_line_and_no_body_of_a_key() {
    let token = format!("ghp_{}", "a1B2".repeat(9));
    let body = "QmFzZTY0Qm9keU9m".repeat(4);
    // Lines are cut at 4 KiB: the token stands across the first cut.
    let script = format!(
        "head -c 4080 /dev/zero | tr '\\0' ' '; printf '%s' {token}; echo ' and on'\n\
         printf '%s\\n' '-----BEGIN PRIVATE KEY-----' {body} {body} '-----END PRIVATE KEY-----' end"
    );
    let lines = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&lines);
    let on_line: OnLine = Arc::new(move |line: &str| seen.lock().unwrap().push(line.to_owned()));
    let finished = run(sh(&script).redacted().on_line(on_line)).await;
    let reported = lines.lock().unwrap().join("\n");
    for text in [finished.stdout_text(), reported] {
        assert!(!text.contains("a1B2") && !text.contains("QmFz"), "{text}");
        assert!(
            text.contains("[redacted]") && text.trim_end().ends_with("end"),
            "{text}"
        );
    }
}

#[tokio::test]
async fn what_a_command_started_may_tidy_up_after_it_where_it_may_linger() {
    let folder = tempfile::tempdir().unwrap();
    // The command's own process is gone when it was reaped.
    let script = "(while [ -d /proc/$$ ]; do :; done; touch tidy) & exit 3";
    let spawn = Spawn::new("sh", folder.path()).args(["-c", script]);
    let finished = run(spawn.linger(Duration::from_mins(1))).await;
    assert_eq!(finished.returncode, Some(3));
    assert!(folder.path().join("tidy").exists());

    let stays = sh("sleep 600 & echo $!");
    let finished = run(stays.linger(Duration::from_millis(50))).await;
    assert_is_dead(finished.stdout_text().trim());
}
