//! Tasks that wait because no agent takes them.

use patchfleet_domain::{AgentId, AttemptNumber, Task, TaskId};
use sqlx::Row as _;

use super::Database;
use super::rows;
use super::unit::{Busy, Unit};
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
    let text = format!(
        "SELECT {}, not_before FROM tasks WHERE state = 'waiting' AND wait_reason = 'agent' \
         ORDER BY not_before LIMIT {limit}",
        rows::TASK
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .fetch_all(&database.readers)
        .await?;
    found
        .iter()
        .map(|row| {
            let until: i64 = row.try_get("not_before")?;
            Ok((rows::task(row)?, until <= now))
        })
        .collect()
}

/// Whoever holds one of them now is about to change it; it is left out.
pub(super) async fn offer_again(
    database: &Database,
    tasks: &[TaskId],
    why: &str,
) -> StoreResult<usize> {
    let mut unit = Unit::of(database);
    unit.hold(tasks.iter().copied(), Busy::Skip).await?;
    let mut offered = 0;
    for task in tasks {
        if let Some(held) = unit.held(*task) {
            offered += usize::from(held.offer_again((ACTOR, why))? == Cas::Applied(()));
        }
    }
    unit.commit().await?;
    Ok(offered)
}
