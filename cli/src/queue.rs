//! `patchfleet queue show|pause|resume`.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use patchfleet_domain::{AgentType, RepositoryName};
use serde_json::{Value, json};

use crate::client::{ApiArgs, ApiClient};
use crate::output::{Line, Output, Tone, moment};

/// What to do with the queue.
#[derive(Debug, Args)]
pub(crate) struct QueueArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: QueueCommand,
}

#[derive(Debug, Subcommand)]
enum QueueCommand {
    /// Show what is paused and how much is at work.
    Show,
    /// Keep the tasks of a repository, or those that want a type of agent, from agents until a
    /// `resume`. What is at work goes on.
    Pause {
        #[command(flatten)]
        scope: ScopeArgs,
        /// Why; shown to whoever asks.
        #[arg(long)]
        reason: Option<String>,
    },
    /// End a pause.
    Resume {
        #[command(flatten)]
        scope: ScopeArgs,
    },
}

/// A part of the queue.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct ScopeArgs {
    /// The tasks of this repository.
    #[arg(long)]
    repository: Option<RepositoryName>,
    /// The tasks that want this type of agent.
    #[arg(long)]
    agent_type: Option<AgentType>,
}

impl ScopeArgs {
    fn document(&self) -> Value {
        match (&self.repository, &self.agent_type) {
            (Some(name), _) => json!({ "repository": name }),
            (None, name) => json!({ "agent_type": name }),
        }
    }
}

/// Does what was asked.
pub(crate) async fn run(args: QueueArgs, output: Output) -> anyhow::Result<ExitCode> {
    let client = args.api.client()?;
    match args.command {
        QueueCommand::Show => show(&client, output).await?,
        QueueCommand::Pause { scope, reason } => {
            let mut document = scope.document();
            document["reason"] = json!(reason);
            change(&client, ("pause", &document), output).await?;
        }
        QueueCommand::Resume { scope } => {
            change(&client, ("resume", &scope.document()), output).await?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(client: &ApiClient, output: Output) -> anyhow::Result<()> {
    let view: Value = client.get("api/v1/queue").await?;
    output.object(&view);
    let lines = |field: &str| view[field].as_array().cloned().unwrap_or_default();
    for pause in lines("pauses") {
        let since = pause["since"].as_str().unwrap_or_default();
        let since = since.parse().map_or_else(|_| since.to_owned(), moment);
        let actor = pause["actor"].as_str().unwrap_or_default();
        let reason = pause["reason"].as_str().map(|why| format!(": {why}"));
        let reason = reason.unwrap_or_default();
        output.line(Line::toned(Tone::Notice, "paused ").and(format!(
            "  {}  since {since} by {actor}{reason}",
            name(&pause)
        )));
    }
    for lane in lines("at_work") {
        let repository = lane["repository"].as_str().unwrap_or_default();
        let agent_type = lane["agent_type"].as_str().unwrap_or_default();
        let tasks = match lane["tasks"].as_u64() {
            Some(1) => "1 task".to_owned(),
            many => format!("{} tasks", many.unwrap_or_default()),
        };
        output.line(format!("at work  {repository}  {agent_type}  {tasks}"));
    }
    if lines("pauses").is_empty() && lines("at_work").is_empty() {
        output.line("nothing is paused, nothing is at work");
    }
    Ok(())
}

async fn change(
    client: &ApiClient,
    (word, scope): (&str, &Value),
    output: Output,
) -> anyhow::Result<()> {
    let done: Value = client
        .post_json(&format!("api/v1/queue/{word}"), scope)
        .await?;
    output.object(&done);
    let now = if done["paused"] == true {
        "is paused"
    } else {
        "goes on"
    };
    let before = if done["changed"] == true {
        ""
    } else {
        ", as before"
    };
    output.line(format!("{} {now}{before}", name(&done)));
    Ok(())
}

fn name(scope: &Value) -> String {
    match scope["repository"].as_str() {
        Some(name) => format!("repository {name}"),
        None => format!(
            "agent type {}",
            scope["agent_type"].as_str().unwrap_or_default()
        ),
    }
}
