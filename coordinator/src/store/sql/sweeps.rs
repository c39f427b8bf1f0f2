//! What comparing GitHub with the tasks needs to know.

use std::time::Duration;

use patchfleet_domain::{RepositoryName, Task, Timestamp};

use super::rows::{self, word};
use super::unreadable::{SWEEPS, TASKS, TRIGGERS, one};
use super::{Database, micros};
use crate::store::StoreResult;

/// True for one replica at a time.
pub(super) async fn claim(database: &Database, every: Duration) -> StoreResult<bool> {
    let now = database.now().await?;
    let claimed = sqlx::query(
        "INSERT INTO sweeps (name, began_at) VALUES ('github', $1) \
         ON CONFLICT (name) DO UPDATE SET began_at = excluded.began_at \
         WHERE sweeps.began_at <= $2",
    )
    .bind(now)
    .bind(now.saturating_sub(micros(every)))
    .execute(&database.pool)
    .await?;
    Ok(claimed.rows_affected() == 1)
}

pub(super) async fn until(database: &Database, part: &str) -> StoreResult<Option<Timestamp>> {
    let at: Option<i64> = sqlx::query_scalar("SELECT began_at FROM sweeps WHERE name = $1")
        .bind(part)
        .fetch_optional(&database.readers)
        .await?;
    at.map(|at| one(SWEEPS, part, rows::moment(at))).transpose()
}

pub(super) async fn set_until(database: &Database, part: &str, at: Timestamp) -> StoreResult<()> {
    sqlx::query(
        "INSERT INTO sweeps (name, began_at) VALUES ($1, $2) \
         ON CONFLICT (name) DO UPDATE SET began_at = excluded.began_at",
    )
    .bind(part)
    .bind(at.timestamp_micros())
    .execute(&database.pool)
    .await?;
    Ok(())
}

/// From name to name by the index, however many tasks each of them has.
pub(super) async fn repositories(database: &Database) -> StoreResult<Vec<RepositoryName>> {
    let found = sqlx::query(
        "WITH RECURSIVE known (name) AS (\
            SELECT MIN(repository) FROM task_triggers UNION ALL \
            SELECT (SELECT MIN(repository) FROM task_triggers WHERE repository > known.name) \
            FROM known WHERE known.name IS NOT NULL) \
         SELECT name FROM known WHERE name IS NOT NULL",
    )
    .fetch_all(&database.readers)
    .await?;
    Ok(database.readable(TRIGGERS, &found, |row| word(row, "name")))
}

/// By the index that holds an issue to one active task.
pub(super) async fn active(
    database: &Database,
    repository: &RepositoryName,
) -> StoreResult<Vec<Task>> {
    let text = format!(
        "SELECT {} FROM tasks WHERE repository = $1 AND issue IS NOT NULL \
         AND state NOT IN ('completed', 'failed', 'cancelled') ORDER BY issue",
        rows::TASK
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(repository.as_str())
        .fetch_all(&database.readers)
        .await?;
    Ok(database.readable(TASKS, &found, rows::task))
}

/// By the index of pull requests.
pub(super) async fn closed_pulls(
    database: &Database,
    repository: &RepositoryName,
    since: Timestamp,
) -> StoreResult<Vec<Task>> {
    let text = format!(
        "SELECT {} FROM tasks WHERE repository = $1 AND pull_number IS NOT NULL \
         AND state = 'failed' AND failure LIKE '%\"kind\":\"pull_request_closed\"%' \
         AND updated_at >= $2 ORDER BY updated_at DESC LIMIT 100",
        rows::TASK
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(repository.as_str())
        .bind(since.timestamp_micros())
        .fetch_all(&database.readers)
        .await?;
    Ok(database.readable(TASKS, &found, rows::task))
}
