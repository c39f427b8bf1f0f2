//! Tasks: reading them, and what people and the analysis do to them.

use std::collections::BTreeSet;

use patchfleet_domain::{IssueNumber, RepositoryName, Task, TaskAnalysis, TaskId, TaskState};
use sqlx::Row as _;

use super::rows::{self, word};
use super::rowset::big;
use super::unit::{Busy, Unit};
use super::{Database, dependencies};
use crate::store::{
    Cas, Commanded, HISTORY_PAGE, LastTrigger, SemanticKey, StoreResult, TaskEvent, TaskFilter,
};

/// Lines of one attempt that are read at the most; an older version kept all there were.
const NEWEST_LINES: i64 = 20_000;

pub(super) async fn by_id(database: &Database, id: TaskId) -> StoreResult<Option<Task>> {
    let text = format!("SELECT {} FROM tasks WHERE id = $1", rows::TASK);
    let row = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(id.to_string())
        .fetch_optional(&database.readers)
        .await?;
    row.map(|row| rows::task(&row)).transpose()
}

/// The filter's words go into the text only as fixed names; what users give is bound.
pub(super) async fn list(database: &Database, filter: &TaskFilter) -> StoreResult<Vec<Task>> {
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
    // By the index that there is for what is asked, newest first.
    let (source, id) = match (&filter.repository, filter.issue) {
        (Some(_), Some(_)) => (triggered("issue = $2 AND issue = $3"), "task"),
        (Some(_), None) => (triggered("$2 = $3"), "task"),
        (None, _) => (
            "tasks WHERE $1 = '' AND ($2 < 0 OR issue = $3)".to_owned(),
            "id",
        ),
    };
    let older = match filter.before {
        Some(_) => format!("{id} < $4"),
        None => "1 = 1".to_owned(),
    };
    let text = format!(
        "SELECT {} FROM {source} AND {states} AND {older} ORDER BY {id} DESC LIMIT {limit}",
        rows::TASK
    );
    let repository = filter
        .repository
        .as_ref()
        .map_or("", RepositoryName::as_str);
    let issue = filter.issue.map_or(-1, |issue| big(issue.0));
    let mut query = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(repository)
        .bind(issue)
        .bind(issue);
    if let Some(before) = filter.before {
        query = query.bind(before.to_string());
    }
    let found = query.fetch_all(&database.readers).await?;
    found.iter().map(rows::task).collect()
}

/// The tasks of repository `$1` that are as wanted.
fn triggered(wanted: &str) -> String {
    format!(
        "(SELECT task FROM task_triggers WHERE repository = $1 AND {wanted}) AS of \
         JOIN tasks ON id = task WHERE 1 = 1"
    )
}

pub(super) async fn history(
    database: &Database,
    task: TaskId,
    after: i64,
) -> StoreResult<Vec<TaskEvent>> {
    let found = sqlx::query(
        "SELECT id, task, attempt, at, kind, from_state, to_state, actor, detail FROM task_events \
         WHERE task = $1 AND id > $2 ORDER BY id LIMIT $3",
    )
    .bind(task.to_string())
    .bind(after)
    .bind(i64::from(HISTORY_PAGE))
    .fetch_all(&database.readers)
    .await?;
    found.iter().map(rows::event).collect()
}

pub(super) async fn newest_history(
    database: &Database,
    task: TaskId,
    limit: u32,
) -> StoreResult<Vec<TaskEvent>> {
    let found = sqlx::query(
        "SELECT id, task, attempt, at, kind, from_state, to_state, actor, detail FROM task_events \
         WHERE task = $1 ORDER BY id DESC LIMIT $2",
    )
    .bind(task.to_string())
    .bind(i64::from(limit))
    .fetch_all(&database.readers)
    .await?;
    found.iter().rev().map(rows::event).collect()
}

pub(super) async fn logs(database: &Database, task: TaskId) -> StoreResult<Vec<String>> {
    let found = sqlx::query(
        "SELECT line FROM task_logs WHERE task = $1 \
         AND attempt = (SELECT attempt FROM tasks WHERE id = $2) ORDER BY id DESC LIMIT $3",
    )
    .bind(task.to_string())
    .bind(task.to_string())
    .bind(NEWEST_LINES)
    .fetch_all(&database.readers)
    .await?;
    found
        .iter()
        .rev()
        .map(|row| Ok(row.try_get("line")?))
        .collect()
}

pub(super) async fn cancel(
    database: &Database,
    task: TaskId,
    actor: &str,
) -> StoreResult<Commanded> {
    let mut unit = Unit::of(database);
    let done = cancel_in(&mut unit, task, actor).await?;
    unit.commit().await?;
    Ok(done)
}

/// Calls a task off within a transaction.
pub(super) async fn cancel_in(
    unit: &mut Unit<'_>,
    task: TaskId,
    actor: &str,
) -> StoreResult<Commanded> {
    match unit.one(task).await? {
        Some(held) => held.cancel(actor),
        None => Ok(Commanded::NotFound),
    }
}

pub(super) async fn retry(
    database: &Database,
    task: TaskId,
    actor: &str,
) -> StoreResult<Commanded> {
    let mut unit = Unit::of(database);
    let done = retry_in(&mut unit, task, actor).await?;
    unit.commit().await?;
    Ok(done)
}

/// Puts a failed task back within a transaction, unless its issue has another active one. One
/// that becomes active meanwhile is refused by the database, and the transaction tried again.
pub(super) async fn retry_in(
    unit: &mut Unit<'_>,
    task: TaskId,
    actor: &str,
) -> StoreResult<Commanded> {
    let Some(held) = unit.one(task).await? else {
        return Ok(Commanded::NotFound);
    };
    if held.task.state == TaskState::Failed {
        let task = held.task.clone();
        if let Some(other) = active_beside(unit, &task).await? {
            return Ok(Commanded::Conflict(other));
        }
    }
    match unit.held(task) {
        Some(held) => held.retry(actor),
        None => Ok(Commanded::NotFound),
    }
}

/// What the issue's newest task came of. Triggers are never removed.
pub(super) async fn last_triggered(
    database: &Database,
    repository: &RepositoryName,
    issue: IssueNumber,
) -> StoreResult<Option<LastTrigger>> {
    let row = sqlx::query(
        "SELECT task, object FROM task_triggers WHERE repository = $1 AND issue = $2 \
         ORDER BY task DESC LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(big(issue.0))
    .fetch_optional(&database.readers)
    .await?;
    let Some(row) = row else { return Ok(None) };
    let object: String = row.try_get("object")?;
    let task: TaskId = word(&row, "task")?;
    let act = SemanticKey::moment_in(&object).map(LastTrigger::Act);
    Ok(act.or_else(|| task.made_at().map(LastTrigger::Made)))
}

/// The issue's newest task that is there: its newest trigger may be of one that was removed.
pub(super) async fn newest(
    unit: &mut Unit<'_>,
    repository: &RepositoryName,
    issue: IssueNumber,
) -> StoreResult<Option<TaskId>> {
    let row = sqlx::query(
        "SELECT task FROM task_triggers WHERE repository = $1 AND issue = $2 \
         AND EXISTS (SELECT 1 FROM tasks WHERE id = task) ORDER BY task DESC LIMIT 1",
    )
    .bind(repository.as_str())
    .bind(big(issue.0))
    .fetch_optional(unit.sql().await?)
    .await?;
    row.map(|row| word(&row, "task")).transpose()
}

async fn active_beside(unit: &mut Unit<'_>, task: &Task) -> StoreResult<Option<TaskId>> {
    let Some(issue) = task.issue else {
        return Ok(None);
    };
    unit.flush().await?;
    let row = sqlx::query(
        "SELECT id FROM tasks WHERE repository = $1 AND issue = $2 \
         AND state NOT IN ('completed', 'failed', 'cancelled')",
    )
    .bind(task.repository.as_str())
    .bind(big(issue.0))
    .fetch_optional(unit.sql().await?)
    .await?;
    row.map(|row| word(&row, "id")).transpose()
}

pub(super) async fn unanalyzed(database: &Database, limit: u32) -> StoreResult<Vec<Task>> {
    let text = format!(
        "SELECT {} FROM tasks WHERE state IN ('pending', 'analyzing') ORDER BY id LIMIT {limit}",
        rows::TASK
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(&database.readers)
        .await?;
    found.iter().map(rows::task).collect()
}

pub(super) async fn analyzed_all(
    database: &Database,
    analyses: &[(TaskId, TaskAnalysis)],
) -> StoreResult<Vec<Cas>> {
    let mut unit = Unit::of(database);
    let tasks: BTreeSet<_> = analyses.iter().map(|(task, _)| *task).collect();
    let depends = |analysis: &TaskAnalysis| !analysis.depends_on.is_empty();
    if analyses.iter().any(|(_, analysis)| depends(analysis)) {
        dependencies::one_at_a_time(&mut unit).await?;
    } else {
        unit.recall(&tasks, |state| state == TaskState::Pending)
            .await?;
    }
    unit.hold(tasks, Busy::Wait).await?;
    let mut applied = Vec::with_capacity(analyses.len());
    for (task, analysis) in analyses {
        applied.push(if depends(analysis) {
            dependencies::analyzed(&mut unit, *task, analysis).await?
        } else {
            let held = unit.held(*task);
            held.map_or(Ok(Cas::Stale), |held| held.analyzed(analysis, &[], None))?
        });
    }
    unit.commit().await?;
    Ok(applied)
}
