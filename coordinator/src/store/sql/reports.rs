//! Reports of agents, many in one transaction.

use std::collections::BTreeSet;

use patchfleet_domain::TaskState;

use super::Database;
use super::unit::{Busy, Unit};
use crate::store::{Cas, Report, StoreResult};

/// Reports that belong together, in their order.
pub(super) type Reports = Vec<Report>;

pub(super) async fn apply_all(
    database: &Database,
    batch: &[Reports],
) -> StoreResult<Vec<Vec<Cas>>> {
    let mut unit = Unit::of(database);
    let tasks: BTreeSet<_> = batch.iter().flatten().map(|it| it.work.task).collect();
    unit.recall(&tasks, TaskState::has_live_attempt).await?;
    unit.hold(tasks, Busy::Wait).await?;
    let mut apply = |report: &Report| match unit.held(report.work.task) {
        Some(held) => held.report(report),
        None => Ok(Cas::Stale),
    };
    let applied: Vec<Vec<Cas>> = batch
        .iter()
        .map(|reports| reports.iter().map(&mut apply).collect())
        .collect::<StoreResult<_>>()?;
    unit.commit().await?;
    Ok(applied)
}
