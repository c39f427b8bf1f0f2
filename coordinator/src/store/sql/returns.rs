//! Tasks that wait because no agent takes them.

use patchfleet_domain::{AgentId, AttemptNumber, Task, TaskId};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Database;
use super::batch::each;
use super::rows;
use super::unit::{Busy, Unit};
use super::unreadable::{LeftOut, bind_left_out};
use crate::store::{Cas, StoreResult};

/// Who offers them again.
const ACTOR: &str = "coordinator";

pub(super) async fn set_aside(
    database: &Database,
    (task, newest): (TaskId, AttemptNumber),
    reasons: &[(AgentId, String)],
) -> StoreResult<Cas> {
    let mut unit = Unit::of(database);
    let Some(held) = unit.one(task).await? else {
        return Ok(Cas::Stale);
    };
    let done = held.set_aside(newest, reasons)?;
    unit.commit().await?;
    Ok(done)
}

pub(super) async fn waiting(database: &Database, limit: u32) -> StoreResult<Vec<(Task, bool)>> {
    let now = database.now().await?;
    let fetch = async |left_out: LeftOut| {
        let text = format!(
            "SELECT {}, not_before FROM tasks WHERE state = 'waiting' AND wait_reason = 'agent'{} \
             ORDER BY not_before LIMIT {limit}",
            rows::TASK,
            left_out.condition(database.dialect, "id", 1)
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(text));
        let query = bind_left_out!(query, left_out);
        Ok(query.fetch_all(&database.readers).await?)
    };
    let decode = |row: &AnyRow| {
        let until: i64 = row.try_get("not_before")?;
        Ok((rows::task(row)?, until <= now))
    };
    database.tasks_around(fetch, decode).await
}

/// Whoever holds one of them now is about to change it; it is left out.
pub(super) async fn offer_again(
    database: &Database,
    tasks: &[TaskId],
    why: &str,
) -> StoreResult<usize> {
    let together = |tasks| offer_together(database, tasks, why);
    let offered = each(database, (tasks, |task| *task), together).await?;
    Ok(offered.iter().filter(|it| **it == Cas::Applied(())).count())
}

async fn offer_together(database: &Database, tasks: &[TaskId], why: &str) -> StoreResult<Vec<Cas>> {
    let mut unit = Unit::of(database);
    unit.hold(tasks.iter().copied(), Busy::Skip).await?;
    let mut offered = Vec::with_capacity(tasks.len());
    for task in tasks {
        let held = unit.held(*task);
        offered.push(held.map_or(Ok(Cas::Stale), |held| held.offer_again((ACTOR, why)))?);
    }
    unit.commit().await?;
    Ok(offered)
}
