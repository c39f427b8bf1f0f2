//! Reports of agents, many in one transaction.

use std::collections::BTreeSet;

use super::Database;
use super::unit::{Busy, Unit};
use crate::store::{Cas, Report, StoreError, StoreResult};

/// Reports that belong together, in their order.
pub(super) type Reports = Vec<Report>;

pub(super) async fn apply_all(
    database: &Database,
    batch: &[Reports],
) -> StoreResult<Vec<Vec<Cas>>> {
    let mut unit = Unit::of(database);
    let tasks: BTreeSet<_> = batch.iter().flatten().map(|it| it.work.task).collect();
    unit.recall(&tasks).await?;
    unit.hold(tasks, Busy::Wait).await?;
    let mut apply = |report: &Report| match unit.held(report.work.task) {
        Some(held) => held.report(report),
        None => Ok(Cas::Stale),
    };
    let applied: Vec<Vec<Cas>> = batch
        .iter()
        .map(|reports| reports.iter().map(&mut apply).collect())
        .collect::<StoreResult<_>>()?;
    if unit.assumes() && applied.iter().flatten().any(|cas| *cas == Cas::Stale) {
        // Nothing is written of it that could show a memory to be old.
        return Err(StoreError::Contended(
            "a report may only seem stale".to_owned(),
        ));
    }
    unit.commit().await?;
    Ok(applied)
}
