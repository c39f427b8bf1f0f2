//! `/api/v1/agents`.

use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use patchfleet_domain::{Agent, AgentId, AgentState};
use serde::Serialize;

use super::ApiState;
use crate::problem::Problem;

/// A list of agents.
#[derive(Debug, Serialize)]
pub(super) struct AgentList {
    agents: Vec<Agent>,
}

/// All agents that ever registered, by id. The store says whether one is there; what it is doing
/// is known best by the replica that it is connected to, then by Redis, where all replicas leave
/// that, and then from its registration.
pub(super) async fn list(State(state): State<ApiState>) -> Result<Json<AgentList>, Problem> {
    let mut agents = state.store.agents().await?;
    let here = state.registry.connected().into_iter();
    let here: BTreeMap<AgentId, Agent> = here.map(|it| (it.id.clone(), it)).collect();
    let is_elsewhere =
        |it: &&mut Agent| it.state != AgentState::Offline && !here.contains_key(&it.id);
    let elsewhere: Vec<_> = agents.iter_mut().filter(is_elsewhere).collect();
    let ids: Vec<_> = elsewhere.iter().map(|it| it.id.clone()).collect();
    for (agent, known) in elsewhere.into_iter().zip(state.cache.presence(&ids).await) {
        if let Some(known) = known {
            *agent = known;
        }
    }
    for agent in &mut agents {
        if let Some(now) = here.get(&agent.id) {
            agent.clone_from(now);
        }
    }
    Ok(Json(AgentList { agents }))
}
