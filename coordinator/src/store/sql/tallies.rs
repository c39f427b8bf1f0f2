//! How many tasks are in each state, without counting them: the history tells each change once, and
//! what is new of it is added up now and then.
//!
//! A row of history gets its number before it is committed, so a later one may be seen first. What
//! is not older by `lag` than the oldest open transaction is left for the next time: clocks may differ
//! by so much, and no row of that transaction can be older.

use std::collections::BTreeMap;
use std::time::Duration;

use patchfleet_domain::TaskState;
use sqlx::Row as _;

use super::rows::{word, word_or_none};
use super::unit::Unit;
use super::{Database, micros};
use crate::store::StoreResult;

/// Rows of history that are added up in one transaction.
const MOST: u32 = 20_000;

/// Adds up some of what is new; true when there is more. One replica does it at a time.
pub(super) async fn add_up(database: &Database, lag: Duration) -> StoreResult<bool> {
    let mut unit = Unit::of(database);
    sqlx::query("INSERT INTO tallies (name, n) VALUES ('counted_to', 0) ON CONFLICT DO NOTHING")
        .execute(unit.sql().await?)
        .await?;
    let text = format!(
        "SELECT n FROM tallies WHERE name = 'counted_to'{}",
        unit.dialect.lock_free()
    );
    let counted: Option<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
        .fetch_optional(unit.sql().await?)
        .await?;
    let Some(counted) = counted else {
        return Ok(false);
    };
    let Some(upto) = end_of_new(&mut unit, counted, lag).await? else {
        return Ok(false);
    };
    for (state, change) in changes(&mut unit, (counted, upto)).await? {
        sqlx::query(
            "INSERT INTO tallies (name, n) VALUES ($1, $2) \
             ON CONFLICT (name) DO UPDATE SET n = tallies.n + excluded.n",
        )
        .bind(state.as_str())
        .bind(change)
        .execute(unit.sql().await?)
        .await?;
    }
    sqlx::query("UPDATE tallies SET n = $1 WHERE name = 'counted_to'")
        .bind(upto)
        .execute(unit.sql().await?)
        .await?;
    unit.commit().await?;
    Ok(upto > counted)
}

/// The number of the last row that is old enough, of those that come next. It is one that can be
/// seen: of the numbers between it and the first that is too young, some may still be to come.
async fn end_of_new(unit: &mut Unit<'_>, counted: i64, lag: Duration) -> StoreResult<Option<i64>> {
    let text = format!(
        "WITH next AS (SELECT id, at FROM task_events WHERE id > $2 ORDER BY id LIMIT {MOST}) \
         SELECT MAX(id) FROM next WHERE id < \
         COALESCE((SELECT MIN(id) FROM next WHERE at > $1), {most})",
        most = i64::MAX
    );
    let mut young = unit.now().await?.timestamp_micros();
    if let Some(text) = unit.dialect.oldest_transaction() {
        let oldest: Option<i64> = sqlx::query_scalar(text)
            .fetch_one(unit.sql().await?)
            .await?;
        young = oldest.map_or(young, |oldest| oldest.min(young));
    }
    let young = young.saturating_sub(micros(lag));
    let upto: Option<i64> = sqlx::query_scalar(sqlx::AssertSqlSafe(text))
        .bind(young)
        .bind(counted)
        .fetch_one(unit.sql().await?)
        .await?;
    Ok(upto.filter(|upto| *upto > counted))
}

async fn changes(
    unit: &mut Unit<'_>,
    (after, upto): (i64, i64),
) -> StoreResult<BTreeMap<TaskState, i64>> {
    let found = sqlx::query(
        "SELECT from_state, to_state, COUNT(*) AS n FROM task_events \
         WHERE id > $1 AND id <= $2 AND to_state IS NOT NULL GROUP BY from_state, to_state",
    )
    .bind(after)
    .bind(upto)
    .fetch_all(unit.sql().await?)
    .await?;
    let mut changes = BTreeMap::new();
    for row in &found {
        let n: i64 = row.try_get("n")?;
        *changes.entry(word(row, "to_state")?).or_default() += n;
        if let Some(from) = word_or_none(row, "from_state")? {
            *changes.entry(from).or_default() -= n;
        }
    }
    Ok(changes)
}

/// As far as it was added up.
pub(super) async fn by_state(database: &Database) -> StoreResult<BTreeMap<TaskState, i64>> {
    let found = sqlx::query("SELECT name, n FROM tallies WHERE name <> 'counted_to'")
        .fetch_all(&database.readers)
        .await?;
    found
        .iter()
        .map(|row| Ok((word(row, "name")?, row.try_get("n")?)))
        .collect()
}
