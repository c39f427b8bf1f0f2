//! Agents: what they said of themselves when they registered, and their state.

use patchfleet_domain::{Agent, AgentId, AgentState};

use super::Database;
use super::rows::{json_present, to_json, word};
use crate::store::StoreResult;

pub(super) async fn register(database: &Database, agent: &Agent) -> StoreResult<()> {
    let now = database.now().await?;
    sqlx::query(
        "INSERT INTO agents (id, description, state, registered_at) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (id) DO UPDATE SET description = excluded.description, state = excluded.state, \
         registered_at = excluded.registered_at",
    )
    .bind(agent.id.as_str())
    .bind(to_json(agent)?)
    .bind(agent.state.as_str())
    .bind(now)
    .execute(&database.pool)
    .await?;
    Ok(())
}

pub(super) async fn set_state(
    database: &Database,
    agent: &AgentId,
    state: AgentState,
) -> StoreResult<()> {
    sqlx::query("UPDATE agents SET state = $1 WHERE id = $2")
        .bind(state.as_str())
        .bind(agent.as_str())
        .execute(&database.pool)
        .await?;
    Ok(())
}

pub(super) async fn all(database: &Database) -> StoreResult<Vec<Agent>> {
    let found = sqlx::query("SELECT description, state FROM agents ORDER BY id")
        .fetch_all(&database.readers)
        .await?;
    found
        .iter()
        .map(|row| {
            let agent: Agent = json_present(row, "description")?;
            Ok(Agent {
                state: word(row, "state")?,
                ..agent
            })
        })
        .collect()
}
