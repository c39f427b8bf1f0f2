//! The demo, as a user types it: the real binary, from the issue to the merge.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod models;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use patchfleet_testkit::postgres::Database;
use serde_json::Value;

fn kit() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/kit")
}

/// A program to be run.
fn command(program: impl AsRef<std::ffi::OsStr>) -> Command {
    #[expect(
        clippy::disallowed_methods,
        reason = "this test's one door to spawning"
    )]
    Command::new(program)
}

/// A program that ends by itself.
fn run(program: impl AsRef<std::ffi::OsStr>, args: &[&str]) -> Output {
    command(program).args(args).output().unwrap()
}

/// The sample as a git repository, and its issue with the trigger's label on it.
fn labelled(folder: &Path) -> [String; 2] {
    let repository = folder.join("repository").display().to_string();
    let sample = kit().join("sample/repository").display().to_string();
    let script = "cp -r \"$1\" \"$2\" && cd \"$2\" && git init -q -b main && git add -A && \
        git -c user.name=t -c user.email=t@localhost commit -qm sample";
    let made = run("sh", &["-c", script, "sh", &sample, &repository]);
    assert!(made.status.success(), "{made:?}");
    let text = std::fs::read_to_string(kit().join("sample/issue.json")).unwrap();
    let mut issue: Value = serde_json::from_str(&text).unwrap();
    let labels = issue["issue"]["labels"].as_array_mut().unwrap();
    labels.push(serde_json::json!({"name": "Patchfleet"}));
    let file = folder.join("issue.json");
    std::fs::write(&file, issue.to_string()).unwrap();
    [repository, file.display().to_string()]
}

/// Runs the demo with JSON output and gives its objects; the exit code has to be 0.
fn demo(args: &[&str]) -> Vec<Value> {
    let args = [&["demo", "--json", "--timeout", "120"], args].concat();
    let output = run(env!("CARGO_BIN_EXE_patchfleet"), &args);
    let text = String::from_utf8(output.stdout).unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The last object says that all went as it should.
fn assert_merged(objects: &[Value]) {
    let last = objects.last().unwrap();
    assert_eq!(last["event"], "demo_finished");
    assert_eq!(last["task"]["state"], "completed", "{last}");
    assert_eq!(last["task"]["attempts"], 1, "{last}");
    let pull_request = &last["pull_request"];
    assert_eq!(pull_request["merged"], true, "{last}");
    assert_eq!(pull_request["draft"], true, "{last}");
    assert_eq!(pull_request["base"], "main", "{last}");
    assert!(
        pull_request["head"]
            .as_str()
            .unwrap()
            .starts_with("patchfleet/"),
        "{last}"
    );
    assert_ne!(
        last["tests"]["before"]["returncode"], 0,
        "red before: {last}"
    );
    assert_eq!(
        last["tests"]["after"]["returncode"], 0,
        "green after: {last}"
    );
}

#[test]
fn an_issue_becomes_a_merged_pull_request() {
    let objects = demo(&[]);
    assert_merged(&objects);
    let usage = &objects.last().unwrap()["usage"];
    assert_eq!(usage["calls"], 4, "the script of the model has four turns");
    assert!(usage["input_tokens"].as_u64().unwrap() > 1000, "{usage}");
    assert!(usage["output_tokens"].as_u64().unwrap() > 100, "{usage}");
    assert_eq!(usage["estimated"], false, "{usage}");
    let diff = objects
        .iter()
        .find(|object| object["event"] == "diff")
        .unwrap();
    for file in ["orders/money.py", "orders/discounts.py", "orders/order.py"] {
        assert!(
            diff["diff"].as_str().unwrap().contains(file),
            "{file} is not in {diff}"
        );
    }
}

#[test]
fn a_recorded_answer_needs_no_model() {
    let objects = demo(&["--replay"]);
    assert_merged(&objects);
    let usage = &objects.last().unwrap()["usage"];
    assert_eq!(
        (&usage["calls"], &usage["cost_usd"]),
        (&0.into(), &0.0.into())
    );
}

#[tokio::test]
async fn the_same_on_postgresql() {
    let database = Database::create().await.unwrap();
    let url = database.url().to_owned();
    let objects = tokio::task::spawn_blocking(move || demo(&["--postgres", &url]))
        .await
        .unwrap();
    assert_merged(&objects);
}

#[test]
fn a_command_may_write_the_change() {
    let answer = kit().join("sample/answers/1.diff").canonicalize().unwrap();
    let command = format!("git apply {}", answer.display());
    let answer = answer.display().to_string();
    let seen = ["--draft-command", &command, "--read-only", &answer];
    assert_merged(&demo(&seen));
}

/// A published fix of a real package, taken out of its history, is put back by a draft command.
#[test]
fn a_real_package_gets_its_published_fix_back() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("real");
    let place = |name: &str| folder.join(name).display().to_string();
    let prepare = kit().join("real/prepare.sh");
    let prepared = run(prepare, &[&folder.display().to_string()]);
    assert!(
        prepared.status.success(),
        "{}",
        String::from_utf8_lossy(&prepared.stderr)
    );
    let objects = demo(&[
        "--repository",
        &place("repository"),
        "--issue",
        &place("issue.json"),
        "--draft-command",
        &place("fix.sh"),
        "--read-only",
        &folder.display().to_string(),
        "--test-command",
        "python3 -m unittest -v",
    ]);
    assert_merged(&objects);
}

#[test]
fn an_issue_that_has_the_label_already_is_worked_on() {
    let folder = tempfile::tempdir().unwrap();
    let [repository, issue] = labelled(folder.path());
    let answer = kit().join("sample/answers/1.diff").canonicalize().unwrap();
    let command = format!("git apply {}", answer.display());
    assert_merged(&demo(&[
        "--repository",
        &repository,
        "--issue",
        &issue,
        "--draft-command",
        &command,
        "--read-only",
        &answer.display().to_string(),
    ]));
}

#[test]
fn a_demo_that_fails_says_so_with_its_exit_code() {
    let output = run(
        env!("CARGO_BIN_EXE_patchfleet"),
        &["demo", "--json", "--draft-command", "exit 7"],
    );
    assert!(!output.status.success());
    let text = String::from_utf8(output.stdout).unwrap();
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    assert_eq!(last["task"]["state"], "failed", "{last}");
    assert_eq!(last["pull_request"], Value::Null, "{last}");
}
