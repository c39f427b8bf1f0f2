//! `patchfleet task list|show|cancel|retry|approve`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use patchfleet_domain::{Limit, Money, Task, TaskId, TaskState, WaitReason};
use serde_json::Value;

use crate::client::{ApiArgs, ApiClient, TaskPage};
use crate::output::{Line, Output, Tone, moment};

/// What to do with which task.
#[derive(Debug, Args)]
pub(crate) struct TaskArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: TaskCommand,
}

#[derive(Debug, Subcommand)]
enum TaskCommand {
    /// Show the newest tasks.
    List {
        /// Only tasks in this state, such as `failed`.
        #[arg(long)]
        state: Option<TaskState>,
        /// At most this many, up to 500.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=500))]
        limit: u32,
    },
    /// Show one task with its attempts and its history.
    Show {
        /// The task.
        id: TaskId,
    },
    /// Call a task off.
    Cancel {
        /// The task.
        id: TaskId,
    },
    /// Put a failed task back to work.
    Retry {
        /// The task.
        id: TaskId,
    },
    /// Lets a task spend more on models than its budget; one that waits for that goes on.
    #[command(group(clap::ArgGroup::new("more").required(true).multiple(true)))]
    Approve {
        /// The task.
        id: TaskId,
        /// How many US dollars more, such as 5 or 2.50.
        #[arg(long, value_name = "DOLLARS", group = "more")]
        budget: Option<Money>,
        /// How many tokens more.
        #[arg(long, value_name = "N", group = "more")]
        tokens: Option<u64>,
    },
}

/// Does what was asked.
pub(crate) async fn run(args: TaskArgs, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.command {
        TaskCommand::List { state, limit } => list(&client, state, limit, output).await?,
        TaskCommand::Show { id } => show(&client, id, output).await?,
        TaskCommand::Cancel { id } => command(&client, id, "cancel", output).await?,
        TaskCommand::Retry { id } => command(&client, id, "retry", output).await?,
        TaskCommand::Approve { id, budget, tokens } => {
            let more = Limit {
                usd: budget,
                tokens,
            };
            let path = format!("api/v1/tasks/{id}/approve");
            let done = client
                .post_json(&path, &serde_json::to_value(more)?)
                .await?;
            say_done(id, &done, output);
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn list(
    client: &ApiClient,
    state: Option<TaskState>,
    limit: u32,
    output: Output,
) -> anyhow::Result<()> {
    let state = state
        .map(|state| format!("&state={state}"))
        .unwrap_or_default();
    let page: TaskPage = client
        .get(&format!("api/v1/tasks?limit={limit}{state}"))
        .await?;
    if page.tasks.is_empty() {
        output.line("no tasks");
    }
    for task in &page.tasks {
        output.object(task);
        output.line(row(task));
    }
    Ok(())
}

/// One task on one line.
fn row(task: &Task) -> Line {
    let issue = task
        .issue
        .map(|issue| format!("#{issue}"))
        .unwrap_or_default();
    Line::from(format!("{}  ", task.id))
        .and_toned(tone(task.state), format!("{:<11}", task.state))
        .and(format!(
            "  {}{issue}  {}",
            task.repository, task.request.title
        ))
}

/// How a state stands out.
pub(crate) const fn tone(state: TaskState) -> Tone {
    match state {
        TaskState::Completed | TaskState::Review => Tone::Good,
        TaskState::Failed => Tone::Bad,
        TaskState::Waiting | TaskState::Cancelled => Tone::Notice,
        TaskState::Pending
        | TaskState::Analyzing
        | TaskState::Queued
        | TaskState::Assigned
        | TaskState::InProgress
        | TaskState::Testing => Tone::Quiet,
    }
}

/// A task's history, page by page.
async fn history(client: &ApiClient, id: TaskId) -> anyhow::Result<Vec<Value>> {
    let (mut events, mut after) = (Vec::new(), Value::from(0));
    while !after.is_null() {
        let mut page: Value = client
            .get(&format!("api/v1/tasks/{id}/events?after={after}"))
            .await?;
        if let Value::Array(found) = page["events"].take() {
            events.extend(found);
        }
        after = page["next"].take();
    }
    Ok(events)
}

/// Who gave a waiting task back and why, and when it goes on.
fn show_returns(task: &Task, output: Output) {
    if task.wait_reason != Some(WaitReason::Agent) {
        return;
    }
    for returned in &task.returns.by {
        output.line(format!("  {}  {}", returned.agent, returned.reason));
    }
    if let Some(until) = task.returns.until {
        let until = moment(until);
        output.line(format!("  offered to agents again at {until}"));
    }
}

async fn show(client: &ApiClient, id: TaskId, output: Output) -> anyhow::Result<()> {
    let detail: Value = client.get(&format!("api/v1/tasks/{id}")).await?;
    let events = history(client, id).await?;
    output.object(&serde_json::json!({ "task": detail, "events": events }));
    let task: Task = serde_json::from_value(detail.clone())?;
    output.line(row(&task));
    if let Some(pull_request) = &task.pull_request {
        output.line(format!("  pull request  {}", pull_request.url));
    }
    if let Some(spent) = task.spent.words() {
        output.line(format!("  models        {spent}"));
    }
    show_returns(&task, output);
    if let Some(failure) = &task.failure {
        output.line(Line::from("  ").and_toned(Tone::Bad, failure.kind.as_str()));
        output.block(&failure.message);
        output.line(format!("  {}", failure.kind.advice()));
    }
    for event in &events {
        show_event(event, output);
    }
    Ok(())
}

/// One event of a history; what it says in more than one line stands below it.
fn show_event(event: &Value, output: Output) {
    let text = |field: &str| event[field].as_str().unwrap_or_default();
    let at = text("at").parse().map(moment);
    let at = at.unwrap_or_else(|_| text("at").to_owned());
    let state = event["to"].as_str().map(|to| format!("→ {to}  "));
    let state = state.unwrap_or_default();
    let (first, rest) = text("detail")
        .split_once('\n')
        .unwrap_or((text("detail"), ""));
    let first = first.replace('\t', " ");
    output.line(format!("  {at}  {:<10} {state}{first}", text("kind")));
    output.block(rest);
}

async fn command(client: &ApiClient, id: TaskId, word: &str, output: Output) -> anyhow::Result<()> {
    let done = client.post(&format!("api/v1/tasks/{id}/{word}")).await?;
    say_done(id, &done, output);
    Ok(())
}

fn say_done(id: TaskId, done: &Value, output: Output) {
    output.object(done);
    output.line(format!(
        "{id} is now {}",
        done["state"].as_str().unwrap_or_default()
    ));
}
