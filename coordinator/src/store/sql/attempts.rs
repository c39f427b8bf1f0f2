//! Attempts and their leases.

use std::time::Duration;

use patchfleet_domain::{AgentId, AttemptNumber, TaskId, TaskState, Work};
use sqlx::any::AnyRow;

use super::Database;
use super::rows::{self, number, word};
use super::unit::{Busy, Unit};
use crate::store::{AttemptRecord, Cas, LiveAttempt, LostAttempt, StoreResult};

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

fn work(row: &AnyRow) -> StoreResult<Work> {
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

pub(super) async fn renew(
    database: &Database,
    agent: &AgentId,
    lease: Duration,
) -> StoreResult<Vec<Work>> {
    let now = database.now().await?;
    let lease_until = now.saturating_add(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX));
    let found = sqlx::query(
        "UPDATE attempts SET lease_until = $1 WHERE agent = $2 AND ended_at IS NULL RETURNING task, number",
    )
    .bind(lease_until)
    .bind(agent.as_str())
    .fetch_all(&database.pool)
    .await?;
    found.iter().map(work).collect()
}

pub(super) async fn lose(
    database: &Database,
    work: Work,
    why: &str,
) -> StoreResult<Cas<TaskState>> {
    let mut unit = Unit::begin(database).await?;
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
    let mut unit = Unit::begin(database).await?;
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
