//! The flow, from a repository to a branch and a pull request, with real git and real tests.

mod cached;
mod http;
mod isolated;
mod languages;
mod odd;
mod rig;

use std::path::{Path, PathBuf};

use patchfleet_domain::FailureKind;
use patchfleet_domain::outcome::Outcome;
use patchfleet_flow::Report;

use super::*;
use crate::setup::SetupConfig;
pub(crate) use rig::{BODY, FIX, REPOSITORY, Rig, TITLE};

const NO_FIX: &str = "--- a/calc.py\n+++ b/calc.py\n@@ -1,2 +1,2 @@\n \
    def add(a, b):\n-    return a - b\n+    return a * b\n";

fn visits(report: &Report) -> String {
    report
        .visits
        .iter()
        .map(|visit| visit.node.clone())
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn the_embedded_flow_is_valid_and_complete() {
    let flow = coding_flow();
    let nodes: Vec<_> = flow.nodes.iter().map(|node| node.id.as_str()).collect();
    let expected = [
        "inspect",
        "draft",
        "patch",
        "test",
        "review",
        "route",
        "publish",
        "summarize",
    ];
    assert_eq!(nodes, expected);
    assert_eq!(flow.max_rounds, Some(3));
}

#[tokio::test]
async fn an_issue_becomes_a_tested_pull_request() {
    let mut rig = Rig::answering(REPOSITORY, &[FIX]).await;
    let report = rig.run().await.unwrap();
    assert_eq!(
        visits(&report),
        "inspect draft patch test review route publish summarize"
    );
    assert_eq!(
        rig.on_branch("calc.py").await,
        "def add(a, b):\n    return a + b"
    );
    let message = rig
        .bench
        .origin
        .ask(&["log", "-1", "--format=%an <%ae>%n%B", "patchfleet/1-x"])
        .await;
    assert_eq!(
        message,
        format!(
            "Patchfleet <patchfleet@example.com>\nSum is wrong\n\nFor #1.\n\nPatchfleet-Task: {}\nPatchfleet-Attempt: 1",
            rig.task
        )
    );
    let draft = rig.desk.drafts.lock().unwrap()[0].clone();
    assert_eq!(
        (draft.head.as_str(), draft.base.as_str(), draft.draft),
        ("patchfleet/1-x", "main", true)
    );
    assert_eq!(draft.title, "Sum is wrong");
    let body = regex::Regex::new(r"after \d\.\d s")
        .unwrap()
        .replace_all(&draft.body, "after N s");
    insta::assert_snapshot!(body.replace(&rig.task.to_string(), "TASK"), @r"
    Fixes #1

    ### Changes

    - `calc.py` (+1 −1)

    ### Tests

    `python3 -m unittest -v`

    - before the change: exit code 1 after N s
    - after the change: exit code 0 after N s

    Failed before and pass now:

    - `test_calc.CalcTest.test_add`

    The tests ran **without isolation** on the agent's host.

    ### Next

    - Review the pull request and merge it


    <!-- patchfleet:task:TASK -->
    ");
    let Outcome::PullRequest {
        pull_request,
        summary,
        tests_before,
        tests_after,
    } = outcome(&report.ctx).unwrap()
    else {
        panic!("no pull request");
    };
    assert_eq!(pull_request.number, 7);
    assert!(summary.contains("### Changes"), "{summary}");
    assert_eq!(tests_before.unwrap().returncode, Some(1));
    let after = tests_after.unwrap();
    assert!(after.passed());
    let tree = rig
        .bench
        .origin
        .ask(&["rev-parse", "patchfleet/1-x^{tree}"])
        .await;
    assert_eq!(after.tree, tree);
    let kept = rig
        .bench
        .root
        .path()
        .join("backend-1/logs/task-execution.log");
    let kept = std::fs::read_to_string(kept).unwrap();
    assert!(
        kept.contains(&format!("{}#1 $ python3", rig.task)),
        "{kept}"
    );
    let log = rig.log();
    assert!(
        log.contains("$ python3 -m unittest -v") && log.contains("test_add"),
        "{log}"
    );
    assert_eq!(rig.log.clone().into_count().take(), 0);
}

#[tokio::test]
async fn the_sample_repository_is_mended_in_one_round_and_in_two() {
    let kit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kit/sample");
    let files = texts_below(&kit.join("repository"));
    let files: Vec<_> = files
        .iter()
        .map(|(path, text)| (path.as_str(), text.as_str()))
        .collect();
    let issue: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(kit.join("issue.json")).unwrap()).unwrap();
    for (answers, rounds) in [("answers", 1), ("answers-two-rounds", 2)] {
        let mut rig = Rig::with(&files).await;
        rig.title = issue["issue"]["title"].as_str().unwrap().to_owned();
        rig.body = issue["issue"]["body"].as_str().unwrap().to_owned();
        for round in 1..=rounds {
            let path = kit.join(answers).join(format!("{round}.diff"));
            rig.record(round, &std::fs::read_to_string(path).unwrap());
        }
        let report = rig.run().await.unwrap();
        assert_eq!(visits(&report).matches("draft").count(), rounds as usize);
        let body = rig.desk.drafts.lock().unwrap()[0].body.clone();
        assert!(body.contains("Failed before and pass now:"), "{body}");
        assert!(body.contains("- before the change: exit code 1"), "{body}");
        assert!(body.contains("- after the change: exit code 0"), "{body}");
    }
}

fn texts_below(root: &Path) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut open = vec![PathBuf::from(root)];
    while let Some(folder) = open.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                open.push(path);
            } else if let Ok(text) = std::fs::read_to_string(&path) {
                let name = path
                    .strip_prefix(root)
                    .unwrap()
                    .to_str()
                    .unwrap()
                    .to_owned();
                found.push((name, text));
            }
        }
    }
    found
}

#[tokio::test]
async fn red_tests_and_refused_drafts_go_back_with_what_was_found() {
    let hostile =
        "--- a/.github/workflows/x.yml\n+++ b/.github/workflows/x.yml\n@@ -0,0 +1 @@\n+on: push\n";
    let rig = Rig::answering(REPOSITORY, &[hostile, NO_FIX, FIX]).await;
    let report = rig.run().await.unwrap();
    assert_eq!(
        visits(&report),
        "inspect draft patch draft patch test review route draft patch test review route publish summarize"
    );
    let checkpoints = rig.notes.checkpoints.lock().unwrap();
    let of = |node: &str, visit: u32| {
        checkpoints
            .iter()
            .find(|it| it.node == node && it.visit == visit)
            .unwrap()
    };
    assert_eq!(of("patch", 1).error.as_ref().unwrap().code, "diff_rejected");
    let findings = &of("patch", 1).delta["findings"];
    assert!(
        findings[0]["message"]
            .as_str()
            .unwrap()
            .contains("the path is protected"),
        "{findings}"
    );
    let findings = &of("route", 1).delta["findings"];
    assert_eq!(findings[0]["code"], "tests_failed");
    assert!(
        findings[0]["message"]
            .as_str()
            .unwrap()
            .contains("exit code 1"),
        "{findings}"
    );
    assert_eq!(of("route", 2).delta["findings"], serde_json::json!([]));
}

#[tokio::test]
async fn a_task_fails_after_the_last_round_and_opens_nothing() {
    let rig = Rig::answering(REPOSITORY, &[NO_FIX]).await;
    let failure = rig.fails().await;
    assert_eq!(failure.kind, FailureKind::TestsFailed);
    assert!(
        failure
            .message
            .starts_with("after 3 rounds: the tests fail with exit code 1"),
        "{failure:?}"
    );
    assert!(!failure.retryable && failure.discard_checkpoints);
    let rig = Rig::answering(REPOSITORY, &[&FIX.replace("a - b", "a / b")]).await;
    let failure = rig.fails().await;
    assert_eq!(failure.kind, FailureKind::DiffRejected);
    assert!(
        failure
            .message
            .contains("line 2 should be `    return a / b` but is `    return a - b`"),
        "{failure:?}"
    );
    assert!(rig.desk.drafts.lock().unwrap().is_empty());
    assert_eq!(
        rig.bench
            .origin
            .ask(&["branch", "--list", "patchfleet/*"])
            .await,
        ""
    );
}

#[tokio::test]
async fn tests_that_do_not_end_are_told_apart() {
    let mut files = REPOSITORY.to_vec();
    files.push((
        ".patchfleet.yaml",
        "test: python3 -c 'import time; time.sleep(600)'\ntest_timeout: 200ms\n",
    ));
    let rig = Rig::answering(&files, &[FIX]).await;
    assert_eq!(rig.fails().await.kind, FailureKind::TestsTimedOut);
}

#[tokio::test]
async fn a_test_command_that_is_not_there_or_not_allowed_is_a_typed_failure() {
    for (command, said) in [
        ("./absent.sh", "does not exist"),
        ("sh -c true", "not among the programs"),
    ] {
        let config = format!("test: {command}\n");
        let mut files = REPOSITORY.to_vec();
        files.push((".patchfleet.yaml", &config));
        let failure = Rig::answering(&files, &[FIX]).await.fails().await;
        assert_eq!(failure.kind, FailureKind::TestCommandInvalid);
        assert!(failure.message.contains(said), "{failure:?}");
        assert!(!failure.retryable);
    }
}

#[tokio::test]
async fn a_repository_without_tests_is_told_so() {
    let rig = Rig::answering(&REPOSITORY[..1], &[FIX]).await;
    let report = rig.run().await.unwrap();
    assert_eq!(
        report.ctx.get("tests.results"),
        Some(&serde_json::Value::Null)
    );
    let body = rig.desk.drafts.lock().unwrap()[0].body.clone();
    assert!(body.contains("nothing was tested"), "{body}");
}

#[tokio::test]
async fn a_bad_configuration_is_a_typed_failure() {
    let rig = Rig::with(&[(".patchfleet.yaml", "test: x\ntset: y\n")]).await;
    let failure = rig
        .workspace(1)
        .await
        .configuration(&SetupConfig::default().allow_list())
        .await
        .unwrap_err();
    assert_eq!(failure.kind, FailureKind::BadRepositoryConfiguration);
    assert!(
        failure
            .message
            .starts_with(".patchfleet.yaml, line 2, column 1: unknown field `tset`"),
        "{failure:?}"
    );
}

#[tokio::test]
async fn checkpoints_are_enough_on_another_host() {
    let first = Rig::answering(REPOSITORY, &[FIX]).await;
    first.run().await.unwrap();
    let all = first.notes.checkpoints.lock().unwrap().clone();
    for kept in 0..=all.len() {
        let mut rig = Rig::with(REPOSITORY).await;
        rig.bench.origin = first.bench.origin.copied().await;
        rig.url = rig.bench.origin.url();
        *rig.notes.checkpoints.lock().unwrap() = all[..kept].to_vec();
        if kept < 2 {
            let Drafter::Replay { dir } = &first.drafter else {
                unreachable!()
            };
            rig.drafter = Drafter::Replay { dir: dir.clone() };
        }
        let deps = rig.deps(rig.workspace(2).await).await.unwrap();
        let report = rig.run_with(deps, all[..kept].to_vec()).await.unwrap();
        assert_eq!(
            report.visits.iter().filter(|visit| visit.replayed).count(),
            kept
        );
        assert!(matches!(
            outcome(&report.ctx),
            Ok(Outcome::PullRequest { .. })
        ));
        let published = rig.desk.drafts.lock().unwrap().len();
        assert_eq!(published, usize::from(kept < 7), "with {kept} checkpoints");
    }
}

/// Each operator knows the command of their own hosts.
#[tokio::test]
async fn an_agent_runs_the_tests_of_its_own_operator_also_after_another_one() {
    let words = |flag: &str| ["python3", flag, "-m", "unittest", "-v"].map(str::to_owned);
    for (second, ran) in [
        (Some("-s"), "$ python3 -s -m unittest -v"),
        // Without one of its own, the command is found as for a task of its own.
        (None, "$ python3 -m unittest -v"),
    ] {
        let first = Rig::answering(REPOSITORY, &[FIX]).await;
        let mut deps = first.deps(first.workspace(1).await).await.unwrap();
        deps.tests.command = Some(words("-E").into());
        first.run_with(deps, Vec::new()).await.unwrap();
        let mut done = first.notes.checkpoints.lock().unwrap().clone();
        done.truncate(3);
        assert_eq!(done[2].node, "patch");
        let mut rig = Rig::with(REPOSITORY).await;
        rig.bench.origin = first.bench.origin.copied().await;
        rig.url = rig.bench.origin.url();
        *rig.notes.checkpoints.lock().unwrap() = done.clone();
        let mut deps = rig.deps(rig.workspace(2).await).await.unwrap();
        deps.tests.command = second.map(|flag| words(flag).into());
        rig.run_with(deps, done).await.unwrap();
        let log = rig.log();
        assert!(log.contains(ran) && !log.contains(" -E "), "{log}");
    }
}
