//! Follow-ups, the comments that people add to tasks: stored once, and read for whoever works on them.

use patchfleet_domain::{FollowUp, TaskId, TaskState, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::attempts::{OVERLAP, work};
use super::deliveries::insert_new;
use super::rows::{self, number, word};
use super::rowset::{big, plain, row};
use super::unit::Unit;
use super::unreadable::FOLLOW_UPS;
use super::{Database, micros};
use crate::store::{Acted, LiveFollowUp, StoreResult};

row! {
    FollowUpRow {
        task: TaskId => "text",
        comment: i64 => "bigint",
        author: String => "text",
        body: String => "text",
        said_at: i64 => "bigint",
    }
}

/// Keeps a comment, if an attempt of the task can still take it in and it was not kept before.
pub(super) async fn add(
    unit: &mut Unit<'_>,
    task: TaskId,
    follow_up: &FollowUp,
) -> StoreResult<Acted> {
    let state = unit.one(task).await?.map(|held| held.task.state);
    if !state.is_some_and(TaskState::takes_follow_ups) {
        return Ok(Acted::Nothing);
    }
    let row = FollowUpRow {
        task,
        comment: big(follow_up.comment),
        author: plain(&follow_up.author),
        body: plain(&follow_up.text),
        said_at: unit.now().await?.timestamp_micros(),
    };
    let kept = insert_new(unit, ("follow_ups", "comment"), &[row]).await?;
    let Some(held) = unit.held(task).filter(|_| !kept.is_empty()) else {
        return Ok(Acted::Nothing);
    };
    let detail = format!("added to the request by comment {}", follow_up.comment);
    held.note("note", (&follow_up.author, &detail));
    unit.wake();
    Ok(Acted::Noted(task))
}

/// Reads all follow-ups of a task in the order of their arrival.
pub(super) async fn of(database: &Database, task: TaskId) -> StoreResult<Vec<FollowUp>> {
    let found =
        sqlx::query("SELECT comment, author, body FROM follow_ups WHERE task = $1 ORDER BY id")
            .bind(task.to_string())
            .fetch_all(&database.readers)
            .await?;
    Ok(database.readable(FOLLOW_UPS, &found, follow_up))
}

/// Reads the follow-ups that live attempts got since a cursor, and those of the overlap before it: what a
/// transaction wrote is seen when it commits.
pub(super) async fn of_live_attempts(
    database: &Database,
    since: Option<Timestamp>,
) -> StoreResult<(Timestamp, Vec<LiveFollowUp>)> {
    let now = database.now().await?;
    let since = since.map_or(now, |since| since.timestamp_micros());
    let found = sqlx::query(
        "SELECT f.comment, f.author, f.body, a.task, a.number, a.agent \
         FROM follow_ups f JOIN attempts a ON a.task = f.task AND a.ended_at IS NULL \
         WHERE f.said_at > $1 ORDER BY f.id",
    )
    .bind(since.saturating_sub(micros(OVERLAP)))
    .fetch_all(&database.readers)
    .await?;
    let live = database.readable(FOLLOW_UPS, &found, |row| {
        Ok(LiveFollowUp {
            work: work(row)?,
            agent: word(row, "agent")?,
            follow_up: follow_up(row)?,
        })
    });
    Ok((rows::moment(now)?, live))
}

fn follow_up(row: &AnyRow) -> StoreResult<FollowUp> {
    Ok(FollowUp {
        comment: number(row, "comment")?,
        author: row.try_get("author")?,
        text: row.try_get("body")?,
    })
}
