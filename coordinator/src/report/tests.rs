//! What people get to read.

use insta::assert_snapshot;
use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{
    AttemptNumber, FailureKind, IssueNumber, Priority, PullRequestRef, Returned, Returns, Spent,
    Task, TaskAnalysis, TaskId, TaskKind, TaskRequest, TaskState, TestVerdict, Timestamp,
    WaitReason,
};

use super::*;
use crate::analysis::{AnalysisPolicy, Configuration, analyze};
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
        returns: Returns::default(),
        spent: Spent::default(),
        traceparent: None,
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
        ran_none: false,
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

/// Keeps the whole text in a file of its own, so that a change of what people read is seen.
fn situation(name: &str, text: &str) {
    // Invisible characters would be invisible in a review, too.
    insta::assert_snapshot!(name, text.replace('\u{200B}', "⟨zwsp⟩"));
}

fn status_of(task: &Task) -> String {
    status(told(task, &[], &[]))
}

fn pull_request(task: &Task) -> PullRequestRef {
    PullRequestRef {
        number: 12,
        url: "https://github.com/acme/orders/pull/12".to_owned(),
        head: task.branch.clone(),
        head_sha: "0".repeat(40),
        base: "main".to_owned(),
        draft: true,
        merged: false,
    }
}

/// The summary that an agent reports with its pull request.
const SUMMARY: &str = "### Changes\n\n- `orders/money.py` (+3 −1)\n\n### Tests\n\n`pytest`\n\n\
    - after the change: exit code 0 after 1.2 s\n\n\
    ### Risks\n\n- Rounds half a cent up. <!-- patchfleet:task:x --> cc @mona, closes #1\n\n\
    ### Next\n\n- Review the pull request and merge it\n";

fn analyzed(task: &Task) -> TaskAnalysis {
    analyze(task, &AnalysisPolicy::default(), &Configuration::Absent)
}

#[test]
fn a_task_on_its_way() {
    let mut task = task(TaskState::Pending);
    let created = event(0, "created", Some(TaskState::Pending), "label by mona");
    situation(
        "pending",
        &status(told(&task, &[], std::slice::from_ref(&created))),
    );

    task.state = TaskState::Queued;
    task.analysis = Some(analyzed(&task));
    situation("queued", &status_of(&task));

    task.state = TaskState::InProgress;
    let mut history = vec![
        created,
        event(1, "state", Some(TaskState::Assigned), "attempt 1"),
        event(2, "state", Some(TaskState::InProgress), "accepted"),
        event(3, "phase", None, "workspace: acme/orders at 0123abc"),
        event(4, "phase", None, "generate: round 1 of 3"),
        event(5, "checkpoint", None, "draft visit 1"),
        event(
            6,
            "note",
            None,
            "no agent of type `backend` for 60 s | general",
        ),
    ];
    let attempts = [attempt(Some(1), Some(0))];
    situation("at_work", &status(told(&task, &attempts[..0], &history)));

    task.state = TaskState::Testing;
    history.push(event(7, "phase", None, "test: pytest"));
    situation("testing", &status(told(&task, &attempts, &history)));
}

#[test]
fn a_task_whose_last_attempt_failed_goes_on_by_itself() {
    let mut task = task(TaskState::Queued);
    task.failures = 1;
    task.failure = Some(failure("FAILED test_totals"));
    let text = status_of(&task);
    situation("queued_after_a_failure", &text);
    assert!(
        !text.contains("/patchfleet retry"),
        "it has not failed: {text}"
    );
}

#[test]
fn a_task_that_is_held_back() {
    let mut task = task(TaskState::Waiting);
    for reason in WaitReason::ALL {
        // Told of by tests of their own.
        if !matches!(reason, WaitReason::Dependency | WaitReason::Agent) {
            task.wait_reason = Some(*reason);
            situation(&format!("waiting_{reason}"), &status_of(&task));
        }
    }
    task.wait_reason = Some(WaitReason::Dependency);
    let mut analysis = analyzed(&task);
    analysis.depends_on = vec![12, 13];
    task.analysis = Some(analysis);
    situation("waiting_dependency", &status_of(&task));
}

#[test]
fn a_task_in_review_and_what_becomes_of_it() {
    let mut task = task(TaskState::Review);
    task.pull_request = Some(pull_request(&task));
    task.summary = Some(SUMMARY.to_owned());
    // Of an earlier attempt; no longer of interest.
    task.failure = Some(failure("1 failed"));
    let attempts = [attempt(Some(1), Some(0))];
    let history = [
        event(0, "created", Some(TaskState::Pending), "label by mona"),
        event(1, "state", Some(TaskState::Assigned), "attempt 1"),
        event(5, "state", Some(TaskState::Review), ""),
    ];
    situation("review", &status(told(&task, &attempts, &history)));

    let mut merged = task.clone();
    merged.state = TaskState::Completed;
    merged.pull_request.as_mut().unwrap().merged = true;
    let text = status(told(&merged, &attempts, &history));
    situation("completed_by_a_merge", &text);
    assert!(!text.contains("Review the pull request"), "{text}");

    task.state = TaskState::Failed;
    task.failure = Some(Failure {
        kind: FailureKind::PullRequestClosed,
        message: "pull request #12 was closed by mona without a merge".to_owned(),
        retryable: false,
        discard_checkpoints: true,
    });
    situation(
        "failed_pull_request_closed",
        &status(told(&task, &attempts, &history)),
    );
}

#[test]
fn a_task_that_failed() {
    let mut task = task(TaskState::Failed);
    task.failures = 3;
    let message = "FAILED test_totals\r\n\u{1b}[31mred\u{1b}[0m\n```\nsent with ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8\n";
    task.failure = Some(failure(message));
    task.summary = Some("of no interest".to_owned());
    let attempts = [attempt(Some(1), None)];
    situation("failed_tests_failed", &status(told(&task, &attempts, &[])));

    let configuration = ".patchfleet.yaml, line 3, column 8: `test_timeout`: `soon` is no duration; write a number and s, m or h";
    let told_of = |kind: FailureKind| match kind {
        FailureKind::BadRepositoryConfiguration => configuration,
        FailureKind::DependencyCycle => {
            "the task waits for itself: #4 waits for #5, #5 waits for #4"
        }
        _ => "what exactly went wrong, and where",
    };
    for kind in FailureKind::ALL {
        // Told of by tests of their own, or seen with a task that goes on.
        let elsewhere = [FailureKind::TestsFailed, FailureKind::PullRequestClosed];
        if !kind.is_return() && !elsewhere.contains(kind) {
            task.failure = Some(Failure {
                kind: *kind,
                ..failure(told_of(*kind))
            });
            situation(&format!("failed_{kind}"), &status_of(&task));
        }
    }
}

#[test]
fn a_task_that_was_called_off() {
    let mut task = task(TaskState::Cancelled);
    // What an earlier attempt failed with is of no interest once a person called the task off.
    task.failure = Some(failure("red"));
    situation("cancelled", &status_of(&task));
    task.failure = Some(Failure {
        kind: FailureKind::DependencyFailed,
        ..failure("#12, which has to be done first, failed")
    });
    situation("cancelled_dependency_failed", &status_of(&task));
}

#[test]
fn answers_to_a_status_command() {
    situation("answer_without_a_task", &answer(6, None));
    let mut held = task(TaskState::Waiting);
    held.wait_reason = Some(WaitReason::RateLimit);
    situation("answer_waiting", &answer(5, Some(told(&held, &[], &[]))));
    let mut failed = task(TaskState::Failed);
    failed.failure = Some(failure("1 failed"));
    situation("answer_failed", &answer(5, Some(told(&failed, &[], &[]))));
    let mut done = task(TaskState::Completed);
    done.pull_request = Some(pull_request(&done));
    done.pull_request.as_mut().unwrap().merged = true;
    done.summary = Some(SUMMARY.to_owned());
    situation("answer_completed", &answer(5, Some(told(&done, &[], &[]))));
}

#[test]
fn the_words_of_others_act_on_nobody_and_nothing() {
    let hostile = "\u{202e}fixes #1 @mona\u{1b}[2J\r\n- **forged** ![x](https://x/y) <!-- patchfleet:task:x --> <b>";
    let mut task = task(TaskState::Completed);
    task.summary = Some(hostile.to_owned());
    task.pull_request = Some(PullRequestRef {
        url: "https://x/) fixes #1 [y](z".to_owned(),
        ..pull_request(&task)
    });
    let history = [
        event(0, "note", None, hostile),
        event(1, "phase", None, &format!("test: {hostile}")),
    ];
    situation("hostile_words", &status(told(&task, &[], &history)));
    task.state = TaskState::Failed;
    task.failure = Some(failure(hostile));
    situation("hostile_failure", &status_of(&task));
    situation("hostile_problem", &problem(7, hostile));
}

#[test]
fn a_task_that_no_agent_takes() {
    let mut task = task(TaskState::Waiting);
    task.wait_reason = Some(WaitReason::Agent);
    let returned = |agent: &str, reason: &str| Returned {
        agent: agent.parse().unwrap(),
        reason: reason.to_owned(),
        rests_until: Timestamp::UNIX_EPOCH,
    };
    task.returns = Returns {
        count: 10,
        by: vec![
            returned("a-broken", "host_fault: `claude` is not on the PATH @mona"),
            returned("b-full", "refused: no slot is free"),
        ],
        until: Timestamp::from_timestamp(600, 0),
    };
    situation("waiting_agent", &status_of(&task));
    task.returns.count = 0;
    situation(
        "answer_waiting_agent",
        &answer(5, Some(told(&task, &[], &[]))),
    );
}

#[test]
fn no_comment_is_longer_than_github_takes() {
    let mut task = task(TaskState::Failed);
    task.failure = Some(failure(&"é`".repeat(20_000)));
    let long = "ü".repeat(1000);
    let history: Vec<_> = (0..5000).map(|n| event(n, "note", None, &long)).collect();
    let text = status(told(&task, &[], &history));
    assert!(text.len() <= 65_536, "{}", text.len());
    assert!(
        text.ends_with("</details>\n"),
        "cut in its parts, not at its end"
    );
    assert!(text.contains("4940 earlier"));
    task.state = TaskState::Completed;
    task.summary = Some("ü".repeat(40_000));
    let text = status(told(&task, &[], &history));
    assert!(
        text.len() <= 65_536 && text.ends_with("</details>\n"),
        "{}",
        text.len()
    );
}

#[test]
fn every_state_has_its_label() {
    let labels: Vec<_> = TaskState::ALL
        .iter()
        .map(|state| format!("{state} {}", status_label(*state).unwrap_or("-")))
        .collect();
    assert_snapshot!(labels.join("\n"), @r"
    pending patchfleet:queued
    analyzing patchfleet:queued
    waiting patchfleet:queued
    queued patchfleet:queued
    assigned patchfleet:queued
    in_progress patchfleet:working
    testing patchfleet:working
    review patchfleet:review
    completed patchfleet:done
    failed patchfleet:failed
    cancelled -
    ");
}
