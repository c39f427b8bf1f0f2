//! Store in, Markdown out; pure.

use std::borrow::Cow;
use std::fmt::Write as _;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::task::task_mark;
use patchfleet_domain::{FailureKind, PullRequestRef, Task, TaskState, TestVerdict, WaitReason};

use super::markdown::{block, link, quiet, shortened};
use super::returns;
use super::timeline::timeline;
use crate::intake::LABEL_PREFIX;
use crate::store::{AttemptRecord, TaskEvent};

/// GitHub's limit is 65,536 characters; bytes are never fewer.
const MAX_COMMENT: usize = 65_536;
const MAX_MESSAGE: usize = 12_000;
const MAX_SUMMARY: usize = 20_000;
/// The heading under which a summary says what people should do with the pull request.
const NEXT: &str = "### Next";

/// What is told about: a task, its attempts and its history.
#[derive(Debug, Clone, Copy)]
pub struct Told<'a> {
    /// The task.
    pub task: &'a Task,
    /// Its attempts, oldest first.
    pub attempts: &'a [AttemptRecord],
    /// Its history, oldest first.
    pub history: &'a [TaskEvent],
}

/// The label that a task's state is shown by; none once it is called off.
pub const fn status_label(state: TaskState) -> Option<&'static str> {
    match state {
        TaskState::Pending
        | TaskState::Analyzing
        | TaskState::Waiting
        | TaskState::Queued
        | TaskState::Assigned => Some("patchfleet:queued"),
        TaskState::InProgress | TaskState::Testing => Some("patchfleet:working"),
        TaskState::Review => Some("patchfleet:review"),
        TaskState::Completed => Some("patchfleet:done"),
        TaskState::Failed => Some("patchfleet:failed"),
        TaskState::Cancelled => None,
    }
}

/// The hidden mark of a reply.
pub(super) fn reply_mark(entry: i64) -> String {
    format!("<!-- {LABEL_PREFIX}reply:{entry} -->")
}

/// A task's status comment.
pub fn status(told: Told<'_>) -> String {
    let task = told.task;
    let mut text = format!(
        "{}\n### Patchfleet: {}\n\n",
        task_mark(task.id),
        headline(task)
    );
    push_table(&mut text, told);
    push_failure(&mut text, told);
    returns::push(&mut text, told.task);
    if let Some(summary) = summary_of(task) {
        let _ = write!(text, "\n{}\n", quiet(&summary, MAX_SUMMARY));
    }
    if let Some(lines) = timeline(told.history) {
        let _ = write!(
            text,
            "\n<details><summary>Timeline</summary>\n\n{lines}\n\n</details>\n"
        );
    }
    shortened(&text, MAX_COMMENT)
}

/// The answer to `/patchfleet status`.
pub fn answer(entry: i64, told: Option<Told<'_>>) -> String {
    let mark = reply_mark(entry);
    let Some(told) = told else {
        return format!(
            "{mark}\nThere is no task for this issue. Comment `/patchfleet run` to start one."
        );
    };
    let mut text = format!("{mark}\n**{}**\n\n", headline(told.task));
    push_table(&mut text, told);
    push_failure(&mut text, told);
    returns::push(&mut text, told.task);
    text
}

/// The answer to a command that can't be done.
pub fn problem(entry: i64, message: &str) -> String {
    format!("{}\n{}", reply_mark(entry), quiet(message, MAX_MESSAGE))
}

const fn headline(task: &Task) -> &'static str {
    match task.state {
        TaskState::Pending | TaskState::Analyzing | TaskState::Queued | TaskState::Assigned => {
            "waiting for an agent"
        }
        TaskState::Waiting => "held back",
        TaskState::InProgress => "at work",
        TaskState::Testing => "testing",
        TaskState::Review => "ready for review",
        TaskState::Completed => "done",
        TaskState::Failed => "failed",
        TaskState::Cancelled => "called off",
    }
}

fn push_table(text: &mut String, told: Told<'_>) {
    let task = told.task;
    let newest = told.attempts.last();
    let mut rows = vec![("State", state_cell(task))];
    rows.extend(awaited_cell(task).map(|cell| ("Waits for", cell)));
    if let Some(analysis) = &task.analysis {
        rows.push(("Agent type", analysis.requirement.agent_type.to_string()));
    }
    if let Some(attempt) = newest {
        rows.push(("Attempt", attempt_cell(task, attempt)));
        rows.extend(tests_cell(attempt).map(|cell| ("Tests", cell)));
    }
    rows.extend(
        task.pull_request
            .as_ref()
            .map(|one| ("Pull request", pull_request_cell(task, one))),
    );
    rows.extend(task.spent.words().map(|cell| ("Models", cell)));
    text.push_str("| | |\n| --- | --- |\n");
    for (name, cell) in rows {
        let _ = writeln!(text, "| {name} | {cell} |");
    }
}

fn state_cell(task: &Task) -> String {
    let reason = task
        .wait_reason
        .filter(|_| task.state == TaskState::Waiting);
    reason.map_or_else(
        || format!("`{}`", task.state),
        |reason| format!("`{}` ({reason})", task.state),
    )
}

/// The issues that a task waits for.
fn awaited_cell(task: &Task) -> Option<String> {
    let waits = task.wait_reason == Some(WaitReason::Dependency);
    let analysis = task.analysis.as_ref().filter(|_| waits)?;
    let issues: Vec<_> = analysis
        .depends_on
        .iter()
        .map(|it| format!("#{it}"))
        .collect();
    Some(issues.join(", "))
}

fn attempt_cell(task: &Task, attempt: &AttemptRecord) -> String {
    let failures = match task.failures {
        0 => String::new(),
        count => format!("; {count} of at most {} failed", task.max_attempts),
    };
    format!("{} by `{}`{failures}", attempt.number, attempt.agent)
}

fn tests_cell(attempt: &AttemptRecord) -> Option<String> {
    let before = attempt.tests_before.as_ref();
    let after = attempt.tests_after.as_ref();
    let (before, after) = match (before, after) {
        (None, None) => return None,
        (before, after) => (
            before.map_or("not run", verdict),
            after.map_or("not run", verdict),
        ),
    };
    Some(format!("{before} before the change, {after} after it"))
}

const fn verdict(tests: &TestVerdict) -> &'static str {
    if tests.passed() {
        "passed"
    } else if tests.timed_out {
        "timed out"
    } else if tests.ran_none {
        "no tests were run"
    } else {
        "failed"
    }
}

fn pull_request_cell(task: &Task, pull_request: &PullRequestRef) -> String {
    let closed = task.failure.as_ref().map(|failure| failure.kind);
    let closed = closed == Some(FailureKind::PullRequestClosed);
    let kind = match (pull_request.merged, pull_request.draft) {
        (true, _) => ", merged",
        _ if closed => ", closed",
        (false, true) => ", a draft",
        (false, false) => "",
    };
    let name = format!("#{}", pull_request.number);
    format!("{}{kind}", link(&name, &pull_request.url))
}

/// The failure that is told: the final one, or what the next attempt is to do better.
fn failure_of(task: &Task) -> Option<&Failure> {
    let failure = task.failure.as_ref()?;
    let told = match task.state {
        TaskState::Review | TaskState::Completed => false,
        // Only what it was called off for, unless a person did it.
        TaskState::Cancelled => failure.kind == FailureKind::DependencyFailed,
        _ => true,
    };
    told.then_some(failure)
}

fn push_failure(text: &mut String, told: Told<'_>) {
    let Some(failure) = failure_of(told.task) else {
        return;
    };
    let title = match told.task.state {
        TaskState::Failed => "Failed",
        TaskState::Cancelled => "Called off",
        TaskState::Waiting if failure.kind.is_budget() => "Stopped",
        _ => "The last attempt failed",
    };
    let _ = write!(text, "\n**{title}: `{}`**\n\n", failure.kind);
    // What a person can do applies once the task does not go on by itself.
    let is_stopped = told.task.wait_reason == Some(WaitReason::Budget);
    if is_stopped || !told.task.state.is_active() {
        let _ = write!(text, "{}\n\n", failure.kind.advice());
    }
    let _ = writeln!(text, "{}", block(&failure.message, MAX_MESSAGE));
}

/// What was done; what is to be done next only while that is so.
fn summary_of(task: &Task) -> Option<Cow<'_, str>> {
    let summary = task.summary.as_deref()?;
    match task.state {
        TaskState::Review => Some(summary.into()),
        TaskState::Completed => Some(without_section(summary, NEXT).into()),
        _ => None,
    }
}

/// Markdown without the section under that heading.
fn without_section(text: &str, heading: &str) -> String {
    let level = heading.split(' ').next().unwrap_or_default();
    let mut inside = false;
    let mut kept = Vec::new();
    for line in text.lines() {
        let marks = line.split(' ').next().unwrap_or_default();
        let is_heading = !marks.is_empty() && marks.chars().all(|c| c == '#');
        if is_heading && marks.len() <= level.len() {
            inside = line.trim_end() == heading;
        }
        if !inside {
            kept.push(line);
        }
    }
    kept.join("\n").trim_end().to_owned()
}
