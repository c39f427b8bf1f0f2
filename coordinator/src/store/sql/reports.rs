//! Reports of agents, many in one transaction.

use std::collections::BTreeSet;

use patchfleet_domain::{TaskState, Usage};
use patchfleet_telemetry::Metrics;

use super::unit::{Busy, Unit};
use super::{Database, spending};
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
    let used = unit.take_usages();
    if !used.is_empty() {
        spending::settle(&mut unit, &used).await?;
    }
    unit.commit().await?;
    for (_, usage) in &used {
        count(&database.metrics, usage);
    }
    Ok(applied)
}

/// Counts what a call of a model used.
fn count(metrics: &Metrics, usage: &Usage) {
    let of = [usage.provider.as_str(), usage.model.as_str()];
    metrics.model_calls.with_label_values(&of).inc();
    for (class, tokens) in [
        ("input", usage.input_tokens),
        ("cache_read", usage.cache_read_tokens),
        ("cache_write", usage.cache_write_tokens),
        ("output", usage.output_tokens),
    ] {
        let tokens_of = metrics
            .model_tokens
            .with_label_values(&[of[0], of[1], class]);
        tokens_of.inc_by(tokens);
    }
    if let Some(cost) = usage.cost {
        metrics
            .model_cost_micros
            .with_label_values(&of)
            .inc_by(cost.0);
    }
}

fn apply(unit: &mut Unit<'_>, reports: &[Report]) -> StoreResult<Vec<Cas>> {
    let apply = |report: &Report| match unit.held(report.work.task) {
        Some(held) => held.report(report),
        None => Ok(Cas::Stale),
    };
    reports.iter().map(apply).collect()
}
