//! What the demo shows at its end: the change, red before and green after, and the last object.

use std::time::Duration;

use anyhow::Context as _;
use patchfleet_domain::{Spent, Task, TaskState, TestVerdict};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::demo::fleet::Fleet;
use crate::demo::scene::Scene;
use crate::output::{Line, Output, Tone};

/// A task with its attempts, as far as they are shown.
#[derive(Debug, Default, Deserialize)]
struct Detail {
    attempts: Vec<Attempt>,
    #[serde(default)]
    spent: Spent,
}

#[derive(Debug, Default, Clone, Deserialize)]
struct Attempt {
    tests_before: Option<TestVerdict>,
    tests_after: Option<TestVerdict>,
}

/// The pull request's diff and what the tests said.
pub(super) async fn show_change(
    scene: &Scene,
    fleet: &Fleet,
    task: &Task,
    output: Output,
) -> anyhow::Result<()> {
    if let Some(failure) = &task.failure {
        output.line("");
        let message = format!(": {}", failure.message);
        output.line(Line::toned(Tone::Bad, failure.kind.as_str()).and(message));
        output.line(failure.kind.advice());
    }
    show_wait(task, output);
    let Some(pull_request) = &task.pull_request else {
        return Ok(());
    };
    let diff = scene.diff(pull_request.number)?;
    output.object(&json!({ "event": "diff", "pull_request": pull_request.number, "diff": diff }));
    output.line("");
    output.line(format!(
        "pull request #{}  {}",
        pull_request.number, pull_request.url
    ));
    output.line("");
    for line in diff.lines() {
        output.line(paint_diff(&line.replace('\t', "    ")));
    }
    let last = detail(fleet, task).await?.last();
    output.line("");
    for (when, verdict) in [("before", &last.tests_before), ("after", &last.tests_after)] {
        output.object(&json!({
            "event": "tests", "when": when,
            "returncode": verdict.as_ref().and_then(|it| it.returncode),
            "duration_ms": verdict.as_ref().map(|it| it.duration_ms),
        }));
        output.line(describe(
            Line::from(format!("tests {when:<6}  ")),
            verdict.as_ref(),
        ));
    }
    output.line("");
    Ok(())
}

fn paint_diff(line: &str) -> Line {
    match line.as_bytes().first() {
        Some(b'+') => Line::toned(Tone::Good, line),
        Some(b'-') => Line::toned(Tone::Bad, line),
        Some(b'@') => Line::toned(Tone::Notice, line),
        _ => line.into(),
    }
}

fn describe(line: Line, verdict: Option<&TestVerdict>) -> Line {
    let Some(verdict) = verdict else {
        return line.and("not run");
    };
    let line = if verdict.passed() {
        line.and_toned(Tone::Good, "green")
    } else if verdict.ran_none {
        line.and_toned(Tone::Notice, "no tests were run")
    } else {
        line.and_toned(Tone::Bad, "red")
    };
    let code = verdict
        .returncode
        .map_or_else(|| "none".to_owned(), |code| code.to_string());
    line.and(format!(
        "  `{}` exit code {code} in {} ms",
        verdict.command.join(" "),
        verdict.duration_ms
    ))
}

/// Why a task waits, and what each agent says that gave it back.
fn show_wait(task: &Task, output: Output) {
    let Some(reason) = task.wait_reason else {
        return;
    };
    output.line("");
    output.line(Line::toned(Tone::Bad, "waiting").and(format!(": {}", reason.as_str())));
    for returned in &task.returns.by {
        output.line(format!("{}: {}", returned.agent, returned.reason));
    }
}

async fn detail(fleet: &Fleet, task: &Task) -> anyhow::Result<Detail> {
    let path = format!("api/v1/tasks/{}", task.id);
    fleet.client().get(&path).await
}

impl Detail {
    fn last(&self) -> Attempt {
        self.attempts.last().cloned().unwrap_or_default()
    }
}

/// What models used, and what it cost where all prices are known.
fn usage(spent: &Spent) -> Value {
    let dollars = spent.usd.to_string();
    let cost: Option<f64> = dollars.trim_start_matches('$').parse().ok();
    let cost = cost.filter(|_| spent.unpriced_calls == 0);
    json!({
        "calls": spent.calls,
        "input_tokens": spent.input_tokens,
        "cache_read_tokens": spent.cache_read_tokens,
        "cache_write_tokens": spent.cache_write_tokens,
        "output_tokens": spent.output_tokens,
        "reasoning_tokens": spent.reasoning_tokens,
        "estimated": spent.estimated,
        "cost_usd": cost,
    })
}

/// Prints the last object and says whether all went as it should: one attempt chain that ended in
/// a merged pull request, red before, green after.
pub(super) async fn finish(
    (scene, fleet): (&Scene, &Fleet),
    task: &Task,
    took: Duration,
    output: Output,
) -> anyhow::Result<bool> {
    if let Some(issue) = task.issue.filter(|_| task.state == TaskState::Completed) {
        scene.told(issue).await;
    }
    let detail = detail(fleet, task).await?;
    let last = detail.last();
    let code = |verdict: &Option<TestVerdict>| verdict.as_ref().and_then(|it| it.returncode);
    let (before, after) = (code(&last.tests_before), code(&last.tests_after));
    let pull_request = pull_request(scene, task)?;
    let good = task.state == TaskState::Completed
        && pull_request["draft"] == json!(true)
        && pull_request["merged"] == json!(true)
        && before.is_some_and(|code| code != 0)
        && after == Some(0);
    let millis = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    output.object(&json!({
        "event": "demo_finished",
        "task": { "id": task.id, "state": task.state, "attempts": task.attempt },
        "failure": task.failure, "wait": wait(task),
        "pull_request": pull_request,
        "tests": { "before": { "returncode": before }, "after": { "returncode": after } },
        "usage": usage(&detail.spent),
        "duration_ms": millis, "github_requests": scene.requests(),
    }));
    let word = if good {
        Line::toned(Tone::Good, "completed")
    } else {
        Line::toned(Tone::Bad, task.state.as_str())
    };
    output.line("");
    output.line(word.and(format!(
        " in {:.1} s{}",
        took.as_secs_f64(),
        told(&detail.spent)
    )));
    Ok(good)
}

/// What models used, for people.
fn told(spent: &Spent) -> String {
    if spent.is_nothing() {
        return String::new();
    }
    let about = if spent.estimated { "about " } else { "" };
    let price = if spent.unpriced_calls == 0 {
        spent.usd.to_string()
    } else {
        "price not known".to_owned()
    };
    let input = spent.tokens().saturating_sub(spent.output_tokens);
    format!(
        "; {} calls of the model, {about}{input} tokens in ({} of them read from its cache), {} out, {price}",
        spent.calls, spent.cache_read_tokens, spent.output_tokens
    )
}

/// What the task waits for, and what each agent says that gave it back.
fn wait(task: &Task) -> Value {
    let Some(reason) = task.wait_reason else {
        return Value::Null;
    };
    let returns = task.returns.by.iter();
    let returns = returns.map(|it| json!({ "agent": it.agent, "reason": it.reason }));
    json!({ "reason": reason, "returns": returns.collect::<Vec<_>>() })
}

/// The pull request as GitHub has it, not as the task remembers it; but for `draft`, which says
/// how it was opened: merging takes it out of draft.
fn pull_request(scene: &Scene, task: &Task) -> anyhow::Result<Value> {
    let Some(known) = &task.pull_request else {
        return Ok(Value::Null);
    };
    let issue = scene
        .pull(known.number)?
        .context("the pull request is not on GitHub")?;
    let pull = issue.pull.context("the task's pull request is an issue")?;
    Ok(json!({
        "number": known.number, "url": known.url, "head": pull.head, "base": pull.base,
        "draft": known.draft, "merged": pull.merged_at.is_some(),
    }))
}
