//! Attempts and their leases.

use std::time::Duration;

use patchfleet_domain::{AgentId, AttemptNumber, TaskId, TaskState, Timestamp, Work};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::rows::{self, number, word};
use super::unit::{Busy, Unit};
use super::{Database, micros};
use crate::store::{AttemptRecord, Cas, LiveAttempt, LostAttempt, StoreResult, TakenAway};

pub(super) async fn records(database: &Database, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
    let found = sqlx::query(
        "SELECT number, agent, assigned_at, ended_at, outcome, failure, tests_before, tests_after \
         FROM attempts WHERE task = $1 ORDER BY number",
    )
    .bind(task.to_string())
    .fetch_all(&database.readers)
    .await?;
    found.iter().map(rows::attempt).collect()
}

pub(super) fn work(row: &AnyRow) -> StoreResult<Work> {
    Ok(Work {
        task: word(row, "task")?,
        attempt: AttemptNumber(number(row, "number")?),
    })
}

pub(super) async fn live(database: &Database, agent: &AgentId) -> StoreResult<Vec<LiveAttempt>> {
    let found = sqlx::query(
        "SELECT a.task, a.number, a.last_seq, t.state FROM attempts a JOIN tasks t ON t.id = a.task \
         WHERE a.agent = $1 AND a.ended_at IS NULL ORDER BY a.assigned_at, a.task",
    )
    .bind(agent.as_str())
    .fetch_all(&database.readers)
    .await?;
    found
        .iter()
        .map(|row| {
            Ok(LiveAttempt {
                work: work(row)?,
                state: word(row, "state")?,
                last_seq: number(row, "last_seq")?,
            })
        })
        .collect()
}

/// How far back a look reaches beyond the last one: what a transaction wrote is seen when it
/// commits, which may be that much after the moment that it wrote.
const OVERLAP: Duration = Duration::from_secs(20);

pub(super) async fn taken_away(
    database: &Database,
    since: Option<Timestamp>,
) -> StoreResult<(Timestamp, Vec<TakenAway>)> {
    let now = database.now().await?;
    let since = since.map_or(now, |since| since.timestamp_micros());
    let found = sqlx::query(
        "SELECT task, number, agent, outcome FROM attempts \
         WHERE outcome IN ('cancelled', 'lost') AND ended_at > $1",
    )
    .bind(since.saturating_sub(micros(OVERLAP)))
    .fetch_all(&database.readers)
    .await?;
    let taken = found.iter().map(|row| {
        let outcome: String = row.try_get("outcome")?;
        Ok(TakenAway {
            work: work(row)?,
            agent: word(row, "agent")?,
            called_off: outcome == "cancelled",
        })
    });
    Ok((rows::moment(now)?, taken.collect::<StoreResult<_>>()?))
}

pub(super) async fn lose(
    database: &Database,
    work: Work,
    why: &str,
) -> StoreResult<Cas<TaskState>> {
    let mut unit = Unit::of(database);
    let Some(held) = unit.one(work.task).await? else {
        return Ok(Cas::Stale);
    };
    let lost = held.lose(work, why)?;
    unit.commit().await?;
    Ok(lost)
}

/// Most leases that are ended in one transaction.
const EXPIRED: u32 = 256;

pub(super) async fn expire(database: &Database) -> StoreResult<Vec<LostAttempt>> {
    let now = database.now().await?;
    let text = format!(
        "SELECT task, number, agent FROM attempts WHERE ended_at IS NULL AND lease_until <= $1 \
         ORDER BY lease_until LIMIT {EXPIRED}"
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(now)
        .fetch_all(&database.readers)
        .await?;
    if found.is_empty() {
        return Ok(Vec::new());
    }
    let over: Vec<(Work, AgentId)> = found
        .iter()
        .map(|row| Ok((work(row)?, word(row, "agent")?)))
        .collect::<StoreResult<_>>()?;
    end_all(database, over).await
}

async fn end_all(database: &Database, over: Vec<(Work, AgentId)>) -> StoreResult<Vec<LostAttempt>> {
    let mut unit = Unit::of(database);
    // Whoever holds a task now is about to change it: the next look sees what came of it.
    unit.hold(over.iter().map(|(work, _)| work.task), Busy::Skip)
        .await?;
    let mut lost = Vec::new();
    for (work, agent) in over {
        let ended = unit.held(work.task).map(|held| held.expire(work));
        if let Some(Cas::Applied(now)) = ended.transpose()? {
            lost.push(LostAttempt { work, agent, now });
        }
    }
    unit.commit().await?;
    Ok(lost)
}
