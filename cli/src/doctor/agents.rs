//! How the agents are, as the coordinator that runs knows it.

use std::net::SocketAddr;
use std::time::Duration;

use patchfleet_coordinator::config::CoordinatorConfig;
use patchfleet_domain::{Agent, AgentState};
use secrecy::SecretString;
use serde::Deserialize;

use crate::client::{self, ApiClient};
use crate::doctor::check::Check;

/// How long the coordinator may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
struct AgentList {
    agents: Vec<Agent>,
}

/// One for each agent that is there; none when no coordinator runs, which is no fault. One that takes the
/// connection and does not answer hangs, which is one.
pub(super) async fn checks(config: &CoordinatorConfig) -> Vec<Check> {
    let Ok(key) = config.api.key.reveal("coordinator.api.key") else {
        return Vec::new();
    };
    let list = match ask(config.listen, key).await {
        Ok(Some(list)) => list,
        Ok(None) => return Vec::new(),
        Err(hangs) => return vec![hangs],
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

/// The agents of the coordinator that runs there, if one does; the finding when it hangs.
async fn ask(listen: SocketAddr, key: SecretString) -> Result<Option<AgentList>, Check> {
    let client = client::root(listen).and_then(|root| ApiClient::new(root, key));
    let Ok(client) = client else {
        return Ok(None);
    };
    let answer = tokio::time::timeout(PATIENCE, client.get("api/v1/agents"));
    match answer.await {
        Ok(answer) => Ok(answer.ok()),
        Err(_) => {
            let found = format!("what listens at {listen} did not answer within {PATIENCE:?}");
            let mend = "look into the coordinator's log and at its database; end what hangs there";
            Err(Check::bad("coordinator", found, mend))
        }
    }
}

fn check(agent: &Agent) -> Check {
    let name = format!("{}: state", agent.id);
    let found = match &agent.reason {
        Some(reason) => format!("{}: {reason}", agent.state),
        None => agent.state.to_string(),
    };
    match agent.state {
        AgentState::Error => {
            let mend = "mend it on the agent's host; it takes tasks again by itself, after a changed \
                        configuration when it is started again";
            Check::bad(name, found, mend)
        }
        AgentState::Overloaded | AgentState::Maintenance => {
            Check::notice(name, found, "it takes nothing new until that is over")
        }
        AgentState::Idle | AgentState::Busy | AgentState::Offline => Check::good(name, found),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_coordinator_that_takes_the_connection_and_does_not_answer_is_named() {
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap();
        let hangs = ask(address, "key".into()).await.unwrap_err();
        assert_eq!(hangs.name, "coordinator");
        assert_eq!(
            hangs.found,
            format!("what listens at {address} did not answer within 5s")
        );
    }

    #[tokio::test]
    async fn a_coordinator_that_is_not_there_has_no_agents() {
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = nobody.local_addr().unwrap();
        drop(nobody);
        assert!(ask(address, "key".into()).await.unwrap().is_none());
    }
}
