//! The outbox: what has to be written to GitHub, in order per issue.

use std::time::Duration;

use patchfleet_domain::{IssueNumber, TaskId};
use sqlx::Row as _;

use super::rows::{json_present, moment, number, word};
use super::rowset::{big, plain};
use super::unit::Unit;
use super::{Database, micros};
use crate::store::{Effect, OutboxEntry, Sent, StoreResult};

/// How often the hold of an entry doubles.
const LONGER: u32 = 3;

pub(super) async fn take(
    database: &Database,
    limit: u32,
    hold: Duration,
) -> StoreResult<Vec<OutboxEntry>> {
    let mut unit = Unit::of(database);
    let now = unit.now().await?;
    let micros_now = now.timestamp_micros();
    // The first unsent entry of each issue; the later ones wait for it.
    let text = format!(
        "SELECT id, repository, issue, effect, tries, first_taken_at, held_until FROM outbox o \
         WHERE done_at IS NULL AND next_at <= $1 AND held_until <= $2 AND NOT EXISTS (\
             SELECT 1 FROM outbox e WHERE e.repository = o.repository AND e.issue = o.issue \
             AND e.done_at IS NULL AND e.id < o.id) \
         ORDER BY id LIMIT {limit}{}",
        unit.dialect.lock_free()
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(micros_now)
        .bind(micros_now)
        .fetch_all(unit.sql().await?)
        .await?;
    let mut entries = Vec::with_capacity(found.len());
    for row in &found {
        let id: i64 = row.try_get("id")?;
        let tries = number::<u32>(row, "tries")?;
        // Whoever took it before and said nothing since has died, which says nothing of the entry.
        let is_slow = row.try_get::<i64, _>("held_until")? == 0;
        let doublings = if is_slow { tries.min(LONGER) } else { 0 };
        let hold = hold.saturating_mul(2_u32.pow(doublings));
        let first: Option<i64> = row.try_get("first_taken_at")?;
        let first = first.map_or(Ok(now), moment)?;
        sqlx::query(
            "UPDATE outbox SET taken_at = $1, held_until = $2, first_taken_at = $3, \
             tries = tries + 1 WHERE id = $4",
        )
        .bind(micros_now)
        .bind(micros_now.saturating_add(micros(hold)))
        .bind(first.timestamp_micros())
        .bind(id)
        .execute(unit.sql().await?)
        .await?;
        entries.push(OutboxEntry {
            id,
            repository: word(row, "repository")?,
            issue: IssueNumber(number(row, "issue")?),
            effect: json_present(row, "effect")?,
            tries: tries.saturating_add(1),
            first_tried_at: first,
            trying_for: (now - first).to_std().unwrap_or_default(),
            hold,
        });
    }
    unit.commit().await?;
    Ok(entries)
}

pub(super) async fn settle(
    database: &Database,
    entry: &OutboxEntry,
    sent: &Sent,
) -> StoreResult<()> {
    let mut unit = Unit::of(database);
    match sent {
        Sent::Done { comment } => {
            end(&mut unit, entry, None).await?;
            if let (Effect::Status { task }, Some(comment)) = (&entry.effect, comment) {
                remember_comment(&mut unit, *task, *comment).await?;
            }
        }
        Sent::Dropped { error } => {
            end(&mut unit, entry, Some(error)).await?;
            if let Effect::Status { task } = &entry.effect {
                note_dropped(&mut unit, *task, error).await?;
            }
        }
        Sent::Again { after, error } => {
            let next = unit
                .now()
                .await?
                .timestamp_micros()
                .saturating_add(micros(*after));
            sqlx::query("UPDATE outbox SET next_at = $1, held_until = 0, error = $2 WHERE id = $3 AND done_at IS NULL")
                .bind(next)
                .bind(error.as_str())
                .bind(entry.id)
                .execute(unit.sql().await?)
                .await?;
        }
    }
    unit.wake();
    unit.commit().await
}

async fn end(unit: &mut Unit<'_>, entry: &OutboxEntry, error: Option<&String>) -> StoreResult<()> {
    let now = unit.now().await?.timestamp_micros();
    sqlx::query("UPDATE outbox SET done_at = $1, error = $2 WHERE id = $3 AND done_at IS NULL")
        .bind(now)
        .bind(error.map(String::as_str))
        .bind(entry.id)
        .execute(unit.sql().await?)
        .await?;
    Ok(())
}

/// Says in the task's history what the issue was not told.
async fn note_dropped(unit: &mut Unit<'_>, task: TaskId, error: &str) -> StoreResult<()> {
    let now = unit.now().await?.timestamp_micros();
    sqlx::query(
        "INSERT INTO task_events (task, attempt, at, kind, actor, detail) \
         SELECT id, attempt, $1, 'note', 'coordinator', $2 FROM tasks WHERE id = $3",
    )
    .bind(now)
    .bind(plain(&format!("the issue was not told: {error}")))
    .bind(task.to_string())
    .execute(unit.sql().await?)
    .await?;
    Ok(())
}

async fn remember_comment(unit: &mut Unit<'_>, task: TaskId, comment: u64) -> StoreResult<()> {
    sqlx::query("UPDATE tasks SET status_comment = $1 WHERE id = $2")
        .bind(big(comment))
        .bind(task.to_string())
        .execute(unit.sql().await?)
        .await?;
    Ok(())
}

pub(super) async fn pending(database: &Database) -> StoreResult<u64> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM outbox WHERE done_at IS NULL")
        .fetch_one(&database.readers)
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

pub(super) async fn status_comment(database: &Database, task: TaskId) -> StoreResult<Option<u64>> {
    let comment: Option<Option<i64>> =
        sqlx::query_scalar("SELECT status_comment FROM tasks WHERE id = $1")
            .bind(task.to_string())
            .fetch_optional(&database.readers)
            .await?;
    Ok(comment.flatten().and_then(|id| u64::try_from(id).ok()))
}
