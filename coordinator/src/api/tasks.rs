//! `/api/v1/tasks`.

use axum::Json;
use axum::extract::rejection::{PathRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use patchfleet_domain::{AttemptNumber, IssueNumber, RepositoryName, Task, TaskId, TaskState};
use serde::{Deserialize, Serialize};

use super::{ACTOR, ApiState};
use crate::problem::Problem;
use crate::store::{AttemptRecord, Commanded, HISTORY_PAGE, TaskEvent, TaskFilter};

/// How a list of tasks is narrowed.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ListQuery {
    state: Option<TaskState>,
    repository: Option<RepositoryName>,
    issue: Option<u64>,
    cursor: Option<TaskId>,
    limit: Option<u32>,
}

/// A page of tasks, newest first.
#[derive(Debug, Serialize)]
pub(super) struct TaskList {
    tasks: Vec<Task>,
    /// What to give as `cursor` for the next page; absent on the last.
    next: Option<TaskId>,
}

/// A task with its attempts.
#[derive(Debug, Serialize)]
pub(super) struct TaskDetail {
    #[serde(flatten)]
    task: Task,
    attempts: Vec<AttemptRecord>,
}

/// Where a history or a log is read from.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct PageQuery {
    after: i64,
}

/// A page of a task's history, oldest first.
#[derive(Debug, Serialize)]
pub(super) struct EventList {
    events: Vec<TaskEvent>,
    /// What `after` is on the next page, if there is one.
    next: Option<i64>,
}

/// A page of a task's output, oldest line first.
#[derive(Debug, Serialize)]
pub(super) struct LogLines {
    /// Whose output it is; absent when there is none.
    attempt: Option<AttemptNumber>,
    lines: Vec<String>,
    /// What to give as `after` to read on while the log grows.
    last: i64,
    /// There are lines to read already.
    more: bool,
}

/// Where a task went.
#[derive(Debug, Serialize)]
pub(super) struct CommandDone {
    id: TaskId,
    state: TaskState,
}

pub(super) async fn list(
    State(state): State<ApiState>,
    query: Result<Query<ListQuery>, QueryRejection>,
) -> Result<Json<TaskList>, Problem> {
    let Query(query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let limit = query.limit.unwrap_or(50).clamp(1, 500);
    let filter = TaskFilter {
        states: query.state.into_iter().collect(),
        repository: query.repository,
        issue: query.issue.map(IssueNumber),
        before: query.cursor,
        limit,
    };
    let tasks = state.store.tasks(&filter).await?;
    let full = u32::try_from(tasks.len()).is_ok_and(|count| count >= limit);
    let next = tasks.last().map(|task| task.id).filter(|_| full);
    Ok(Json(TaskList { tasks, next }))
}

pub(super) async fn show(
    State(state): State<ApiState>,
    id: Result<Path<TaskId>, PathRejection>,
) -> Result<Json<TaskDetail>, Problem> {
    let id = task_id(id)?;
    let task = state.store.task(id).await?.ok_or_else(|| unknown(id))?;
    let attempts = state.store.attempts(id).await?;
    Ok(Json(TaskDetail { task, attempts }))
}

pub(super) async fn events(
    State(state): State<ApiState>,
    id: Result<Path<TaskId>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<EventList>, Problem> {
    let id = task_id(id)?;
    let Query(query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let events = state.store.history(id, query.after).await?;
    let full = u32::try_from(events.len()).is_ok_and(|count| count >= HISTORY_PAGE);
    let next = events.last().map(|event| event.id).filter(|_| full);
    Ok(Json(EventList { events, next }))
}

pub(super) async fn logs(
    State(state): State<ApiState>,
    id: Result<Path<TaskId>, PathRejection>,
    query: Result<Query<PageQuery>, QueryRejection>,
) -> Result<Json<LogLines>, Problem> {
    let id = task_id(id)?;
    let Query(query) =
        query.map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))?;
    let page = state.store.logs(id, query.after).await?;
    Ok(Json(LogLines {
        attempt: page.attempt,
        lines: page.lines,
        last: page.last,
        more: page.more,
    }))
}

pub(super) async fn cancel(
    State(state): State<ApiState>,
    id: Result<Path<TaskId>, PathRejection>,
) -> Result<Json<CommandDone>, Problem> {
    let id = task_id(id)?;
    done(id, "cancel", state.store.cancel(id, ACTOR).await?)
}

pub(super) async fn retry(
    State(state): State<ApiState>,
    id: Result<Path<TaskId>, PathRejection>,
) -> Result<Json<CommandDone>, Problem> {
    let id = task_id(id)?;
    done(id, "retry", state.store.retry(id, ACTOR).await?)
}

pub(super) fn task_id(id: Result<Path<TaskId>, PathRejection>) -> Result<TaskId, Problem> {
    id.map(|Path(id)| id)
        .map_err(|error| Problem::new(StatusCode::BAD_REQUEST, error.body_text()))
}

fn unknown(id: TaskId) -> Problem {
    Problem::new(StatusCode::NOT_FOUND, format!("There is no task {id}."))
}

pub(super) fn done(
    id: TaskId,
    command: &str,
    result: Commanded,
) -> Result<Json<CommandDone>, Problem> {
    match result {
        Commanded::Done(state) => Ok(Json(CommandDone { id, state })),
        Commanded::NotFound => Err(unknown(id)),
        Commanded::NotAllowed(state) => {
            let detail = format!("Task {id} is {state}; `{command}` is not possible from there.");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
        Commanded::Conflict(other) => {
            let detail = format!("The issue has an active task already: {other}.");
            Err(Problem::new(StatusCode::CONFLICT, detail))
        }
    }
}
