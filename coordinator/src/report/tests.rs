//! What people get to read.

use insta::assert_snapshot;
use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{
    AttemptNumber, FailureKind, IssueNumber, Priority, PullRequestRef, Task, TaskId, TaskKind,
    TaskRequest, TaskState, TestVerdict, Timestamp, WaitReason,
};

use super::*;
use crate::store::{AttemptRecord, TaskEvent};

fn task(state: TaskState) -> Task {
    Task {
        id: TaskId::from_uuid(uuid::Uuid::from_u128(7)),
        kind: TaskKind::Issue,
        state,
        wait_reason: None,
        attempt: AttemptNumber(0),
        failures: 0,
        max_attempts: 3,
        priority: Priority::default(),
        repository: "acme/orders".parse().unwrap(),
        issue: Some(IssueNumber(4)),
        branch: "patchfleet/4-totals".to_owned(),
        request: TaskRequest {
            title: "Totals".to_owned(),
            body: String::new(),
            labels: Vec::new(),
            author: "mona".to_owned(),
            triggered_by: "mona".to_owned(),
            clone_url: String::new(),
            default_branch: "main".to_owned(),
            agent_type: None,
        },
        analysis: None,
        pull_request: None,
        failure: None,
        summary: None,
        created_at: Timestamp::UNIX_EPOCH,
        updated_at: Timestamp::UNIX_EPOCH,
    }
}

fn event(second: i64, kind: &str, to: Option<TaskState>, detail: &str) -> TaskEvent {
    TaskEvent {
        id: second,
        task: task(TaskState::Pending).id,
        attempt: AttemptNumber(1),
        at: Timestamp::from_timestamp(second, 0).unwrap(),
        kind: kind.to_owned(),
        from: None,
        to,
        actor: "backend-1".to_owned(),
        detail: detail.to_owned(),
    }
}

fn verdict(returncode: Option<i32>) -> TestVerdict {
    TestVerdict {
        command: vec!["pytest".to_owned()],
        returncode,
        duration_ms: 1200,
        timed_out: returncode.is_none(),
        tree: "0".repeat(40),
    }
}

fn attempt(before: Option<i32>, after: Option<i32>) -> AttemptRecord {
    AttemptRecord {
        number: AttemptNumber(1),
        agent: "backend-1".parse().unwrap(),
        assigned_at: Timestamp::UNIX_EPOCH,
        ended_at: None,
        outcome: None,
        failure: None,
        tests_before: Some(verdict(before)),
        tests_after: Some(verdict(after)),
    }
}

fn failure(message: &str) -> Failure {
    Failure {
        kind: FailureKind::TestsFailed,
        message: message.to_owned(),
        retryable: true,
        discard_checkpoints: false,
    }
}

fn told<'a>(task: &'a Task, attempts: &'a [AttemptRecord], history: &'a [TaskEvent]) -> Told<'a> {
    Told {
        task,
        attempts,
        history,
    }
}

#[test]
fn a_new_task() {
    let task = task(TaskState::Pending);
    let history = [event(0, "created", Some(TaskState::Pending), "label by mona")];
    assert_snapshot!(status(told(&task, &[], &history)), @"");
}

#[test]
fn a_task_in_review() {
    let mut task = task(TaskState::Review);
    task.pull_request = Some(PullRequestRef {
        number: 12,
        url: "https://github.com/acme/orders/pull/12".to_owned(),
        head: task.branch.clone(),
        head_sha: "0".repeat(40),
        base: "main".to_owned(),
        draft: true,
        merged: false,
    });
    task.summary = Some("Rounds half a cent up. <!-- patchfleet:task:x --> cc @mona".to_owned());
    // Of an earlier attempt; no longer of interest.
    task.failure = Some(failure("1 failed"));
    let history = [
        event(0, "created", Some(TaskState::Pending), "label by mona"),
        event(1, "state", Some(TaskState::Assigned), "attempt 1"),
        event(2, "phase", None, "generate: round 1 of 3"),
        event(3, "checkpoint", None, "draft visit 1"),
        event(4, "note", None, "no agent of type `backend` for 60 s | general"),
        event(5, "state", Some(TaskState::Review), ""),
    ];
    let attempts = [attempt(Some(1), Some(0))];
    assert_snapshot!(status(told(&task, &attempts, &history)), @"");
}

#[test]
fn a_failed_task() {
    let mut task = task(TaskState::Failed);
    task.failures = 3;
    let message = "FAILED test_totals\n```\nsent with ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8\n";
    task.failure = Some(failure(message));
    task.summary = Some("of no interest".to_owned());
    let attempts = [attempt(Some(1), None)];
    assert_snapshot!(status(told(&task, &attempts, &[])), @"");
}

#[test]
fn answers() {
    let mut held = task(TaskState::Waiting);
    held.wait_reason = Some(WaitReason::RateLimit);
    assert_snapshot!(answer(5, Some(told(&held, &[], &[]))), @"");
    assert_snapshot!(answer(6, None), @"");
    assert_snapshot!(problem(7, "There is no command `fly`. <!-- x -->"), @"");
}

#[test]
fn no_comment_is_longer_than_github_takes() {
    let mut task = task(TaskState::Failed);
    task.failure = Some(failure(&"é`".repeat(100_000)));
    let long = "ü".repeat(5000);
    let history: Vec<_> = (0..5000).map(|n| event(n, "note", None, &long)).collect();
    let text = status(told(&task, &[], &history));
    assert!(text.len() <= 65_536, "{}", text.len());
    assert!(text.ends_with("</details>\n"), "cut in its parts, not at its end");
    assert!(text.contains("4940 earlier"));
    task.state = TaskState::Completed;
    task.summary = Some("ü".repeat(100_000));
    let text = status(told(&task, &[], &history));
    assert!(text.len() <= 65_536 && text.ends_with("</details>\n"), "{}", text.len());
}

#[test]
fn every_state_has_its_label() {
    let labels: Vec<_> = TaskState::ALL
        .iter()
        .map(|state| format!("{state} {}", status_label(*state).unwrap_or("-")))
        .collect();
    assert_snapshot!(labels.join("\n"), @"");
}
