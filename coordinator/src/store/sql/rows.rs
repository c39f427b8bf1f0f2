//! Rows ↔ domain: the only place where columns are named for reading.

use std::str::FromStr;

use chrono::DateTime;
use patchfleet_domain::{AttemptNumber, IssueNumber, Priority, Task, Timestamp, WaitReason};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use crate::store::{AttemptRecord, StoreError, StoreResult, TaskEvent};

/// All columns of a task, in any order of the table.
pub(super) const TASK: &str = "id, kind, state, wait_reason, attempt, failures, max_attempts, priority, \
    repository, issue, branch, request, analysis, pull_request, pull_closed, pull_closed_number, failure, summary, returns, spent, \
    traceparent, created_at, updated_at";

fn corrupt(what: &str, error: impl std::fmt::Display) -> StoreError {
    StoreError::Corrupt(format!("column {what}: {error}"))
}

/// A text column that names something.
pub(super) fn word<T>(row: &AnyRow, column: &str) -> StoreResult<T>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let text: String = row.try_get(column)?;
    text.parse().map_err(|error| corrupt(column, error))
}

/// The same where it may be empty.
pub(super) fn word_or_none<T>(row: &AnyRow, column: &str) -> StoreResult<Option<T>>
where
    T: FromStr,
    T::Err: std::fmt::Display,
{
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| text.parse().map_err(|error| corrupt(column, error)))
        .transpose()
}

/// A number column of another size than the database's.
pub(super) fn number<T: TryFrom<i64>>(row: &AnyRow, column: &str) -> StoreResult<T> {
    let number: i64 = row.try_get(column)?;
    T::try_from(number).map_err(|_| corrupt(column, format!("{number} is out of range")))
}

/// A column that holds JSON, or nothing.
pub(super) fn json<T: DeserializeOwned>(row: &AnyRow, column: &str) -> StoreResult<Option<T>> {
    let text: Option<String> = row.try_get(column)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| corrupt(column, error)))
        .transpose()
}

/// A column that holds JSON.
pub(super) fn json_present<T: DeserializeOwned>(row: &AnyRow, column: &str) -> StoreResult<T> {
    json(row, column)?.ok_or_else(|| corrupt(column, "it is empty"))
}

/// A value as a column's JSON.
pub(super) fn to_json(value: &impl Serialize) -> StoreResult<String> {
    serde_json::to_string(value).map_err(|error| corrupt("to be written", error))
}

/// The same for what may be nothing.
pub(super) fn to_json_or_none(value: Option<&impl Serialize>) -> StoreResult<Option<String>> {
    value.map(to_json).transpose()
}

/// A moment of the database.
pub(super) fn moment(micros: i64) -> StoreResult<Timestamp> {
    DateTime::from_timestamp_micros(micros).ok_or_else(|| corrupt("a moment", micros))
}

pub(super) fn moment_of(row: &AnyRow, column: &str) -> StoreResult<Timestamp> {
    moment(row.try_get(column)?)
}

pub(super) fn task(row: &AnyRow) -> StoreResult<Task> {
    let priority: u8 = number(row, "priority")?;
    let issue: Option<i64> = row.try_get("issue")?;
    Ok(Task {
        id: word(row, "id")?,
        kind: word(row, "kind")?,
        state: word(row, "state")?,
        wait_reason: row
            .try_get::<Option<String>, _>("wait_reason")?
            .map(|word| WaitReason::read(&word)),
        attempt: AttemptNumber(number(row, "attempt")?),
        failures: number(row, "failures")?,
        max_attempts: number(row, "max_attempts")?,
        priority: Priority::try_from(priority).map_err(|error| corrupt("priority", error))?,
        repository: word(row, "repository")?,
        issue: issue
            .and_then(|number| u64::try_from(number).ok())
            .map(IssueNumber),
        branch: row.try_get("branch")?,
        request: json_present(row, "request")?,
        analysis: json(row, "analysis")?,
        pull_request: json(row, "pull_request")?,
        failure: json(row, "failure")?,
        summary: row.try_get("summary")?,
        returns: json(row, "returns")?.unwrap_or_default(),
        spent: json(row, "spent")?.unwrap_or_default(),
        traceparent: row.try_get("traceparent")?,
        created_at: moment_of(row, "created_at")?,
        updated_at: moment_of(row, "updated_at")?,
    })
}

pub(super) fn event(row: &AnyRow) -> StoreResult<TaskEvent> {
    Ok(TaskEvent {
        id: row.try_get("id")?,
        task: word(row, "task")?,
        attempt: AttemptNumber(number(row, "attempt")?),
        at: moment_of(row, "at")?,
        kind: row.try_get("kind")?,
        from: word_or_none(row, "from_state")?,
        to: word_or_none(row, "to_state")?,
        actor: row.try_get("actor")?,
        detail: row.try_get("detail")?,
    })
}

pub(super) fn attempt(row: &AnyRow) -> StoreResult<AttemptRecord> {
    let ended: Option<i64> = row.try_get("ended_at")?;
    Ok(AttemptRecord {
        number: AttemptNumber(number(row, "number")?),
        agent: word(row, "agent")?,
        assigned_at: moment_of(row, "assigned_at")?,
        ended_at: ended.map(moment).transpose()?,
        outcome: row.try_get("outcome")?,
        failure: json(row, "failure")?,
        tests_before: json(row, "tests_before")?,
        tests_after: json(row, "tests_after")?,
    })
}
