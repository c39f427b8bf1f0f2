//! Reports of agents, many in one transaction.

use std::collections::BTreeSet;

use patchfleet_domain::TaskState;

use super::Database;
use super::unit::{Busy, Unit};
use crate::store::{Cas, Report, StoreResult};

/// Reports that belong together, in their order.
pub(super) type Reports = Vec<Report>;

/// What became of reports that belong together: an error when one of their tasks can't be decoded.
/// None of them counts then, and all may be said again.
pub(super) type Applied = StoreResult<Vec<Cas>>;

pub(super) async fn apply_all(database: &Database, batch: &[Reports]) -> StoreResult<Vec<Applied>> {
    let mut unit = Unit::of(database);
    let tasks: BTreeSet<_> = batch.iter().flatten().map(|it| it.work.task).collect();
    unit.recall(&tasks, TaskState::has_live_attempt).await?;
    unit.hold(tasks, Busy::Wait).await?;
    let mut applied = Vec::with_capacity(batch.len());
    for reports in batch {
        let readable = reports
            .iter()
            .try_for_each(|report| unit.readable(report.work.task));
        applied.push(match readable {
            Ok(()) => Ok(apply(&mut unit, reports)?),
            Err(error) => Err(error),
        });
    }
    unit.commit().await?;
    Ok(applied)
}

fn apply(unit: &mut Unit<'_>, reports: &[Report]) -> StoreResult<Vec<Cas>> {
    let apply = |report: &Report| match unit.held(report.work.task) {
        Some(held) => held.report(report),
        None => Ok(Cas::Stale),
    };
    reports.iter().map(apply).collect()
}
