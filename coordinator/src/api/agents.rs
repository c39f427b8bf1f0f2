//! `/api/v1/agents`.

use axum::Json;
use axum::extract::State;
use patchfleet_domain::Agent;
use serde::Serialize;

use super::ApiState;
use crate::problem::Problem;

/// A list of agents.
#[derive(Debug, Serialize)]
pub(super) struct AgentList {
    agents: Vec<Agent>,
}

/// All agents that ever registered, by id.
pub(super) async fn list(State(state): State<ApiState>) -> Result<Json<AgentList>, Problem> {
    Ok(Json(AgentList {
        agents: state.store.agents().await?,
    }))
}
