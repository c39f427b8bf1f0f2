//! Attempts and their leases.

use std::collections::BTreeSet;
use std::time::Duration;

use patchfleet_domain::{AgentId, AttemptNumber, TaskId, TaskState, Timestamp, Work};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::batch::each;
use super::rows::{self, number, to_json, word};
use super::unit::{Busy, Unit};
use super::unreadable::{ATTEMPTS, TASKS, bind_left_out, one};
use super::{Database, micros};
use crate::store::{AttemptRecord, Cas, LiveAttempt, LostAttempt, StoreResult, TakenAway};

pub(super) async fn records(database: &Database, task: TaskId) -> StoreResult<Vec<AttemptRecord>> {
    let found = sqlx::query(
        "SELECT task, number, agent, assigned_at, ended_at, outcome, failure, tests_before, tests_after \
         FROM attempts WHERE task = $1 ORDER BY number",
    )
    .bind(task.to_string())
    .fetch_all(&database.readers)
    .await?;
    Ok(database.readable(ATTEMPTS, &found, rows::attempt))
}

/// Who has or had an attempt; an error when its row can't be decoded.
pub(super) async fn holder(database: &Database, work: Work) -> StoreResult<Option<AgentId>> {
    let row = sqlx::query("SELECT agent FROM attempts WHERE task = $1 AND number = $2")
        .bind(work.task.to_string())
        .bind(i64::from(work.attempt.0))
        .fetch_optional(&database.readers)
        .await?;
    row.map(|row| one(ATTEMPTS, work, word(&row, "agent")))
        .transpose()
}

pub(super) fn work(row: &AnyRow) -> StoreResult<Work> {
    Ok(Work {
        task: word(row, "task")?,
        attempt: AttemptNumber(number(row, "number")?),
    })
}

/// An agent's live attempts. One whose task is in a state that this version does not know is among
/// them: the agent is not to give it up for that.
pub(super) async fn live(database: &Database, agent: &AgentId) -> StoreResult<Vec<LiveAttempt>> {
    let found = sqlx::query(
        "SELECT a.task, a.number, t.state FROM attempts a JOIN tasks t ON t.id = a.task \
         WHERE a.agent = $1 AND a.ended_at IS NULL ORDER BY a.assigned_at, a.task",
    )
    .bind(agent.as_str())
    .fetch_all(&database.readers)
    .await?;
    Ok(database.readable(ATTEMPTS, &found, |row| {
        let work = work(row)?;
        let state = word(row, "state");
        let state = state.inspect_err(|error| database.skip(TASKS, &work.task.to_string(), error));
        Ok(LiveAttempt {
            work,
            state: state.ok(),
        })
    }))
}

/// How far back a look reaches beyond the last one: what a transaction wrote is seen when it
/// commits, which may be that much after the moment that it wrote.
pub(super) const OVERLAP: Duration = Duration::from_secs(20);

pub(super) async fn taken_away(
    database: &Database,
    since: Option<Timestamp>,
) -> StoreResult<(Timestamp, Vec<TakenAway>)> {
    let now = database.now().await?;
    let since = since.map_or(now, |since| since.timestamp_micros());
    let found = sqlx::query(
        "SELECT task, number, agent, outcome FROM attempts \
         WHERE outcome IN ('cancelled', 'lost') AND ended_at > $1",
    )
    .bind(since.saturating_sub(micros(OVERLAP)))
    .fetch_all(&database.readers)
    .await?;
    let taken = database.readable(ATTEMPTS, &found, |row| {
        let outcome: String = row.try_get("outcome")?;
        Ok(TakenAway {
            work: work(row)?,
            agent: word(row, "agent")?,
            called_off: outcome == "cancelled",
        })
    });
    Ok((rows::moment(now)?, taken))
}

pub(super) async fn called_off(
    database: &Database,
    agent: &AgentId,
    works: &[Work],
) -> StoreResult<BTreeSet<Work>> {
    if works.is_empty() {
        return Ok(BTreeSet::new());
    }
    let text = format!(
        "SELECT task, number FROM attempts WHERE task {} AND agent = $2 AND outcome = 'cancelled'",
        database.dialect.among()
    );
    let tasks: BTreeSet<_> = works.iter().map(|work| work.task).collect();
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(to_json(&tasks)?)
        .bind(agent.as_str())
        .fetch_all(&database.readers)
        .await?;
    let mut called_off = database.readable(ATTEMPTS, &found, work);
    called_off.retain(|work| works.contains(work));
    Ok(called_off.into_iter().collect())
}

pub(super) async fn lose(
    database: &Database,
    work: Work,
    why: &str,
) -> StoreResult<Cas<TaskState>> {
    let mut unit = Unit::of(database);
    let Some(held) = unit.one(work.task).await? else {
        return Ok(Cas::Stale);
    };
    let lost = held.lose(work, why)?;
    unit.commit().await?;
    Ok(lost)
}

/// Most leases that are ended in one transaction.
const EXPIRED: u32 = 256;

/// Ends attempts whose lease ran out; those that can't be decoded are skipped, and take no places of
/// others.
pub(super) async fn expire(database: &Database) -> StoreResult<Vec<LostAttempt>> {
    let over = database.patience.bound(ran_out(database)).await?;
    let together = |over| end_together(database, over);
    let ended = each(database, (&over, |(work, _)| work.task), together).await?;
    let lost = over.into_iter().zip(ended);
    let lost = lost.filter_map(|((work, agent), ended)| match ended {
        Cas::Applied(now) => Some(LostAttempt { work, agent, now }),
        Cas::Stale => None,
    });
    Ok(lost.collect())
}

async fn ran_out(database: &Database) -> StoreResult<Vec<(Work, AgentId)>> {
    let now = database.now().await?;
    let left_out = database.left_out(&[ATTEMPTS, TASKS])?;
    let text = format!(
        "SELECT task, number, agent FROM attempts WHERE ended_at IS NULL AND lease_until <= $1{} \
         ORDER BY lease_until LIMIT {EXPIRED}",
        left_out.condition(database.dialect, "task", 2)
    );
    let query = sqlx::query(sqlx::AssertSqlSafe(text)).bind(now);
    let found = bind_left_out!(query, left_out)
        .fetch_all(&database.readers)
        .await?;
    Ok(database.readable(ATTEMPTS, &found, |row| {
        Ok((work(row)?, word(row, "agent")?))
    }))
}

async fn end_together(
    database: &Database,
    over: &[(Work, AgentId)],
) -> StoreResult<Vec<Cas<TaskState>>> {
    let mut unit = Unit::of(database);
    // Whoever holds a task now is about to change it: the next look sees what came of it.
    unit.hold(over.iter().map(|(work, _)| work.task), Busy::Skip)
        .await?;
    let mut ended = Vec::with_capacity(over.len());
    for (work, _) in over {
        let held = unit.held(work.task);
        ended.push(held.map_or(Ok(Cas::Stale), |held| held.expire(*work))?);
    }
    unit.commit().await?;
    Ok(ended)
}
