//! Tasks: reading them, and what people and the analysis do to them.

use std::collections::BTreeSet;

use patchfleet_domain::outcome::Failure;
use patchfleet_domain::{IssueNumber, RepositoryName, Task, TaskAnalysis, TaskId, TaskState};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::batch::each;
use super::rows::{self, word};
use super::rowset::big;
use super::unit::{Busy, Unit};
use super::unreadable::{EVENTS, LeftOut, TASKS, TRIGGERS, bind_left_out, one};
use super::{Database, dependencies};
use crate::store::{
    Cas, Commanded, HISTORY_PAGE, LastTrigger, SemanticKey, StoreResult, TaskEvent, TaskFilter,
};

pub(super) async fn by_id(database: &Database, id: TaskId) -> StoreResult<Option<Task>> {
    let text = format!("SELECT {} FROM tasks WHERE id = $1", rows::TASK);
    let row = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(id.to_string())
        .fetch_optional(&database.readers)
        .await?;
    row.map(|row| one(TASKS, id, rows::task(&row))).transpose()
}

/// Tasks that the filter lets through, newest first; those that can't be decoded are skipped.
/// The filter's words go into the text only as fixed names; what users give is bound.
pub(super) async fn list(database: &Database, filter: &TaskFilter) -> StoreResult<Vec<Task>> {
    database
        .tasks_around(|left_out| select(database, filter, left_out), rows::task)
        .await
}

/// The first task that the filter lets through; one that can't be decoded is an error.
pub(super) async fn first(database: &Database, filter: &TaskFilter) -> StoreResult<Option<Task>> {
    let found = select(database, filter, LeftOut(None)).await?;
    let Some(row) = found.first() else {
        return Ok(None);
    };
    let id: String = row.try_get("id")?;
    one(TASKS, id, rows::task(row)).map(Some)
}

async fn select(
    database: &Database,
    filter: &TaskFilter,
    left_out: LeftOut,
) -> StoreResult<Vec<AnyRow>> {
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
    let parameter = if filter.before.is_some() { 5 } else { 4 };
    let readable = left_out.condition(database.dialect, id, parameter);
    let text = format!(
        "SELECT {} FROM {source} AND {states} AND {older}{readable} ORDER BY {id} DESC LIMIT {limit}",
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
    let query = bind_left_out!(query, left_out);
    Ok(query.fetch_all(&database.readers).await?)
}

/// The tasks of repository `$1` that are as wanted, each by the trigger that it came of: it may have
/// handled others.
fn triggered(wanted: &str) -> String {
    format!(
        "(SELECT task, kind AS of_kind, object AS of_object FROM task_triggers \
            WHERE repository = $1 AND {wanted}) AS of \
         JOIN tasks ON id = task AND trigger_kind = of_kind AND trigger_object = of_object \
         WHERE 1 = 1"
    )
}

/// A page of a task's history, oldest first. Rows that can't be decoded are skipped, and others
/// fill the page: a page that is not full is the last one.
pub(super) async fn history(
    database: &Database,
    task: TaskId,
    after: i64,
) -> StoreResult<Vec<TaskEvent>> {
    let page = HISTORY_PAGE as usize;
    let (mut events, mut after) = (Vec::new(), after);
    loop {
        let side = ("id > $2 ORDER BY id", after);
        let found = events_of(database, task, side, HISTORY_PAGE).await?;
        events.extend(database.readable(EVENTS, &found, rows::event));
        let Some(last) = found.last().filter(|_| found.len() == page) else {
            break;
        };
        if events.len() >= page {
            break;
        }
        after = last.try_get("id")?;
    }
    events.truncate(page);
    Ok(events)
}

/// The newest events of a task's history, oldest first.
pub(super) async fn newest_history(
    database: &Database,
    task: TaskId,
    limit: u32,
) -> StoreResult<Vec<TaskEvent>> {
    let newest = ("id < $2 ORDER BY id DESC", i64::MAX);
    let mut found = events_of(database, task, newest, limit).await?;
    found.reverse();
    Ok(database.readable(EVENTS, &found, rows::event))
}

/// Events of a task on one side of an id.
async fn events_of(
    database: &Database,
    task: TaskId,
    (side, id): (&str, i64),
    limit: u32,
) -> StoreResult<Vec<AnyRow>> {
    let text = format!(
        "SELECT id, task, attempt, at, kind, from_state, to_state, actor, detail FROM task_events \
         WHERE task = $1 AND {side} LIMIT $3"
    );
    Ok(sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(task.to_string())
        .bind(id)
        .bind(i64::from(limit))
        .fetch_all(&database.readers)
        .await?)
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

/// The newest act on the issue that its newest task came of or handled. Triggers are never removed.
pub(super) async fn last_triggered(
    database: &Database,
    repository: &RepositoryName,
    issue: IssueNumber,
) -> StoreResult<Option<LastTrigger>> {
    let rows = sqlx::query(
        "SELECT task, object FROM task_triggers WHERE repository = $1 AND issue = $2 AND task = (\
            SELECT task FROM task_triggers WHERE repository = $3 AND issue = $4 \
            ORDER BY task DESC LIMIT 1)",
    )
    .bind(repository.as_str())
    .bind(big(issue.0))
    .bind(repository.as_str())
    .bind(big(issue.0))
    .fetch_all(&database.readers)
    .await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let task: TaskId = one(TRIGGERS, repository, word(row, "task"))?;
    let mut newest = None;
    for row in &rows {
        let object: String = row.try_get("object")?;
        newest = newest.max(SemanticKey::moment_in(&object));
    }
    let act = newest.map(LastTrigger::Act);
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
    row.map(|row| one(TRIGGERS, repository, word(&row, "task")))
        .transpose()
}

/// Another active task of the same issue.
pub(super) async fn active_beside(unit: &mut Unit<'_>, task: &Task) -> StoreResult<Option<TaskId>> {
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
    row.map(|row| one(TASKS, &task.repository, word(&row, "id")))
        .transpose()
}

pub(super) async fn unanalyzed(database: &Database, limit: u32) -> StoreResult<Vec<Task>> {
    let fetch = async |left_out: LeftOut| {
        let text = format!(
            "SELECT {} FROM tasks WHERE state IN ('pending', 'analyzing'){} ORDER BY id \
             LIMIT {limit}",
            rows::TASK,
            left_out.condition(database.dialect, "id", 1)
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(text));
        let query = bind_left_out!(query, left_out);
        Ok(query.fetch_all(&database.readers).await?)
    };
    database.tasks_around(fetch, rows::task).await
}

/// Ends a task that can't be analyzed.
pub(super) async fn refuse(
    database: &Database,
    task: TaskId,
    failure: &Failure,
) -> StoreResult<Cas> {
    let mut unit = Unit::of(database);
    let Some(held) = unit.one(task).await? else {
        return Ok(Cas::Stale);
    };
    let done = held.refuse(failure)?;
    unit.commit().await?;
    Ok(done)
}

/// Stores analyses, all in one transaction; when one of them can't be stored, each in its own, and
/// that one does not count.
pub(super) async fn analyzed_all(
    database: &Database,
    analyses: &[(TaskId, TaskAnalysis)],
) -> StoreResult<Vec<Cas>> {
    let together = |analyses| analyzed_together(database, analyses);
    each(database, (analyses, |(task, _)| *task), together).await
}

async fn analyzed_together(
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
