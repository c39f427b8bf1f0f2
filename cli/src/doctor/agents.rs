//! How the agents are, as the coordinator that runs knows it.

use std::time::Duration;

use patchfleet_coordinator::config::CoordinatorConfig;
use patchfleet_domain::{Agent, AgentState};
use serde::Deserialize;

use crate::client::{self, ApiClient};
use crate::doctor::check::Check;

/// How long the coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct AgentList {
    agents: Vec<Agent>,
}

/// One for each agent that is there; none when no coordinator runs, which is no fault.
pub(super) async fn checks(config: &CoordinatorConfig) -> Vec<Check> {
    let Some(list) = ask(config).await else {
        return Vec::new();
    };
    let (away, here): (Vec<_>, Vec<_>) = list
        .agents
        .into_iter()
        .partition(|agent| agent.state == AgentState::Offline);
    let mut checks: Vec<_> = here.iter().map(check).collect();
    if !away.is_empty() {
        let names: Vec<_> = away.iter().map(|agent| agent.id.as_str()).collect();
        let found = format!("offline: {}", names.join(", "));
        checks.push(Check::notice(
            "agents",
            found,
            "start those that should be there",
        ));
    }
    checks
}

async fn ask(config: &CoordinatorConfig) -> Option<AgentList> {
    let key = config.api.key.reveal("coordinator.api.key").ok()?;
    let root = client::root(config.listen).ok()?;
    let client = ApiClient::new(root, key).ok()?;
    let answer = tokio::time::timeout(PATIENCE, client.get("api/v1/agents"));
    answer.await.ok()?.ok()
}

fn check(agent: &Agent) -> Check {
    let name = format!("{}: state", agent.id);
    let found = match &agent.reason {
        Some(reason) => format!("{}: {reason}", agent.state),
        None => agent.state.to_string(),
    };
    match agent.state {
        AgentState::Error => {
            let mend = "mend it on the agent's host; it takes tasks again by itself";
            Check::bad(name, found, mend)
        }
        AgentState::Overloaded | AgentState::Maintenance => {
            Check::notice(name, found, "it takes nothing new until that is over")
        }
        AgentState::Idle | AgentState::Busy | AgentState::Offline => Check::good(name, found),
    }
}
