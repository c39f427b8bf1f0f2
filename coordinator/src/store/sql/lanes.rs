//! What holds a part of the queue back: limits and pauses.

use patchfleet_domain::TaskState;
use sqlx::Row as _;

use super::rows::{moment_of, number, word};
use super::rowset::plain;
use super::unit::Unit;
use super::unreadable::{LANES, PAUSES};
use super::{Database, Sql};
use crate::store::{AtWork, Pause, Room, Scope, StoreError, StoreResult};

/// The words by which a scope is kept.
fn words(scope: &Scope) -> (&'static str, &str) {
    match scope {
        Scope::Repository(name) => ("repository", name.as_str()),
        Scope::AgentType(name) => ("agent_type", name.as_str()),
    }
}

pub(super) async fn pause(
    database: &Database,
    scope: &Scope,
    (actor, reason): (&str, Option<&str>),
) -> StoreResult<bool> {
    let mut unit = Unit::of(database);
    let (kind, name) = words(scope);
    let done = sqlx::query(
        "INSERT INTO pauses (scope, name, actor, reason, since) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT DO NOTHING",
    )
    .bind(kind)
    .bind(name)
    .bind(plain(actor))
    .bind(reason.map(plain))
    .bind(unit.now().await?.timestamp_micros())
    .execute(unit.sql().await?)
    .await?;
    unit.wake();
    unit.commit().await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn resume(database: &Database, scope: &Scope) -> StoreResult<bool> {
    let mut unit = Unit::of(database);
    let (kind, name) = words(scope);
    let done = sqlx::query("DELETE FROM pauses WHERE scope = $1 AND name = $2")
        .bind(kind)
        .bind(name)
        .execute(unit.sql().await?)
        .await?;
    unit.wake();
    unit.commit().await?;
    Ok(done.rows_affected() > 0)
}

pub(super) async fn pauses(database: &Database) -> StoreResult<Vec<Pause>> {
    let text = "SELECT scope, name, actor, reason, since FROM pauses ORDER BY scope, name";
    let found = sqlx::query(text).fetch_all(&database.readers).await?;
    Ok(database.readable(PAUSES, &found, |row| {
        let kind: String = row.try_get("scope")?;
        Ok(Pause {
            scope: match kind.as_str() {
                "repository" => Scope::Repository(word(row, "name")?),
                "agent_type" => Scope::AgentType(word(row, "name")?),
                _ => return Err(StoreError::Corrupt(format!("column scope: `{kind}`"))),
            },
            actor: row.try_get("actor")?,
            reason: row.try_get("reason")?,
            since: moment_of(row, "since")?,
        })
    }))
}

/// Counted by an index that has what is at work and nothing else: as many as agents have slots.
pub(super) async fn at_work(database: &Database, sql: &mut Sql) -> StoreResult<Vec<AtWork>> {
    let states: Vec<_> = TaskState::ALL
        .iter()
        .filter(|state| state.has_live_attempt())
        .map(|state| format!("'{state}'"))
        .collect();
    let text = format!(
        "SELECT repository, agent_type, COUNT(*) AS tasks FROM tasks WHERE state IN ({}) \
         GROUP BY repository, agent_type ORDER BY repository, agent_type",
        states.join(", ")
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(sql)
        .await?;
    Ok(database.readable(LANES, &found, |row| {
        Ok(AtWork {
            repository: word(row, "repository")?,
            agent_type: word(row, "agent_type")?,
            tasks: number(row, "tasks")?,
        })
    }))
}

pub(super) async fn room(database: &Database) -> StoreResult<Room> {
    let paused = pauses(database).await?;
    let at_work = if database.caps.is_empty() {
        Vec::new()
    } else {
        at_work(database, &mut *database.readers.acquire().await?).await?
    };
    let paused = paused.into_iter().map(|pause| pause.scope);
    Ok(Room::new(database.caps.clone(), at_work, paused))
}

/// The room that limits leave for claims, and nobody else takes any of it until the transaction
/// ends; none where nothing is limited. To be called before anything is held. What is paused is
/// left out when tasks are held.
pub(super) async fn room_for_claims(unit: &mut Unit<'_>) -> StoreResult<Room> {
    if unit.caps().is_empty() {
        return Ok(Room::default());
    }
    if let Some(lock) = unit.dialect.lock_claims() {
        sqlx::query(lock).execute(unit.sql().await?).await?;
    }
    let at_work = at_work(unit.database(), unit.sql().await?).await?;
    Ok(Room::new(unit.caps().clone(), at_work, []))
}
