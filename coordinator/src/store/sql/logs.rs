//! Logs of attempts: read by pages, and cut in the middle while they grow.
//!
//! The row that says how many lines were left out takes the place, and so the id, of the last of
//! them. A reader that stopped before them therefore finds it next, and one that stopped behind them
//! has read everything until there.

use patchfleet_domain::{AttemptNumber, TaskId};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::rows::number;
use super::rowset::big;
use super::unreadable::LOGS;
use super::{Database, Sql};
use crate::store::held::LogCut;
use crate::store::{LogPage, StoreResult};

/// Lines of a page at the most: more than a log within its bound has; an older version kept all
/// there were.
const PAGE: u32 = 25_000;

pub(super) async fn page(database: &Database, task: TaskId, after: i64) -> StoreResult<LogPage> {
    let mut found = sqlx::query(
        "SELECT id, attempt, line, left_out FROM task_logs WHERE task = $1 \
         AND attempt = (SELECT attempt FROM tasks WHERE id = $2) AND id > $3 ORDER BY id LIMIT $4",
    )
    .bind(task.to_string())
    .bind(task.to_string())
    .bind(after)
    .bind(i64::from(PAGE) + 1)
    .fetch_all(&database.readers)
    .await?;
    let more = found.len() > PAGE as usize;
    found.truncate(PAGE as usize);
    let Some(last) = found.last() else {
        return Ok(LogPage {
            last: after,
            ..LogPage::default()
        });
    };
    let line = |row: &AnyRow| {
        let left_out: Option<i64> = row.try_get("left_out")?;
        Ok(match left_out {
            Some(left_out) => format!("[{left_out} lines were left out here: the log is too long]"),
            None => row.try_get("line")?,
        })
    };
    Ok(LogPage {
        attempt: Some(AttemptNumber(number(last, "attempt")?)),
        last: last.try_get("id")?,
        more,
        lines: database.readable(LOGS, &found, line),
    })
}

/// Removes the parts of a log that have to make room, in a transaction that holds the attempt.
pub(super) async fn cut(sql: &mut Sql, task: TaskId, cut: LogCut) -> StoreResult<()> {
    let parts = "task = $1 AND attempt = $2 AND part <= $3";
    let text = format!(
        "SELECT MAX(id) AS last, CAST(SUM(COALESCE(left_out, 1)) AS BIGINT) AS left_out \
         FROM task_logs WHERE {parts}"
    );
    let (task, attempt, upto) = (task.to_string(), i64::from(cut.attempt.0), big(cut.upto));
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(&task)
        .bind(attempt)
        .bind(upto)
        .fetch_one(&mut *sql)
        .await?;
    let last: Option<i64> = found.try_get("last")?;
    let Some(last) = last else { return Ok(()) };
    let left_out: i64 = found.try_get("left_out")?;
    sqlx::query("UPDATE task_logs SET line = '', left_out = $1 WHERE id = $2")
        .bind(left_out)
        .bind(last)
        .execute(&mut *sql)
        .await?;
    let text = format!("DELETE FROM task_logs WHERE {parts} AND id < $4");
    sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(&task)
        .bind(attempt)
        .bind(upto)
        .bind(last)
        .execute(sql)
        .await?;
    Ok(())
}
