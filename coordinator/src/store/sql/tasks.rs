//! Tasks: reading them, and what people and the analysis do to them.

use patchfleet_domain::{RepositoryName, Task, TaskAnalysis, TaskId, TaskState};
use sqlx::Row as _;

use super::SqlStore;
use super::attempts::end_attempt;
use super::claims::discard_checkpoints;
use super::rows::{self, word};
use super::transaction::Tx;
use crate::store::rules::Course;
use crate::store::{Cas, Commanded, StoreResult, TaskEvent, TaskFilter};

pub(super) async fn by_id(store: &SqlStore, id: TaskId) -> StoreResult<Option<Task>> {
    let text = format!("SELECT {} FROM tasks WHERE id = $1", rows::TASK);
    let row = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(id.to_string())
        .fetch_optional(&store.readers)
        .await?;
    row.map(|row| rows::task(&row)).transpose()
}

/// The filter's words go into the text only as fixed names; what users give is bound.
pub(super) async fn list(store: &SqlStore, filter: &TaskFilter) -> StoreResult<Vec<Task>> {
    let limit = match filter.limit {
        0 => 50,
        limit => limit.min(500),
    };
    let states = filter
        .states
        .iter()
        .map(|state| format!("'{state}'"))
        .collect::<Vec<_>>()
        .join(", ");
    let states = if states.is_empty() {
        "1 = 1".to_owned()
    } else {
        format!("state IN ({states})")
    };
    let text = format!(
        "SELECT {} FROM tasks WHERE {states} AND ($1 = '' OR repository = $2) AND ($3 < 0 OR issue = $4) \
         AND ($5 = '' OR id < $6) ORDER BY id DESC LIMIT {limit}",
        rows::TASK
    );
    let repository = filter
        .repository
        .as_ref()
        .map_or("", RepositoryName::as_str);
    let issue = filter
        .issue
        .and_then(|issue| i64::try_from(issue.0).ok())
        .unwrap_or(-1);
    let before = filter.before.map(|id| id.to_string()).unwrap_or_default();
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(repository)
        .bind(repository)
        .bind(issue)
        .bind(issue)
        .bind(before.as_str())
        .bind(before.as_str())
        .fetch_all(&store.readers)
        .await?;
    found.iter().map(rows::task).collect()
}

pub(super) async fn history(
    store: &SqlStore,
    task: TaskId,
    after: i64,
) -> StoreResult<Vec<TaskEvent>> {
    let found = sqlx::query(
        "SELECT id, task, attempt, at, kind, from_state, to_state, actor, detail FROM task_events \
         WHERE task = $1 AND id > $2 ORDER BY id",
    )
    .bind(task.to_string())
    .bind(after)
    .fetch_all(&store.readers)
    .await?;
    found.iter().map(rows::event).collect()
}

pub(super) async fn logs(store: &SqlStore, task: TaskId) -> StoreResult<Vec<String>> {
    let found = sqlx::query(
        "SELECT line FROM task_logs WHERE task = $1 \
         AND attempt = (SELECT attempt FROM tasks WHERE id = $2) ORDER BY id",
    )
    .bind(task.to_string())
    .bind(task.to_string())
    .fetch_all(&store.readers)
    .await?;
    found.iter().map(|row| Ok(row.try_get("line")?)).collect()
}

pub(super) async fn cancel(store: &SqlStore, task: TaskId, actor: &str) -> StoreResult<Commanded> {
    let mut tx = Tx::begin(store).await?;
    let done = cancel_locked(&mut tx, task, actor).await?;
    tx.commit().await?;
    Ok(done)
}

/// Calls a task off within a transaction; its live attempt ends with it.
pub(super) async fn cancel_locked(
    tx: &mut Tx<'_>,
    id: TaskId,
    actor: &str,
) -> StoreResult<Commanded> {
    let Some(locked) = tx.lock(id).await? else {
        return Ok(Commanded::NotFound);
    };
    let mut task = locked.task;
    if task.state.transition(TaskState::Cancelled).is_err() {
        return Ok(Commanded::NotAllowed(task.state));
    }
    if task.state.has_live_attempt() {
        end_attempt(tx, &task, ("cancelled", None)).await?;
    }
    let course = Course::through(&[TaskState::Cancelled]);
    tx.follow(&mut task, &course, (actor, "cancelled")).await?;
    Ok(Commanded::Done(task.state))
}

pub(super) async fn retry(store: &SqlStore, task: TaskId, actor: &str) -> StoreResult<Commanded> {
    let mut tx = Tx::begin(store).await?;
    let done = retry_locked(&mut tx, task, actor).await?;
    tx.commit().await?;
    Ok(done)
}

/// Puts a failed task back within a transaction, unless its issue has another active one.
pub(super) async fn retry_locked(
    tx: &mut Tx<'_>,
    id: TaskId,
    actor: &str,
) -> StoreResult<Commanded> {
    let Some(locked) = tx.lock(id).await? else {
        return Ok(Commanded::NotFound);
    };
    let mut task = locked.task;
    if task.state != TaskState::Failed {
        return Ok(Commanded::NotAllowed(task.state));
    }
    tx.lock_issue(&task.repository, task.issue).await?;
    if let Some(other) = active_beside(tx, &task).await? {
        return Ok(Commanded::Conflict(other));
    }
    task.failures = 0;
    if task.failure.take().is_some_and(|it| it.discard_checkpoints) {
        discard_checkpoints(tx, &task).await?;
    }
    // If there was a pull request, its end is what failed; the next attempt opens its own.
    task.pull_request = None;
    sqlx::query("UPDATE tasks SET pull_closed = NULL, pull_closed_number = NULL WHERE id = $1")
        .bind(id.to_string())
        .execute(&mut *tx.sql)
        .await?;
    let course = Course::through(&[TaskState::Queued]);
    tx.follow(&mut task, &course, (actor, "retried")).await?;
    Ok(Commanded::Done(task.state))
}

async fn active_beside(tx: &mut Tx<'_>, task: &Task) -> StoreResult<Option<TaskId>> {
    let Some(issue) = task.issue else {
        return Ok(None);
    };
    let row = sqlx::query(
        "SELECT id FROM tasks WHERE repository = $1 AND issue = $2 \
         AND state NOT IN ('completed', 'failed', 'cancelled')",
    )
    .bind(task.repository.as_str())
    .bind(i64::try_from(issue.0).unwrap_or(i64::MAX))
    .fetch_optional(&mut *tx.sql)
    .await?;
    row.map(|row| word(&row, "id")).transpose()
}

pub(super) async fn unanalyzed(store: &SqlStore, limit: u32) -> StoreResult<Vec<Task>> {
    let text = format!(
        "SELECT {} FROM tasks WHERE state IN ('pending', 'analyzing') ORDER BY id LIMIT {limit}",
        rows::TASK
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(&store.readers)
        .await?;
    found.iter().map(rows::task).collect()
}

pub(super) async fn analyzed(
    store: &SqlStore,
    id: TaskId,
    analysis: &TaskAnalysis,
) -> StoreResult<Cas> {
    let mut tx = Tx::begin(store).await?;
    let Some(locked) = tx.lock(id).await? else {
        return Ok(Cas::Stale);
    };
    let mut task = locked.task;
    let states = match task.state {
        TaskState::Pending => vec![TaskState::Analyzing, TaskState::Queued],
        TaskState::Analyzing => vec![TaskState::Queued],
        _ => return Ok(Cas::Stale),
    };
    task.priority = analysis.priority;
    task.analysis = Some(analysis.clone());
    let course = Course {
        states,
        pause: std::time::Duration::ZERO,
    };
    let detail = analysis.reasons.join("; ");
    tx.follow(&mut task, &course, ("coordinator", &detail))
        .await?;
    tx.commit().await?;
    Ok(Cas::Applied(()))
}
