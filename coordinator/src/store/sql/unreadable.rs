//! Rows that this version can't decode: a word of a newer version, damaged JSON, a number out of
//! range.
//!
//! Such a row stops nobody but itself. Whoever reads many rows skips it; a metric counts that each
//! time, and the log names it once. Whoever asks for one row gets an error that names it. A list
//! with a limit leaves out for a while what could not be decoded lately, so that such rows don't
//! take the places of others, and nobody tries to claim one again and again.

use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lru::LruCache;
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::rows::to_json;
use super::{Database, Dialect};
use crate::store::{StoreError, StoreResult};

/// Most rows that are remembered; more are logged again.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(1024).unwrap();
/// How long a row is left out of lists before it is tried again: somebody may have mended it.
const LEFT_OUT: Duration = Duration::from_mins(1);
/// How often a list is read anew without the rows that could not be decoded.
const READS: usize = 8;

/// A table and the column that names a row of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Table {
    pub(super) name: &'static str,
    id: &'static str,
}

pub(super) const TASKS: Table = Table::new("tasks", "id");
/// Named by their task.
pub(super) const ATTEMPTS: Table = Table::new("attempts", "task");
pub(super) const CHECKPOINTS: Table = Table::new("checkpoints", "task");
pub(super) const DEPENDENCIES: Table = Table::new("task_dependencies", "task");
pub(super) const ISSUES: Table = Table::new("issue_dependencies", "task");
pub(super) const NAMES: Table = Table::new("repository_names", "name");
pub(super) const EVENTS: Table = Table::new("task_events", "id");
pub(super) const FOLLOW_UPS: Table = Table::new("follow_ups", "comment");
pub(super) const LOGS: Table = Table::new("task_logs", "id");
pub(super) const TRIGGERS: Table = Table::new("task_triggers", "name");
pub(super) const SWEEPS: Table = Table::new("sweeps", "name");
pub(super) const DEFERRED: Table = Table::new("deferred_deliveries", "id");
pub(super) const OUTBOX: Table = Table::new("outbox", "id");
pub(super) const AGENTS: Table = Table::new("agents", "id");
pub(super) const PAUSES: Table = Table::new("pauses", "name");
/// Lanes are groups of tasks, named by their repository.
pub(super) const LANES: Table = Table::new("tasks", "repository");

impl Table {
    const fn new(name: &'static str, id: &'static str) -> Self {
        Self { name, id }
    }

    fn id_of(self, row: &AnyRow) -> String {
        let text = row.try_get::<String, _>(self.id);
        let number = || row.try_get::<i64, _>(self.id).map(|id| id.to_string());
        text.or_else(|_| number())
            .unwrap_or_else(|_| "without a readable id".to_owned())
    }
}

/// An error about a row with the row's table and id.
pub(super) fn named(table: Table, id: &str, error: StoreError) -> StoreError {
    match error {
        StoreError::Corrupt(why) => {
            StoreError::Corrupt(format!("table {}, row {id}: {why}", table.name))
        }
        other => other,
    }
}

/// Decodes the row that was asked for; an error names it.
pub(super) fn one<T>(
    table: Table,
    id: impl std::fmt::Display,
    decoded: StoreResult<T>,
) -> StoreResult<T> {
    decoded.map_err(|error| named(table, &id.to_string(), error))
}

/// The rows that could not be decoded lately. Clones share it.
#[derive(Debug, Clone)]
pub(super) struct Unreadable(Arc<Mutex<LruCache<(&'static str, String), Instant>>>);

impl Default for Unreadable {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(LruCache::new(REMEMBERED))))
    }
}

impl Unreadable {
    /// True when the row was not remembered before.
    fn remember(&self, table: Table, id: &str, now: Instant) -> bool {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        rows.put((table.name, id.to_owned()), now).is_none()
    }

    /// The ids of those of the tables that are left out of lists.
    fn left_out(&self, tables: &[Table], now: Instant) -> Vec<String> {
        let rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_left_out = |((table, _), since): &(&(&'static str, String), &Instant)| {
            tables.iter().any(|it| it.name == *table)
                && now.saturating_duration_since(**since) < LEFT_OUT
        };
        let left_out = rows.iter().filter(is_left_out);
        left_out.map(|((_, id), _)| id.clone()).collect()
    }
}

/// What a list leaves out, as the value of a parameter; nothing for most of the time.
#[derive(Debug, Clone)]
pub(super) struct LeftOut(pub(super) Option<String>);

impl LeftOut {
    /// A further condition on a column, whose parameter has that number.
    pub(super) fn condition(&self, dialect: Dialect, column: &str, parameter: usize) -> String {
        match (&self.0, dialect) {
            (None, _) => String::new(),
            (Some(_), Dialect::Postgres) => format!(
                " AND {column} <> ALL (ARRAY(SELECT json_array_elements_text(${parameter}::json)))"
            ),
            (Some(_), Dialect::Sqlite) => {
                format!(" AND {column} NOT IN (SELECT value FROM json_each(${parameter}))")
            }
        }
    }
}

impl Database {
    /// Counts that a row can't be decoded, and logs it the first time.
    pub(super) fn skip(&self, table: Table, id: &str, error: &StoreError) {
        let skipped = &self.metrics.unreadable_rows;
        skipped.with_label_values(&[table.name]).inc();
        if self.unreadable.remember(table, id, Instant::now()) {
            tracing::error!(
                table = table.name,
                row = id,
                %error,
                "a row can't be read: it is left out until it is mended, or a version that knows \
                 what it says is started"
            );
        }
    }

    /// Decodes the rows that can be decoded, and skips the others.
    pub(super) fn readable<T>(
        &self,
        table: Table,
        rows: &[AnyRow],
        decode: impl Fn(&AnyRow) -> StoreResult<T>,
    ) -> Vec<T> {
        let decoded = rows.iter().filter_map(|row| {
            decode(row)
                .inspect_err(|error| self.skip(table, &table.id_of(row), error))
                .ok()
        });
        decoded.collect()
    }

    /// What lists of the tables leave out now.
    pub(super) fn left_out(&self, tables: &[Table]) -> StoreResult<LeftOut> {
        let ids = self.unreadable.left_out(tables, Instant::now());
        let ids = (!ids.is_empty()).then_some(ids);
        Ok(LeftOut(ids.map(|ids| to_json(&ids)).transpose()?))
    }

    /// Reads a list of tasks that has a limit: rows that can't be decoded take nobody's place.
    pub(super) async fn tasks_around<T, F>(
        &self,
        fetch: impl Fn(LeftOut) -> F,
        decode: impl Fn(&AnyRow) -> StoreResult<T>,
    ) -> StoreResult<Vec<T>>
    where
        F: Future<Output = StoreResult<Vec<AnyRow>>>,
    {
        let mut reads = 1;
        loop {
            let rows = fetch(self.left_out(&[TASKS])?).await?;
            let decoded = self.readable(TASKS, &rows, &decode);
            if decoded.len() == rows.len() || reads == READS {
                return Ok(decoded);
            }
            reads += 1;
        }
    }
}

/// Adds the parameter of what is left out, where there is one.
macro_rules! bind_left_out {
    ($query:expr, $left_out:expr) => {{
        let query = $query;
        match $left_out.0 {
            Some(ids) => query.bind(ids),
            None => query,
        }
    }};
}
pub(super) use bind_left_out;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_new_once_and_left_out_for_a_while() {
        let (unreadable, start) = (Unreadable::default(), Instant::now());
        assert!(unreadable.remember(TASKS, "a", start));
        assert!(unreadable.remember(OUTBOX, "a", start));
        assert_eq!(unreadable.left_out(&[TASKS], start), ["a"]);
        let later = start + LEFT_OUT;
        assert!(unreadable.left_out(&[TASKS], later).is_empty());
        assert!(!unreadable.remember(TASKS, "a", later));
        assert_eq!(unreadable.left_out(&[TASKS], later), ["a"]);
    }

    #[test]
    fn no_more_rows_are_remembered_than_there_is_room_for() {
        let (unreadable, now) = (Unreadable::default(), Instant::now());
        for id in 0..=REMEMBERED.get() {
            assert!(unreadable.remember(TASKS, &id.to_string(), now));
        }
        let left_out = unreadable.left_out(&[TASKS], now);
        assert_eq!(left_out.len(), REMEMBERED.get());
        assert!(!left_out.contains(&"0".to_owned()));
    }
}
