//! Attempts and their leases.

use std::time::Duration;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{AgentId, AttemptNumber, Task, TaskId, TaskState, Work};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::SqlStore;
use super::rows::{self, number, to_json_or_none, word};
use super::transaction::Tx;
use crate::store::rules;
use crate::store::{AttemptRecord, Cas, LiveAttempt, LostAttempt, StoreResult};

pub(super) async fn records(store: &SqlStore, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
    let found = sqlx::query(
        "SELECT number, agent, assigned_at, ended_at, outcome, failure, tests_before, tests_after \
         FROM attempts WHERE task = $1 ORDER BY number",
    )
    .bind(task.to_string())
    .fetch_all(&store.readers)
    .await?;
    found.iter().map(rows::attempt).collect()
}

fn work(row: &AnyRow) -> StoreResult<Work> {
    Ok(Work {
        task: word(row, "task")?,
        attempt: AttemptNumber(number(row, "number")?),
    })
}

pub(super) async fn live(store: &SqlStore, agent: &AgentId) -> StoreResult<Vec<LiveAttempt>> {
    let found = sqlx::query(
        "SELECT a.task, a.number, a.last_seq, t.state FROM attempts a JOIN tasks t ON t.id = a.task \
         WHERE a.agent = $1 AND a.ended_at IS NULL ORDER BY a.assigned_at, a.task",
    )
    .bind(agent.as_str())
    .fetch_all(&store.readers)
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
    store: &SqlStore,
    agent: &AgentId,
    lease: Duration,
) -> StoreResult<Vec<Work>> {
    let mut tx = Tx::begin(store).await?;
    let lease_until = tx
        .now
        .saturating_add(i64::try_from(lease.as_micros()).unwrap_or(i64::MAX));
    let found = sqlx::query(
        "UPDATE attempts SET lease_until = $1 WHERE agent = $2 AND ended_at IS NULL RETURNING task, number",
    )
    .bind(lease_until)
    .bind(agent.as_str())
    .fetch_all(&mut *tx.sql)
    .await?;
    tx.commit().await?;
    found.iter().map(work).collect()
}

/// Ends a task's live attempt with a word, and with the failure that was its own.
pub(super) async fn end_attempt(
    tx: &mut Tx<'_>,
    task: &Task,
    (outcome, failure): (&str, Option<&Failure>),
) -> StoreResult<()> {
    let now = tx.now;
    let failure = to_json_or_none(failure)?;
    sqlx::query(
        "UPDATE attempts SET ended_at = $1, outcome = $2, failure = $3 \
         WHERE task = $4 AND number = $5 AND ended_at IS NULL",
    )
    .bind(now)
    .bind(outcome)
    .bind(failure)
    .bind(task.id.to_string())
    .bind(i64::from(task.attempt.0))
    .execute(&mut *tx.sql)
    .await?;
    Ok(())
}

pub(super) async fn lose(store: &SqlStore, work: Work, why: &str) -> StoreResult<Cas<TaskState>> {
    let mut tx = Tx::begin(store).await?;
    let lost = lose_locked(&mut tx, work, why).await?;
    tx.commit().await?;
    Ok(lost)
}

async fn lose_locked(tx: &mut Tx<'_>, work: Work, why: &str) -> StoreResult<Cas<TaskState>> {
    let Some(locked) = tx.lock(work.task).await? else {
        return Ok(Cas::Stale);
    };
    let mut task = locked.task;
    if task.attempt != work.attempt || !task.state.has_live_attempt() {
        return Ok(Cas::Stale);
    }
    if task.state != TaskState::Assigned {
        task.failures += 1;
    }
    let course = rules::after_loss(task.state, task.failures, task.max_attempts);
    let last = course.states.last() == Some(&TaskState::Failed);
    let failure = last.then(|| rules::lost(why, task.failures));
    end_attempt(tx, &task, ("lost", failure.as_ref())).await?;
    task.failure = failure.or(task.failure);
    tx.follow(
        &mut task,
        &course,
        ("coordinator", &format!("the agent was lost: {why}")),
    )
    .await?;
    Ok(Cas::Applied(task.state))
}

pub(super) async fn expire(store: &SqlStore) -> StoreResult<Vec<LostAttempt>> {
    let now: i64 = sqlx::query_scalar(store.dialect.now())
        .fetch_one(&store.readers)
        .await?;
    let found = sqlx::query(
        "SELECT task, number, agent FROM attempts WHERE ended_at IS NULL AND lease_until <= $1 LIMIT 100",
    )
    .bind(now)
    .fetch_all(&store.readers)
    .await?;
    let mut lost = Vec::new();
    for row in &found {
        let (work, agent) = (work(row)?, word(row, "agent")?);
        if let Cas::Applied(state) = expire_one(store, work).await? {
            lost.push(LostAttempt {
                work,
                agent,
                now: state,
            });
        }
    }
    Ok(lost)
}

/// Ends one attempt if its lease is still over: it may have been renewed since it was found.
async fn expire_one(store: &SqlStore, work: Work) -> StoreResult<Cas<TaskState>> {
    let mut tx = Tx::begin(store).await?;
    // The task first, as every writer does, so that two never wait for each other.
    if tx.lock(work.task).await?.is_none() {
        return Ok(Cas::Stale);
    }
    let now = tx.now;
    let over: i64 = sqlx::query_scalar(
        "SELECT COUNT(*) FROM attempts WHERE task = $1 AND number = $2 AND ended_at IS NULL AND lease_until <= $3",
    )
    .bind(work.task.to_string())
    .bind(i64::from(work.attempt.0))
    .bind(now)
    .fetch_one(&mut *tx.sql)
    .await?;
    if over == 0 {
        return Ok(Cas::Stale);
    }
    let lost = lose_locked(&mut tx, work, "its lease ran out").await?;
    tx.commit().await?;
    Ok(lost)
}

/// Whether a report is the attempt's next, was applied before, or comes too late.
pub(super) enum Turn {
    /// The attempt is live and has not applied this number.
    Next,
    /// It was applied before.
    Repeated,
    /// The attempt is over.
    Late,
}

/// Takes a report's turn: remembers its number with everything the transaction does.
pub(super) async fn take_turn(tx: &mut Tx<'_>, work: Work, seq: u64) -> StoreResult<Turn> {
    let row =
        sqlx::query("SELECT last_seq, ended_at FROM attempts WHERE task = $1 AND number = $2")
            .bind(work.task.to_string())
            .bind(i64::from(work.attempt.0))
            .fetch_optional(&mut *tx.sql)
            .await?;
    let Some(row) = row else {
        return Ok(Turn::Late);
    };
    let seq = i64::try_from(seq).unwrap_or(i64::MAX);
    if seq <= row.try_get::<i64, _>("last_seq")? {
        return Ok(Turn::Repeated);
    }
    if row.try_get::<Option<i64>, _>("ended_at")?.is_some() {
        return Ok(Turn::Late);
    }
    sqlx::query("UPDATE attempts SET last_seq = $1 WHERE task = $2 AND number = $3")
        .bind(seq)
        .bind(work.task.to_string())
        .bind(i64::from(work.attempt.0))
        .execute(&mut *tx.sql)
        .await?;
    Ok(Turn::Next)
}
