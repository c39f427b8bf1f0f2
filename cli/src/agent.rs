//! `patchfleet agent`.

use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::Args;
use patchfleet_agent::AgentConfig;
use patchfleet_domain::AgentId;

use crate::config::ServiceArgs;
use crate::output::Output;
use crate::runtime;

/// How to run one agent.
#[derive(Debug, Args)]
pub(crate) struct AgentArgs {
    #[command(flatten)]
    service: ServiceArgs,
    /// Which of the file's agents; may be left out when there is one.
    #[arg(long)]
    id: Option<AgentId>,
}

/// Runs until it is told to end.
pub(crate) async fn run(args: AgentArgs, output: Output) -> anyhow::Result<ExitCode> {
    let config = args.service.begin()?;
    let telemetry = config.start_telemetry("patchfleet-agent")?;
    let shutdown = runtime::shutdown_on_signal()?;
    let agent = choose(&config.agents, args.id.as_ref())
        .with_context(|| format!("in {}", args.service.file().display()))?;
    output.line(format!(
        "agent {} connects to {}",
        agent.id, agent.coordinator.url
    ));
    let result = Box::pin(patchfleet_agent::run(agent.clone(), shutdown)).await;
    telemetry.shutdown();
    result.map(|()| ExitCode::SUCCESS)
}

fn choose<'a>(agents: &'a [AgentConfig], id: Option<&AgentId>) -> anyhow::Result<&'a AgentConfig> {
    let known = || {
        agents
            .iter()
            .map(|agent| agent.id.to_string())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (agents, id) {
        ([], _) => bail!("there is no [[agents]] section"),
        (_, Some(id)) => agents
            .iter()
            .find(|agent| agent.id == *id)
            .with_context(|| format!("there is no agent `{id}`; there are: {}", known())),
        ([agent], None) => Ok(agent),
        (_, None) => bail!("name one of the agents with --id: {}", known()),
    }
}
