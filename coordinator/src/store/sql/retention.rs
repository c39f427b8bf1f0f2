//! What is over for long is removed, a little at a time.
//!
//! Nothing needs an index for that but deliveries: ids of tasks and of entries grow with time, so
//! the oldest are at the beginning, and few of those are still wanted. Any number of replicas may
//! do it at once: each takes what no other has. Triggers stay for good, a hundred bytes each: the
//! issue of a removed task may be open and labelled still, and nobody has asked for it again.

use std::time::Duration;

use patchfleet_domain::TaskState;
use sqlx::Row as _;
use sqlx::any::AnyRow;
use uuid::{NoContext, Timestamp, Uuid};

use super::rows::{self, to_json};
use super::unit::Unit;
use super::{Database, dependencies, micros, spending};
use crate::store::{Retention, Retired, StoreResult};

/// Most of each sort in one transaction.
const MOST: usize = 200;

/// Where all that belongs to a task is, and by which column.
const BESIDE: [(&str, &str); 10] = [
    ("attempts", "task"),
    ("checkpoints", "task"),
    ("task_events", "task"),
    ("task_logs", "task"),
    ("task_dependencies", "task"),
    ("task_dependencies", "depends_on"),
    ("follow_ups", "task"),
    ("model_calls", "task"),
    ("spending", "name"),
    ("issue_dependencies", "task"),
];

pub(super) async fn retire(database: &Database, retention: Retention) -> StoreResult<Retired> {
    let mut late = Unit::of(database);
    dependencies::release_late(&mut late).await?;
    late.commit().await?;
    let mut unit = Unit::of(database);
    let retired = Retired {
        entries: retire_entries(&mut unit, retention.tasks).await?,
        tasks: retire_tasks(&mut unit, retention.tasks).await?,
        deliveries: retire_deliveries(&mut unit, retention.deliveries).await?
            + retire_given_up(&mut unit, retention.deliveries).await?,
    };
    let oldest = before(&mut unit, retention.tasks).await?;
    spending::forget_before(&mut unit, rows::moment(oldest)?).await?;
    unit.commit().await?;
    Ok(retired)
}

async fn before(unit: &mut Unit<'_>, age: Duration) -> StoreResult<i64> {
    let now = unit.now().await?.timestamp_micros();
    Ok(now.saturating_sub(micros(age)).max(0))
}

/// Less than every id that was made since.
fn id_of(moment: i64) -> String {
    let micros = u64::try_from(moment).unwrap_or_default();
    let nanos = u32::try_from(micros % 1_000_000).unwrap_or_default() * 1000;
    let timestamp = Timestamp::from_unix(NoContext, micros / 1_000_000, nanos);
    let id = Uuid::new_v7(timestamp).to_string();
    // What follows the time is chance.
    format!("{}0000-0000-000000000000", &id[..14])
}

async fn retire_tasks(unit: &mut Unit<'_>, age: Duration) -> StoreResult<usize> {
    let over: Vec<_> = TaskState::ALL
        .iter()
        .filter(|state| !state.is_active())
        .map(|state| format!("'{state}'"))
        .collect();
    let text = format!(
        "SELECT id FROM tasks WHERE id < $1 AND updated_at < $2 AND state IN ({}) \
         AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.done_at IS NULL \
            AND o.repository = tasks.repository AND o.issue = tasks.issue) \
         ORDER BY id LIMIT {MOST}{}",
        over.join(", "),
        unit.dialect.lock_free()
    );
    let moment = before(unit, age).await?;
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(id_of(moment))
        .bind(moment)
        .fetch_all(unit.sql().await?)
        .await?;
    // As they are kept: what can't be decoded goes like everything else.
    let tasks: Vec<String> = found
        .iter()
        .map(|row| Ok(row.try_get("id")?))
        .collect::<StoreResult<_>>()?;
    if tasks.is_empty() {
        return Ok(0);
    }
    let tasks_json = to_json(&tasks)?;
    let among = unit.dialect.among();
    let beside =
        BESIDE.map(|(table, column)| format!("DELETE FROM {table} WHERE {column} {among}"));
    let own = format!("DELETE FROM tasks WHERE id {among}");
    for text in beside.into_iter().chain([own]) {
        sqlx::query(sqlx::AssertSqlSafe(text))
            .bind(tasks_json.as_str())
            .execute(unit.sql().await?)
            .await?;
    }
    Ok(tasks.len())
}

async fn retire_entries(unit: &mut Unit<'_>, age: Duration) -> StoreResult<usize> {
    let text = format!(
        "DELETE FROM outbox WHERE id IN (\
            SELECT id FROM outbox WHERE done_at < $1 ORDER BY id LIMIT {MOST}{}) RETURNING id",
        unit.dialect.lock_free()
    );
    retired(unit, text, age).await
}

async fn retire_deliveries(unit: &mut Unit<'_>, age: Duration) -> StoreResult<usize> {
    let text = format!(
        "DELETE FROM deliveries WHERE id IN (\
            SELECT id FROM deliveries WHERE received_at < $1 ORDER BY received_at LIMIT {MOST}{}) \
         RETURNING id",
        unit.dialect.lock_free()
    );
    retired(unit, text, age).await
}

/// Deferred deliveries that were given up; those that wait stay, however old.
async fn retire_given_up(unit: &mut Unit<'_>, age: Duration) -> StoreResult<usize> {
    let text = format!(
        "DELETE FROM deferred_deliveries WHERE id IN (\
            SELECT id FROM deferred_deliveries WHERE given_up_at < $1 ORDER BY id LIMIT {MOST}{}) \
         RETURNING id",
        unit.dialect.lock_free()
    );
    retired(unit, text, age).await
}

async fn retired(unit: &mut Unit<'_>, text: String, age: Duration) -> StoreResult<usize> {
    let found: Vec<AnyRow> = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(before(unit, age).await?)
        .fetch_all(unit.sql().await?)
        .await?;
    Ok(found.len())
}
