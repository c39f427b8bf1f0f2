//! Tasks that wait for an issue which no task is at work on: nobody has triggered it yet, its task was
//! called off, or its pull request was closed and may be opened again.
//!
//! The issue's newest task decides as soon as there is one that is active or over; until then GitHub is
//! asked now and then whether the issue is closed. Both are looked at again and again, so that it does
//! not matter in which order deliveries come, or that one is lost.

use std::collections::BTreeSet;
use std::time::Duration;

use patchfleet_domain::{IssueNumber, RepositoryName, TaskId};
use sqlx::any::AnyRow;

use super::dependencies::{count, cycle, one_at_a_time};
use super::rows::{number, word};
use super::rowset::big;
use super::unit::{Busy, Unit};
use super::unreadable::ISSUES;
use super::{Database, micros};
use crate::store::held::{Ended, Prerequisite, Standing};
use crate::store::{IssueEnd, StoreResult};

/// Most tasks that are looked at in one transaction.
const MOST: u32 = 200;

/// A task that waits for an issue, with the issue's newest task.
struct Waiting {
    task: TaskId,
    issue: u64,
    newest: Option<TaskId>,
}

/// Has tasks wait for the task that is at work by now on an issue that they wait for, or go on when
/// that one is over; and forgets those that wait no more.
pub(super) async fn follow(database: &Database) -> StoreResult<()> {
    let text = format!(
        "SELECT d.task, d.issue, t.id AS newest FROM issue_dependencies d \
         LEFT JOIN tasks w ON w.id = d.task \
         LEFT JOIN tasks t ON t.id = (SELECT MAX(task) FROM task_triggers x \
            WHERE x.repository = d.repository AND x.issue = d.issue \
            AND EXISTS (SELECT 1 FROM tasks WHERE id = x.task)) \
         WHERE w.state IS NULL OR w.state <> 'waiting' OR t.state NOT IN ('cancelled', 'failed') \
            OR (t.state = 'failed' AND COALESCE(t.failure, '') \
                NOT LIKE '%\"kind\":\"pull_request_closed\"%') \
         ORDER BY d.task LIMIT {MOST}"
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(&database.readers)
        .await?;
    let found = database.readable(ISSUES, &found, waiting);
    if found.is_empty() {
        return Ok(());
    }
    let mut unit = Unit::of(database);
    one_at_a_time(&mut unit).await?;
    let ids = found.iter().flat_map(|it| [Some(it.task), it.newest]);
    unit.hold(ids.flatten().collect::<BTreeSet<_>>(), Busy::Wait)
        .await?;
    for it in &found {
        follow_one(&mut unit, it).await?;
    }
    unit.commit().await
}

fn waiting(row: &AnyRow) -> StoreResult<Waiting> {
    use sqlx::Row as _;
    let newest: Option<String> = row.try_get("newest")?;
    Ok(Waiting {
        task: word(row, "task")?,
        issue: number(row, "issue")?,
        newest: newest.and_then(|id| id.parse().ok()),
    })
}

async fn follow_one(unit: &mut Unit<'_>, it: &Waiting) -> StoreResult<()> {
    let unreadable = [Some(it.task), it.newest]
        .into_iter()
        .flatten()
        .any(|id| unit.readable(id).is_err());
    if unreadable {
        return Ok(());
    }
    let newest = it.newest.and_then(|id| unit.held(id));
    let newest = newest.map(|held| held.task.clone());
    let standing = Standing::of(newest.as_ref());
    let waits = unit
        .held(it.task)
        .is_some_and(|held| held.waits_for_others());
    if waits && matches!(standing, Standing::Undecided | Standing::Stopped) {
        return Ok(());
    }
    if !forget(unit, it).await? || !waits {
        return Ok(());
    }
    if let Standing::Active(task) = standing {
        let first = Prerequisite {
            issue: it.issue,
            standing,
        };
        let cycle = cycle(unit, it.task, &[first]).await?;
        if let Some(held) = unit.held(it.task) {
            held.waits_for_task((it.issue, task), cycle.as_deref())?;
        }
        // The next one in this transaction has to see the edge.
        return unit.flush().await;
    }
    let left = count(unit, &BTreeSet::from([it.task])).await?;
    let ended: Vec<_> = newest.as_ref().map(Ended::of).into_iter().collect();
    if let Some(held) = unit.held(it.task) {
        held.released(&ended, left.get(&it.task).copied().unwrap_or(0))?;
    }
    unit.flush().await
}

/// False when somebody else was faster.
async fn forget(unit: &mut Unit<'_>, it: &Waiting) -> StoreResult<bool> {
    let done = sqlx::query("DELETE FROM issue_dependencies WHERE task = $1 AND issue = $2")
        .bind(it.task.to_string())
        .bind(big(it.issue))
        .execute(unit.sql().await?)
        .await?;
    Ok(done.rows_affected() > 0)
}

/// Issues that tasks wait for and that GitHub was not asked about for so long, taken by the caller, who
/// is to ask.
pub(super) async fn due(
    database: &Database,
    again: Duration,
    limit: u32,
) -> StoreResult<Vec<(RepositoryName, IssueNumber)>> {
    let now = database.now().await?;
    let any: i64 =
        sqlx::query_scalar("SELECT COUNT(*) FROM issue_dependencies WHERE asked_at <= $1")
            .bind(now.saturating_sub(micros(again)))
            .fetch_one(&database.readers)
            .await?;
    if any == 0 {
        return Ok(Vec::new());
    }
    let text = format!(
        "UPDATE issue_dependencies SET asked_at = $1 WHERE (repository, issue) IN (\
            SELECT repository, issue FROM issue_dependencies WHERE asked_at <= $2 \
            ORDER BY asked_at LIMIT {limit}) RETURNING repository, issue"
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(now)
        .bind(now.saturating_sub(micros(again)))
        .fetch_all(&database.pool)
        .await?;
    let place = |row: &AnyRow| {
        let issue = IssueNumber(number(row, "issue")?);
        Ok((word(row, "repository")?, issue))
    };
    let due: BTreeSet<_> = database
        .readable(ISSUES, &found, place)
        .into_iter()
        .collect();
    Ok(due.into_iter().collect())
}

/// Lets go on, or stops, what waits for an issue that GitHub says is over; how many tasks waited.
pub(super) async fn ended(
    database: &Database,
    (repository, issue): (&RepositoryName, IssueNumber),
    how: IssueEnd,
) -> StoreResult<usize> {
    let mut unit = Unit::of(database);
    let found = sqlx::query(
        "DELETE FROM issue_dependencies WHERE repository = $1 AND issue = $2 RETURNING task",
    )
    .bind(repository.as_str())
    .bind(big(issue.0))
    .fetch_all(unit.sql().await?)
    .await?;
    let waiting: BTreeSet<TaskId> = found
        .iter()
        .map(|row| word(row, "task"))
        .collect::<StoreResult<_>>()?;
    unit.hold(waiting.iter().copied(), Busy::Wait).await?;
    let left = count(&mut unit, &waiting).await?;
    let over = Ended {
        name: format!("#{issue}"),
        how: how.as_str().to_owned(),
        is_done: how != IssueEnd::GivenUp,
    };
    for id in &waiting {
        unit.readable(*id)?;
        if let Some(held) = unit.held(*id) {
            held.released(
                std::slice::from_ref(&over),
                left.get(id).copied().unwrap_or(0),
            )?;
        }
    }
    unit.commit().await?;
    Ok(waiting.len())
}
