//! Claims: what waits, and giving it to an agent.

use std::time::Duration;

use patchfleet_domain::{AgentId, AttemptNumber, Priority, Task, TaskState, Work};
use sqlx::Row as _;

use super::SqlStore;
use super::rows::{self, json_present, number, to_json, word};
use super::transaction::Tx;
use crate::store::rules::Course;
use crate::store::{Assignment, Cas, Checkpoint, QueuedTask, StoreError, StoreResult};

/// A task gains one point of priority for each ten minutes it waits, so that nothing starves.
const AGING_MICROS: i64 = 600_000_000;

pub(super) async fn queued(store: &SqlStore, limit: u32) -> StoreResult<Vec<QueuedTask>> {
    let now: i64 = sqlx::query_scalar(store.dialect.now())
        .fetch_one(&store.readers)
        .await?;
    let found = sqlx::query(
        "SELECT id, attempt, priority, repository, analysis, queued_at FROM tasks \
         WHERE state = 'queued' AND not_before <= $1 AND analysis IS NOT NULL \
         ORDER BY priority + ($2 - queued_at) / $3 DESC, queued_at, id LIMIT $4",
    )
    .bind(now)
    .bind(now)
    .bind(AGING_MICROS)
    .bind(i64::from(limit))
    .fetch_all(&store.readers)
    .await?;
    found
        .iter()
        .map(|row| {
            let priority: u8 = number(row, "priority")?;
            let queued_at: i64 = row.try_get("queued_at")?;
            Ok(QueuedTask {
                id: word(row, "id")?,
                attempt: AttemptNumber(number(row, "attempt")?),
                priority: Priority::try_from(priority)
                    .map_err(|error| StoreError::Corrupt(error.to_string()))?,
                repository: word(row, "repository")?,
                analysis: json_present(row, "analysis")?,
                waited: Duration::from_micros(u64::try_from(now - queued_at).unwrap_or(0)),
            })
        })
        .collect()
}

pub(super) async fn claim(
    store: &SqlStore,
    queued: &QueuedTask,
    agent: &AgentId,
    lease: Duration,
) -> StoreResult<Cas<Assignment>> {
    let mut tx = Tx::begin(store).await?;
    let Some(locked) = tx.lock(queued.id).await? else {
        return Ok(Cas::Stale);
    };
    let mut task = locked.task;
    if task.state != TaskState::Queued || task.attempt != queued.attempt {
        return Ok(Cas::Stale);
    }
    task.attempt = queued.attempt.next();
    let lease_until = tx
        .now
        .saturating_add(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX));
    let now = tx.now;
    sqlx::query(
        "INSERT INTO attempts (task, number, agent, lease_until, assigned_at) VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(task.id.to_string())
    .bind(i64::from(task.attempt.0))
    .bind(agent.as_str())
    .bind(lease_until)
    .bind(now)
    .execute(&mut *tx.sql)
    .await?;
    let course = Course {
        states: vec![TaskState::Assigned],
        pause: Duration::ZERO,
    };
    let detail = format!("attempt {}", task.attempt);
    tx.follow(&mut task, &course, (agent.as_str(), &detail))
        .await?;
    let checkpoints = checkpoints(&mut tx, &task).await?;
    tx.commit().await?;
    let work = Work {
        task: task.id,
        attempt: task.attempt,
    };
    Ok(Cas::Applied(Assignment {
        work,
        task,
        lease_until: rows::moment(lease_until)?,
        checkpoints,
    }))
}

async fn checkpoints(tx: &mut Tx<'_>, task: &Task) -> StoreResult<Vec<Checkpoint>> {
    let found =
        sqlx::query("SELECT node, visit, output FROM checkpoints WHERE task = $1 ORDER BY id")
            .bind(task.id.to_string())
            .fetch_all(&mut *tx.sql)
            .await?;
    found
        .iter()
        .map(|row| {
            Ok(Checkpoint {
                node: row.try_get("node")?,
                visit: number(row, "visit")?,
                output: json_present(row, "output")?,
            })
        })
        .collect()
}

pub(super) async fn assignment(store: &SqlStore, work: Work) -> StoreResult<Option<Assignment>> {
    let mut tx = Tx::begin(store).await?;
    let Some(locked) = tx.lock(work.task).await? else {
        return Ok(None);
    };
    let task = locked.task;
    if task.attempt != work.attempt || !task.state.has_live_attempt() {
        return Ok(None);
    }
    let row = sqlx::query(
        "SELECT lease_until FROM attempts WHERE task = $1 AND number = $2 AND ended_at IS NULL",
    )
    .bind(work.task.to_string())
    .bind(i64::from(work.attempt.0))
    .fetch_optional(&mut *tx.sql)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let lease_until = rows::moment(row.try_get("lease_until")?)?;
    let checkpoints = checkpoints(&mut tx, &task).await?;
    Ok(Some(Assignment {
        work,
        task,
        lease_until,
        checkpoints,
    }))
}

/// Keeps a node's output; a later attempt does not pay for it again.
pub(super) async fn keep_checkpoint(
    tx: &mut Tx<'_>,
    task: &Task,
    checkpoint: &Checkpoint,
) -> StoreResult<()> {
    sqlx::query(
        "INSERT INTO checkpoints (task, node, visit, output) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
    )
    .bind(task.id.to_string())
    .bind(checkpoint.node.as_str())
    .bind(i64::from(checkpoint.visit))
    .bind(to_json(&checkpoint.output)?)
    .execute(&mut *tx.sql)
    .await?;
    Ok(())
}

/// Forgets what led to a failure.
pub(super) async fn discard_checkpoints(tx: &mut Tx<'_>, task: &Task) -> StoreResult<()> {
    sqlx::query("DELETE FROM checkpoints WHERE task = $1")
        .bind(task.id.to_string())
        .execute(&mut *tx.sql)
        .await?;
    Ok(())
}
