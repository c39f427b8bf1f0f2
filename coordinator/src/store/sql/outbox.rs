//! The outbox: what has to be written to GitHub, in order per issue.

use std::time::Duration;

use patchfleet_domain::{IssueNumber, TaskId, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::rows::{json_present, moment, number, word};
use super::rowset::{big, plain};
use super::unit::Unit;
use super::unreadable::OUTBOX;
use super::{Database, micros};
use crate::store::{Effect, OutboxEntry, Sent, SentStatus, StoreError, StoreResult};

/// How often the hold of an entry doubles.
const LONGER: u32 = 3;
/// How often an entry that can't be decoded is tried, and how long after each time: for an hour, so
/// that an upgrade of replicas one after the other costs nothing.
const TRIES: i64 = 60;
const PUT_OFF: Duration = Duration::from_mins(1);

pub(super) async fn take(
    database: &Database,
    limit: u32,
    (hold, lull): (Duration, Duration),
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
             AND NOT EXISTS (SELECT 1 FROM tasks t WHERE t.id = o.task AND t.created_at > $3 \
             AND t.state IN ('pending', 'analyzing', 'queued', 'assigned')) \
         ORDER BY id LIMIT {limit}{}",
        unit.dialect.lock_free()
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(micros_now)
        .bind(micros_now)
        .bind(micros_now.saturating_sub(micros(lull)))
        .fetch_all(unit.sql().await?)
        .await?;
    let mut entries = Vec::with_capacity(found.len());
    for row in &found {
        match entry(row, now, hold) {
            Ok(entry) => {
                mark_taken(&mut unit, &entry, micros_now).await?;
                entries.push(entry);
            }
            Err(error) => put_off(&mut unit, row.try_get("id")?, &error).await?,
        }
    }
    unit.commit().await?;
    Ok(entries)
}

fn entry(row: &AnyRow, now: Timestamp, hold: Duration) -> StoreResult<OutboxEntry> {
    let tries = number::<u32>(row, "tries")?;
    // Whoever took it before and said nothing since has died, which says nothing of the entry.
    let is_slow = row.try_get::<i64, _>("held_until")? == 0;
    let doublings = if is_slow { tries.min(LONGER) } else { 0 };
    let first: Option<i64> = row.try_get("first_taken_at")?;
    let first = first.map_or(Ok(now), moment)?;
    Ok(OutboxEntry {
        id: row.try_get("id")?,
        repository: word(row, "repository")?,
        issue: IssueNumber(number(row, "issue")?),
        effect: json_present(row, "effect")?,
        tries: tries.saturating_add(1),
        first_tried_at: first,
        trying_for: (now - first).to_std().unwrap_or_default(),
        hold: hold.saturating_mul(2_u32.pow(doublings)),
    })
}

async fn mark_taken(unit: &mut Unit<'_>, entry: &OutboxEntry, now: i64) -> StoreResult<()> {
    sqlx::query(
        "UPDATE outbox SET taken_at = $1, held_until = $2, first_taken_at = $3, \
         tries = tries + 1 WHERE id = $4",
    )
    .bind(now)
    .bind(now.saturating_add(micros(entry.hold)))
    .bind(entry.first_tried_at.timestamp_micros())
    .bind(entry.id)
    .execute(unit.sql().await?)
    .await?;
    Ok(())
}

/// Tries an entry later that can't be decoded: another replica may be a version that knows what
/// it says. After [`TRIES`] it is over, its reason stays in its row, and those of its issue that
/// come after it have their turn.
async fn put_off(unit: &mut Unit<'_>, id: i64, error: &StoreError) -> StoreResult<()> {
    unit.database().skip(OUTBOX, &id.to_string(), error);
    let now = unit.now().await?.timestamp_micros();
    sqlx::query(
        "UPDATE outbox SET tries = tries + 1, taken_at = $1, next_at = $2, held_until = 0, \
         error = $3, done_at = CASE WHEN tries + 1 >= $4 THEN $5 END WHERE id = $6",
    )
    .bind(now)
    .bind(now.saturating_add(micros(PUT_OFF)))
    .bind(plain(&error.to_string()))
    .bind(TRIES)
    .bind(now)
    .bind(id)
    .execute(unit.sql().await?)
    .await?;
    Ok(())
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
        Sent::Status(status) => {
            end(&mut unit, entry, None).await?;
            if let Effect::Status { task } = &entry.effect {
                remember_status(&mut unit, *task, status).await?;
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

async fn remember_status(
    unit: &mut Unit<'_>,
    task: TaskId,
    status: &SentStatus,
) -> StoreResult<()> {
    sqlx::query(
        "UPDATE tasks SET status_comment = COALESCE($1, status_comment), status_label = $2 \
         WHERE id = $3",
    )
    .bind(status.comment.map(big))
    .bind(status.label.as_deref())
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

pub(super) async fn sent_status(database: &Database, task: TaskId) -> StoreResult<SentStatus> {
    let row = sqlx::query("SELECT status_comment, status_label FROM tasks WHERE id = $1")
        .bind(task.to_string())
        .fetch_optional(&database.readers)
        .await?;
    let Some(row) = row else {
        return Ok(SentStatus::default());
    };
    let comment: Option<i64> = row.try_get("status_comment")?;
    Ok(SentStatus {
        comment: comment.and_then(|id| u64::try_from(id).ok()),
        label: row.try_get("status_label")?,
    })
}
