use std::time::Duration;

use patchfleet_domain::FailureKind;

use crate::draft::{DraftNetwork, Drafter, fingerprint};
use crate::nodes::tests::{BODY, FIX, REPOSITORY, Rig, TITLE};
use crate::sandbox::Sandbox;

#[test]
fn a_fingerprint_is_of_title_and_body() {
    // sha256("Sum is wrong\n\nIt subtracts.")
    assert_eq!(fingerprint(TITLE, BODY), "51831b3f8013bb99");
    assert_ne!(fingerprint("a", "b"), fingerprint("a", "c"));
    assert_eq!(fingerprint("a", "b\r\nc\r\n"), fingerprint("a ", "b\nc"));
}

#[tokio::test]
async fn a_missing_recording_names_fingerprint_and_path() {
    let rig = Rig::with(REPOSITORY).await;
    let failure = rig.fails().await;
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::DraftFailed, false)
    );
    let print = fingerprint(TITLE, BODY);
    assert!(
        failure.message.contains(&format!("{print}/1.diff")),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_recording_of_a_lower_round_stands_in() {
    let no_fix = FIX.replace("+    return a + b", "+    return a * b");
    let rig = Rig::answering(REPOSITORY, &[&no_fix]).await;
    let failure = rig.fails().await;
    assert_eq!(failure.kind, FailureKind::TestsFailed);
}

#[tokio::test]
async fn a_command_edits_the_work_tree_and_git_tells_the_difference() {
    let script = "test -f \"$PATCHFLEET_REQUEST_FILE\" || exit 9\n\
        case $PATCHFLEET_REQUEST in *\"It subtracts.\"*) ;; *) exit 8;; esac\n\
        test \"$PATCHFLEET_ROUND\" = 1 || exit 7\n\
        test -z \"$PATCHFLEET_FINDINGS_FILE\" || exit 6\n\
        sed -i 's/a - b/a + b/' calc.py\n\
        echo new > added.txt\necho '*.tmp' > .gitignore\necho x > ignored.tmp\n\
        git commit -qam 'commits do not matter' 2>/dev/null\ntrue";
    let rig = Rig::commanding(REPOSITORY, script).await;
    let report = rig.run().await.unwrap();
    let files = rig
        .bench
        .origin
        .ask(&["ls-tree", "--name-only", "patchfleet/1-x"])
        .await;
    assert_eq!(files, ".gitignore\nadded.txt\ncalc.py\ntest_calc.py");
    let diff = report.ctx.text("diff.proposed").unwrap();
    assert!(diff.contains("+    return a + b"), "{diff}");
    let lacking = report.ctx.get("draft.isolation.limits_not_enforced");
    let all = serde_json::json!(["memory", "processors", "processes"]);
    assert_eq!(lacking, Some(&all), "nothing is isolated");
}

#[tokio::test]
async fn a_later_round_goes_on_from_the_last_and_gets_the_findings() {
    let script = "if [ $PATCHFLEET_ROUND = 1 ]; then sed -i 's/a - b/a * b/' calc.py; exit; fi\n\
        grep -q tests_failed \"$PATCHFLEET_FINDINGS_FILE\" || exit 9\n\
        grep -q 'Round 2' \"$PATCHFLEET_REQUEST_FILE\" || exit 8\n\
        grep -q 'a \\* b' calc.py || exit 7\n\
        sed -i 's/a \\* b/a + b/' calc.py";
    let rig = Rig::commanding(REPOSITORY, script).await;
    let report = rig.run().await.unwrap();
    let diff = report.ctx.text("diff.proposed").unwrap();
    assert!(
        diff.contains("-    return a - b\n+    return a + b"),
        "{diff}"
    );
}

#[tokio::test]
async fn a_command_that_fails_tells_what_it_said() {
    let rig = Rig::commanding(REPOSITORY, "echo no model >&2; exit 4").await;
    let failure = rig.fails().await;
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::DraftFailed, true)
    );
    assert!(
        failure.message.contains("exit code 4") && failure.message.contains("no model"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_draft_of_which_processes_may_live_is_the_hosts_fault_and_its_folders_are_not_touched() {
    let script = "sed -i 's/a - b/a + b/' calc.py; echo x > left; kill -9 $PPID";
    let rig = Rig::commanding(REPOSITORY, script).await;
    let failure = rig.fails().await;
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::HostFault, true)
    );
    assert!(failure.message.contains("may live on"), "{failure:?}");
    let tasks = std::fs::read_dir(rig.bench.root.path().join("backend-1/tasks")).unwrap();
    let mut tasks = tasks.map(|task| task.unwrap().path());
    assert!(tasks.any(|task| task.join("repo-clone/left").exists()));
}

#[tokio::test]
async fn a_command_that_is_slow_is_a_typed_failure() {
    let mut rig = Rig::with(REPOSITORY).await;
    rig.drafter = Drafter::Cli {
        profile: None,
        command: ["sleep", "600"].map(str::to_owned).into(),
        timeout: Duration::from_secs(1),
        silence: Duration::from_secs(20),
        pass_env: Vec::new(),
        network: DraftNetwork::Nothing,
        folders: Vec::new(),
        sandbox: Sandbox::default(),
    };
    let failure = rig.fails().await;
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::DraftFailed, false)
    );
    assert!(failure.message.contains("did not end"), "{failure:?}");
}

#[tokio::test]
async fn a_command_that_is_absent_or_not_logged_in_is_the_hosts_fault() {
    let mut rig = Rig::with(REPOSITORY).await;
    let not_logged_in = "echo '{\"type\":\"result\",\"is_error\":true,\"result\":\
        \"Not logged in \u{b7} Please run /login\"}'; exit 1";
    for (command, said) in [
        (&["no-such-program"][..], "`no-such-program` does not exist"),
        (&["sh", "-c", not_logged_in], "`agents.draft.pass_env`"),
    ] {
        rig.drafter = Drafter::Cli {
            profile: None,
            command: command.iter().map(|&word| word.to_owned()).collect(),
            timeout: Duration::from_secs(20),
            silence: Duration::from_secs(20),
            pass_env: Vec::new(),
            network: DraftNetwork::Nothing,
            folders: Vec::new(),
            sandbox: Sandbox::default(),
        };
        let failure = rig.fails().await;
        assert_eq!(failure.kind, FailureKind::HostFault);
        assert!(failure.message.contains(said), "{failure:?}");
    }
}

/// How often the command was run, by a count that it keeps outside of the work tree.
fn counted(rig: &Rig, script: &str) -> (String, std::path::PathBuf) {
    let count = rig.bench.root.path().join("count");
    (format!("echo x >> {}; {script}", count.display()), count)
}

#[tokio::test]
async fn a_command_that_changes_nothing_or_may_not_ends_after_one_run_with_its_last_words() {
    for (script, said, advice) in [
        ("echo I see no fault", "I see no fault", "changed no file"),
        (
            "echo '{\"result\":\"I may not write\",\"permission_denials\":[{\"tool_name\":\"Write\"}]}'",
            "I may not write",
            "`agents.draft.command`",
        ),
        (
            "echo 'cannot be used with root/sudo privileges' >&2; exit 1",
            "root/sudo",
            "`agents.draft.command`",
        ),
    ] {
        let mut rig = Rig::with(REPOSITORY).await;
        let (script, count) = counted(&rig, script);
        rig.drafter = Rig::commanding(REPOSITORY, &script).await.drafter;
        let failure = rig.fails().await;
        assert_eq!(
            (failure.kind, failure.retryable),
            (FailureKind::DraftFailed, false)
        );
        assert!(failure.message.contains(said), "{failure:?}");
        assert!(failure.message.contains(advice), "{failure:?}");
        assert_eq!(std::fs::read_to_string(count).unwrap(), "x\n");
    }
}

#[tokio::test]
async fn a_command_that_hangs_is_noticed_by_its_silence() {
    let script = "echo thinking; while :; do sleep 0.05; echo 'Reconnecting... 1/5'; done";
    let mut rig = Rig::commanding(REPOSITORY, script).await;
    if let Drafter::Cli {
        timeout, silence, ..
    } = &mut rig.drafter
    {
        *timeout = Duration::from_mins(10);
        *silence = Duration::from_secs(2);
    }
    let failure = rig.fails().await;
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::DraftFailed, true)
    );
    assert!(
        failure.message.contains("the draft command hung")
            && failure.message.contains("Reconnecting"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn a_silent_command_that_writes_or_computes_does_not_hang() {
    for work in [
        "for i in 1 2 3 4 5 6 7 8; do sleep 0.4; echo $i > progress; done; rm progress",
        "python3 -c 'import time\nwhile time.process_time() < 3: pass'",
    ] {
        let script = format!("{work}\nsed -i 's/a - b/a + b/' calc.py");
        let mut rig = Rig::commanding(REPOSITORY, &script).await;
        if let Drafter::Cli { silence, .. } = &mut rig.drafter {
            *silence = Duration::from_secs(2);
        }
        rig.run().await.unwrap();
    }
}

#[tokio::test]
async fn nothing_that_the_command_keeps_for_itself_stays_or_enters_the_change() {
    let script = "mkdir -p \"$HOME/.claude/projects\" .claude .codex/sessions\n\
        echo transcript > \"$HOME/.claude/projects/a.jsonl\"; echo x > \"$TMPDIR/x\"\n\
        echo chat > .aider.chat.history.md; echo {} > .claude/settings.local.json\n\
        echo session > .codex/sessions/1; sed -i 's/a - b/a + b/' calc.py";
    let rig = Rig::commanding(REPOSITORY, script).await;
    rig.run().await.unwrap();
    let origin = &rig.bench.origin;
    let files = origin
        .ask(&["ls-tree", "-r", "--name-only", "patchfleet/1-x"])
        .await;
    assert_eq!(files, "calc.py\ntest_calc.py");
    let kept = rig
        .bench
        .root
        .path()
        .join(format!("backend-1/tasks/task-{}", rig.task));
    assert!(kept.join("implementation/request.md").exists());
    assert!(!kept.join("implementation/command").exists());
    assert!(!kept.join("repo-clone/.aider.chat.history.md").exists());
}

/// A picture travels with the checkpoints, also to another host, and is named to those who merge.
#[tokio::test]
async fn pictures_that_a_command_adds_changes_and_moves_are_published() {
    let script = "grep -q 'GIT binary patch.*literal' \"${PATCHFLEET_REQUEST_FILE%.md}.json\" && exit 9\n\
        if [ $PATCHFLEET_ROUND = 1 ]; then printf 'a\\0\\377' > new.png; exit; fi\n\
        printf 'a\\0\\377' | cmp - new.png || exit 8\n\
        grep -q 'GIT binary patch' \"${PATCHFLEET_REQUEST_FILE%.md}.json\" || exit 7\n\
        sed -i 's/a - b/a + b/' calc.py; printf more >> old.png; mv moved.png to.png";
    let first = Rig::commanding(REPOSITORY, script).await;
    let origin = &first.bench.origin;
    let old = [&b"\0"[..], &[0xff; 5000]].concat();
    std::fs::write(origin.work().join("old.png"), &old).unwrap();
    std::fs::write(origin.work().join("moved.png"), b"\0moved\xfe").unwrap();
    origin.advance(&[]).await;
    let before = first.bench.origin.copied().await;
    first.run().await.unwrap();
    let all = first.notes.checkpoints.lock().unwrap().clone();
    let last_draft = all.iter().rposition(|it| it.node == "draft").unwrap();
    for kept in [last_draft + 1, last_draft + 2] {
        let mut rig = Rig::with(REPOSITORY).await;
        rig.bench.origin = before.copied().await;
        rig.url = rig.bench.origin.url();
        *rig.notes.checkpoints.lock().unwrap() = all[..kept].to_vec();
        let deps = rig.deps(rig.workspace(2).await).await.unwrap();
        rig.run_with(deps, all[..kept].to_vec()).await.unwrap();
        let origin = &rig.bench.origin;
        let changed = ["diff", "--name-status", "main", "patchfleet/1-x"];
        assert_eq!(
            origin.ask(&changed).await,
            "M\tcalc.py\nA\tnew.png\nM\told.png\nR100\tmoved.png\tto.png"
        );
        for (path, bytes) in [
            ("new.png", &b"a\0\xff"[..]),
            ("old.png", &[&old[..], b"more"].concat()),
        ] {
            let published = format!("patchfleet/1-x:{path}");
            let id = origin.ask(&["rev-parse", &published]).await;
            assert_eq!(
                id,
                crate::git::ObjectId::of_blob(bytes).unwrap().as_str(),
                "{path}"
            );
        }
        let drafts = rig.desk.drafts.lock().unwrap();
        let body = &drafts[0].body;
        for said in [
            "`new.png` is new (no text, 3 bytes)",
            "`old.png` (no text, 5005 bytes)",
            "Files that are no text are added or changed",
        ] {
            assert!(body.contains(said), "{said} is not in {body}");
        }
    }
}

/// Compressed, it would pass by whatever masks secrets.
#[tokio::test]
async fn a_secret_of_the_agent_within_a_file_that_is_no_text_never_leaves_it() {
    patchfleet_guard::register_secret("of a picture, known to nobody");
    let script = "{ printf '\\0'; printf '%s' 'of a picture, known to nobody'; } > new.png";
    let rig = Rig::commanding(REPOSITORY, script).await;
    let failure = rig.fails().await;
    assert_eq!(failure.kind, FailureKind::DraftFailed);
    assert!(
        failure.message.contains("`new.png` holds a secret"),
        "{failure:?}"
    );
    let checkpoints = rig.notes.checkpoints.lock().unwrap();
    assert!(checkpoints.iter().all(|it| it.node != "draft"));
}

/// Each byte is published as it was written, whatever the encoding.
#[tokio::test]
async fn a_change_of_text_that_is_no_utf_8_is_published_byte_by_byte() {
    let script = "LC_ALL=C sed -i 's/a - b/a + b # \\xe4/' calc.py; rm gone; \
        printf '\\364\\217\\276\\200 \\377\\r\\n' > new.txt";
    let rig = Rig::commanding(REPOSITORY, script).await;
    let origin = &rig.bench.origin;
    let source = |line: &[u8]| {
        let head = b"# -*- coding: latin-1 -*-\n# gr\xfc\xdfe\ndef add(a, b):\n    return ";
        [head, line].concat()
    };
    std::fs::write(origin.work().join("calc.py"), source(b"a - b\n")).unwrap();
    std::fs::write(origin.work().join("gone"), b"\xe9\n").unwrap();
    origin.advance(&[]).await;
    rig.run().await.unwrap();
    let changed = ["diff", "--name-status", "main", "patchfleet/1-x"];
    assert_eq!(
        origin.ask(&changed).await,
        "M\tcalc.py\nD\tgone\nA\tnew.txt"
    );
    for (path, bytes) in [
        ("calc.py", &source(b"a + b # \xe4\n")[..]),
        ("new.txt", b"\xf4\x8f\xbe\x80 \xff\r\n"),
    ] {
        std::fs::write(origin.work().join("expected"), bytes).unwrap();
        let expected = origin
            .git(&["hash-object", "--no-filters", "expected"])
            .await;
        let published = format!("patchfleet/1-x:{path}");
        assert_eq!(origin.ask(&["rev-parse", &published]).await, expected);
    }
}

#[tokio::test]
async fn a_command_that_leaves_what_no_commit_can_hold_is_at_fault_and_not_run_again() {
    let rig = Rig::commanding(
        REPOSITORY,
        "echo run >> ../runs; git init -q sub; echo x > sub/file",
    )
    .await;
    let failure = rig.fails().await;
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::DraftFailed, false)
    );
    assert!(failure.message.contains("`sub/.git`"), "{failure:?}");
    let runs = rig.workspaces_file("runs");
    assert_eq!(runs, "run\n");
}

#[tokio::test]
async fn a_command_is_handed_no_folder_that_holds_what_the_agent_trusts() {
    let script = "for folder in \"$HOME\" \"$HOME/..\" \"$TMPDIR\"; do \
        test -z \"$(find \"$folder\" -name 'HEAD' -o -name 'request.md')\" || exit 9; done\n\
        sed -i 's/a - b/a + b/' calc.py";
    Rig::commanding(REPOSITORY, script)
        .await
        .run()
        .await
        .unwrap();
}

#[tokio::test]
async fn a_command_sees_no_variable_of_the_agent_but_those_named() {
    let script = "env | grep -q CARGO_MANIFEST_DIR && exit 9\nenv | grep -q ^NEXTEST= && exit 8\n\
        sed -i 's/a - b/a + b/' calc.py";
    Rig::commanding(REPOSITORY, script)
        .await
        .run()
        .await
        .unwrap();
    let mut rig = Rig::commanding(
        REPOSITORY,
        "test -n \"$CARGO_MANIFEST_DIR\" && sed -i 's/a - b/a + b/' calc.py",
    )
    .await;
    if let Drafter::Cli { pass_env, .. } = &mut rig.drafter {
        pass_env.push("CARGO_MANIFEST_DIR".to_owned());
    }
    rig.run().await.unwrap();
}

/// A drafter that is passed a variable of the test's own process, whose value looks like nothing.
async fn with_key(script: &str) -> (Rig, String) {
    let mut rig = Rig::commanding(REPOSITORY, script).await;
    if let Drafter::Cli { pass_env, .. } = &mut rig.drafter {
        pass_env.push("CARGO_PKG_DESCRIPTION".to_owned());
    }
    let key = std::env::var("CARGO_PKG_DESCRIPTION").unwrap();
    assert!(key.len() > 10, "the test needs a value that is long enough");
    (rig, key)
}

#[tokio::test]
async fn a_key_of_no_known_form_that_the_command_prints_stays_with_the_agent() {
    let (mut rig, key) =
        with_key("printf 'the key is %s\\n' \"$CARGO_PKG_DESCRIPTION\" >&2; exit 4").await;
    let failure = rig.fails().await;
    assert!(
        failure.message.contains("the key is [redacted]"),
        "{failure:?}"
    );
    assert!(!failure.message.contains(&key));
    let log = rig.log();
    assert!(
        log.contains("the key is [redacted]") && !log.contains(&key),
        "{log}"
    );
}

#[tokio::test]
async fn a_draft_that_holds_the_agents_key_is_thrown_away_before_it_is_kept() {
    let (rig, key) = with_key("sed -i \"s/a - b/a + b  # $CARGO_PKG_DESCRIPTION/\" calc.py").await;
    let failure = rig.fails().await;
    assert_eq!(
        (failure.kind, failure.retryable),
        (FailureKind::DraftFailed, false)
    );
    assert!(
        failure
            .message
            .contains("`calc.py` holds a secret of this agent"),
        "{failure:?}"
    );
    let checkpoints = format!("{:?}", rig.notes.checkpoints.lock().unwrap());
    assert!(!checkpoints.contains(&key), "{checkpoints}");
}
