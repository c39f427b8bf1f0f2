//! What people get to read.

use insta::assert_snapshot;
use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{
    AttemptNumber, FailureKind, IssueNumber, Priority, PullRequestRef, Returned, Returns, Task,
    TaskId, TaskKind, TaskRequest, TaskState, TestVerdict, Timestamp, WaitReason,
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
        returns: Returns::default(),
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
    let history = [event(
        0,
        "created",
        Some(TaskState::Pending),
        "label by mona",
    )];
    assert_snapshot!(status(told(&task, &[], &history)), @r"
    <!-- patchfleet:task:00000000-0000-0000-0000-000000000007 -->
    ### Patchfleet: waiting for an agent

    | | |
    | --- | --- |
    | State | `pending` |

    <details><summary>Timeline</summary>

    - `1970-01-01 00:00:00` **pending**: label by mona (backend-1)

    </details>
    ");
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
        event(
            4,
            "note",
            None,
            "no agent of type `backend` for 60 s | general",
        ),
        event(5, "state", Some(TaskState::Review), ""),
    ];
    let attempts = [attempt(Some(1), Some(0))];
    let shown = status(told(&task, &attempts, &history)).replace('\u{200B}', "(zero width)");
    assert_snapshot!(shown, @r"
    <!-- patchfleet:task:00000000-0000-0000-0000-000000000007 -->
    ### Patchfleet: ready for review

    | | |
    | --- | --- |
    | State | `review` |
    | Attempt | 1 by `backend-1` |
    | Tests | failed before the change, passed after it |
    | Pull request | [#12](https://github.com/acme/orders/pull/12), a draft |

    Rounds half a cent up.  cc @(zero width)mona

    <details><summary>Timeline</summary>

    - `1970-01-01 00:00:00` **pending**: label by mona (backend-1)
    - `1970-01-01 00:00:01` **assigned**: attempt 1 (backend-1)
    - `1970-01-01 00:00:02` *generate* round 1 of 3 (backend-1)
    - `1970-01-01 00:00:04` no agent of type 'backend' for 60 s \| general (backend-1)
    - `1970-01-01 00:00:05` **review** (backend-1)

    </details>
    ");
}

#[test]
fn a_failed_task() {
    let mut task = task(TaskState::Failed);
    task.failures = 3;
    let message = "FAILED test_totals\n```\nsent with ghp_a1B2c3D4e5F6g7H8i9J0k1L2m3N4o5P6q7R8\n";
    task.failure = Some(failure(message));
    task.summary = Some("of no interest".to_owned());
    let attempts = [attempt(Some(1), None)];
    assert_snapshot!(status(told(&task, &attempts, &[])), @r"
    <!-- patchfleet:task:00000000-0000-0000-0000-000000000007 -->
    ### Patchfleet: failed

    | | |
    | --- | --- |
    | State | `failed` |
    | Attempt | 1 by `backend-1`; 3 of at most 3 failed |
    | Tests | failed before the change, timed out after it |

    **Failed: `tests_failed`**

    Look at the failing tests below; add what the agent could not know, then comment `/patchfleet retry`.

    ````text
    FAILED test_totals
    ```
    sent with [redacted]
    ````
    ");
}

#[test]
fn a_task_that_comes_after_others() {
    let mut task = task(TaskState::Waiting);
    task.wait_reason = Some(WaitReason::Dependency);
    let mut analysis = crate::analysis::analyze(&task, &crate::analysis::AnalysisPolicy::default());
    analysis.depends_on = vec![12, 13];
    task.analysis = Some(analysis);
    let waiting = status(told(&task, &[], &[]));
    assert!(waiting.contains("| State | `waiting` (dependency) |\n| Waits for | #12, #13 |"));

    task.state = TaskState::Cancelled;
    task.wait_reason = None;
    task.failure = Some(Failure {
        kind: FailureKind::DependencyFailed,
        ..failure("#12, which has to be done first, failed")
    });
    let called_off = status(told(&task, &[], &[]));
    assert!(
        called_off.contains("**Called off: `dependency_failed`**"),
        "{called_off}"
    );
    assert!(called_off.contains("#12, which has to be done first, failed"));
    // What an earlier attempt failed with is of no interest once a person called the task off.
    task.failure = Some(failure("red"));
    assert!(!status(told(&task, &[], &[])).contains("red"));
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
    assert_snapshot!(status(told(&task, &[], &[])), @r"
    <!-- patchfleet:task:00000000-0000-0000-0000-000000000007 -->
    ### Patchfleet: held back

    | | |
    | --- | --- |
    | State | `waiting` (agent) |

    **No agent takes this task.** It was given out 10 times in a row and came back without work:

    - `a-broken`: host_fault: 'claude' is not on the PATH @​mona
    - `b-full`: refused: no slot is free

    It is offered to the agents again at 1970-01-01 00:10 UTC by itself, and sooner when another agent is there or fit again. `/patchfleet retry` offers it at once.
    ");
    task.returns.count = 0;
    assert_snapshot!(answer(5, Some(told(&task, &[], &[]))), @r"
    <!-- patchfleet:reply:5 -->
    **held back**

    | | |
    | --- | --- |
    | State | `waiting` (agent) |

    **No agent takes this task.** All agents that could take it are unfit to work:

    - `a-broken`: host_fault: 'claude' is not on the PATH @​mona
    - `b-full`: refused: no slot is free

    It is offered to the agents again at 1970-01-01 00:10 UTC by itself, and sooner when another agent is there or fit again. `/patchfleet retry` offers it at once.
    ");
}

#[test]
fn answers() {
    let mut held = task(TaskState::Waiting);
    held.wait_reason = Some(WaitReason::RateLimit);
    assert_snapshot!(answer(5, Some(told(&held, &[], &[]))), @r"
    <!-- patchfleet:reply:5 -->
    **held back**

    | | |
    | --- | --- |
    | State | `waiting` (rate_limit) |
    ");
    assert_snapshot!(answer(6, None), @r"
    <!-- patchfleet:reply:6 -->
    There is no task for this issue. Comment `/patchfleet run` to start one.
    ");
    assert_snapshot!(problem(7, "There is no command `fly`. <!-- x -->"), @r"
    <!-- patchfleet:reply:7 -->
    There is no command `fly`.
    ");
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
