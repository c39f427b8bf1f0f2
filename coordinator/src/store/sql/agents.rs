//! Agents: what they said of themselves when they registered, and whether they are there.

use std::time::Duration;

use patchfleet_domain::{Agent, AgentId, AgentState, SessionId};
use serde::Serialize;
use sqlx::Row as _;

use super::attempts::work;
use super::rows::{json_present, to_json, word};
use super::rowset::{self, Row as _, row};
use super::unit::Unit;
use super::unreadable::{AGENTS, ATTEMPTS};
use super::{Database, micros};
use crate::store::{Cas, NewPresence, Renewal, StoreResult, Terms};

row! {
    PresenceRow {
        id: String => "text",
        state: &'static str => "text",
        present_until: i64 => "bigint",
    }
}

/// What an agent said of itself, and which process said it.
#[derive(Serialize)]
struct Description<'a> {
    #[serde(flatten)]
    agent: &'a Agent,
    instance: String,
}

pub(super) async fn register(
    database: &Database,
    agent: &Agent,
    presence: NewPresence,
) -> StoreResult<Cas> {
    let now = database.now().await?;
    let description = Description {
        agent,
        instance: presence.instance.to_string(),
    };
    let text = format!(
        "INSERT INTO agents (id, description, state, registered_at, session, present_until) \
         VALUES ($1, $2, $3, $4, $5, $6) \
         ON CONFLICT (id) DO UPDATE SET description = excluded.description, state = excluded.state, \
         registered_at = excluded.registered_at, session = excluded.session, \
         present_until = excluded.present_until{}",
        database.dialect.is_vacant()
    );
    let registered = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(agent.id.as_str())
        .bind(to_json(&description)?)
        .bind(agent.state.as_str())
        .bind(now)
        .bind(presence.session.to_string())
        .bind(now.saturating_add(micros(presence.present)))
        .execute(&database.pool)
        .await?;
    Ok(match registered.rows_affected() {
        0 => Cas::Stale,
        _ => Cas::Applied(()),
    })
}

/// In two statements for all of them: whoever has ten thousand agents renews them often.
pub(super) async fn renew(
    database: &Database,
    agents: &[(AgentId, AgentState)],
    terms: Terms,
) -> StoreResult<Vec<Renewal>> {
    let mut unit = Unit::of(database);
    let until = unit
        .now()
        .await?
        .timestamp_micros()
        .saturating_add(micros(terms.lease));
    let mut rows: Vec<_> = agents
        .iter()
        .map(|(id, state)| PresenceRow {
            id: id.to_string(),
            state: state.as_str(),
            present_until: until,
        })
        .collect();
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    let text = format!(
        "UPDATE agents SET state = r.state, present_until = r.present_until FROM {} \
         WHERE agents.id = r.id",
        rowset::table(unit.dialect, PresenceRow::COLUMNS)
    );
    rowset::execute(unit.sql().await?, &text, &rows).await?;
    // Locked in the order in which every transaction locks them. What was not accepted within its
    // first lease, and what takes longer than the deadline, is given up although its agent lives:
    // the work hangs.
    let text = format!(
        "UPDATE attempts SET lease_until = CASE WHEN last_seq = 0 THEN lease_until \
         WHEN assigned_at + $3 < $2 THEN assigned_at + $4 ELSE $5 END WHERE (task, number) IN (\
            SELECT task, number FROM attempts WHERE agent {} AND ended_at IS NULL ORDER BY task{}\
         ) RETURNING agent, task, number, last_seq",
        unit.dialect.among(),
        unit.dialect.lock()
    );
    let ids: Vec<_> = agents.iter().map(|(id, _)| id).collect();
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(to_json(&ids)?)
        .bind(until)
        .bind(micros(terms.deadline))
        .bind(micros(terms.deadline))
        .bind(until)
        .fetch_all(unit.sql().await?)
        .await?;
    unit.commit().await?;
    Ok(database.readable(ATTEMPTS, &found, |row| {
        Ok(Renewal {
            agent: word(row, "agent")?,
            work: work(row)?,
            is_accepted: row.try_get::<i64, _>("last_seq")? > 0,
        })
    }))
}

pub(super) async fn leave(
    database: &Database,
    agent: &AgentId,
    (session, grace): (SessionId, Option<Duration>),
) -> StoreResult<()> {
    let mut unit = Unit::of(database);
    let left = sqlx::query("UPDATE agents SET present_until = 0 WHERE id = $1 AND session = $2")
        .bind(agent.as_str())
        .bind(session.to_string())
        .execute(unit.sql().await?)
        .await?;
    if let Some(grace) = grace
        && left.rows_affected() > 0
    {
        let until = unit
            .now()
            .await?
            .timestamp_micros()
            .saturating_add(micros(grace));
        sqlx::query(
            "UPDATE attempts SET lease_until = $1 WHERE agent = $2 AND ended_at IS NULL \
             AND lease_until > $3",
        )
        .bind(until)
        .bind(agent.as_str())
        .bind(until)
        .execute(unit.sql().await?)
        .await?;
    }
    unit.commit().await
}

pub(super) async fn all(database: &Database) -> StoreResult<Vec<Agent>> {
    let now = database.now().await?;
    let found = sqlx::query(
        "SELECT id, description, CASE WHEN present_until > $1 THEN state ELSE 'offline' END AS state \
         FROM agents ORDER BY id",
    )
    .bind(now)
    .fetch_all(&database.readers)
    .await?;
    Ok(database.readable(AGENTS, &found, |row| {
        let agent: Agent = json_present(row, "description")?;
        Ok(Agent {
            state: word(row, "state")?,
            ..agent
        })
    }))
}
