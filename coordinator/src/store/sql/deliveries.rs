//! Deliveries: recorded once, with everything they lead to, in one transaction.

use std::collections::BTreeSet;

use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::Database;
use super::acts::do_all;
use super::rows::to_json;
use super::rowset::{self, big, plain, row};
use super::unit::Unit;
use crate::store::{Act, Delivery, Recorded, StoreResult};

pub(super) async fn seen(database: &Database, id: &str) -> StoreResult<bool> {
    let count: i64 = sqlx::query_scalar("SELECT COUNT(*) FROM deliveries WHERE id = $1")
        .bind(id)
        .fetch_one(&database.readers)
        .await?;
    Ok(count > 0)
}

row! {
    DeliveryRow {
        id: String => "text",
        event: String => "text",
        action: Option<String> => "text",
        repository: Option<String> => "text",
        issue: Option<i64> => "bigint",
        received_at: i64 => "bigint",
    }
}

/// True of rows `r` of deliveries of which no earlier one of the issue is deferred.
const HAS_ITS_TURN: &str = "NOT EXISTS (SELECT 1 FROM deferred_deliveries d \
     WHERE d.repository = r.repository AND d.issue = r.issue AND d.given_up_at IS NULL)";

/// A delivery with what it leads to.
pub(super) type Record = (Delivery, Vec<Act>);

/// Records deliveries in their order, all in one transaction.
pub(super) async fn record_all(
    database: &Database,
    records: &[Record],
) -> StoreResult<Vec<Recorded>> {
    let mut unit = Unit::of(database);
    let mut unknown = insert(&mut unit, records).await?;
    let behind = behind(&mut unit, records, &unknown).await?;
    // Said twice in one batch, a delivery counts once.
    let new: Vec<_> = records
        .iter()
        .map(|(delivery, acts)| unknown.remove(&delivery.id).then_some(acts.as_slice()))
        .collect();
    let acts: Vec<_> = new.iter().flatten().copied().flatten().collect();
    let mut acted = do_all(&mut unit, &acts).await?.into_iter();
    unit.commit().await?;
    let recorded = new
        .into_iter()
        .zip(records)
        .map(|(acts, (delivery, _))| match acts {
            Some(acts) => Recorded::New(acted.by_ref().take(acts.len()).collect()),
            None if behind.contains(&delivery.id) => Recorded::Behind,
            None => Recorded::Duplicate,
        });
    Ok(recorded.collect())
}

/// Keeps the deliveries that have their turn; returns the ids of those that were not known.
async fn insert(unit: &mut Unit<'_>, records: &[Record]) -> StoreResult<BTreeSet<String>> {
    let received_at = unit.now().await?.timestamp_micros();
    let rows = records
        .iter()
        .map(|(delivery, _)| row_of_delivery(delivery, received_at));
    let mut rows: Vec<_> = rows.collect();
    // In one order everywhere, so that two transactions never wait for each other.
    rows.sort_by(|a, b| a.id.cmp(&b.id));
    let found = insert_new_if(unit, (HAS_ITS_TURN, "deliveries", "id"), &rows).await?;
    found.iter().map(|row| Ok(row.try_get("id")?)).collect()
}

/// Of those that were not kept, the ids that are not known all the same: an earlier delivery of the
/// issue is deferred.
async fn behind(
    unit: &mut Unit<'_>,
    records: &[Record],
    kept: &BTreeSet<String>,
) -> StoreResult<BTreeSet<String>> {
    let ordered = records.iter().map(|(delivery, _)| delivery);
    let ordered = ordered.filter(|it| it.issue.is_some() && !kept.contains(&it.id));
    let mut left: BTreeSet<_> = ordered.map(|it| it.id.clone()).collect();
    if left.is_empty() {
        return Ok(left);
    }
    let text = format!(
        "SELECT id FROM deliveries WHERE id {}",
        unit.dialect.among()
    );
    let known = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(to_json(&left)?)
        .fetch_all(unit.sql().await?)
        .await?;
    for row in &known {
        left.remove(&row.try_get::<String, _>("id")?);
    }
    Ok(left)
}

/// Keeps the id of one delivery, whoever waits before it; false when it was known.
pub(super) async fn keep(unit: &mut Unit<'_>, delivery: &Delivery) -> StoreResult<bool> {
    let received_at = unit.now().await?.timestamp_micros();
    let row = row_of_delivery(delivery, received_at);
    let kept = insert_new(unit, ("deliveries", "id"), &[row]).await?;
    Ok(!kept.is_empty())
}

fn row_of_delivery(delivery: &Delivery, received_at: i64) -> DeliveryRow {
    DeliveryRow {
        id: delivery.id.clone(),
        event: plain(&delivery.event),
        action: delivery.action.as_deref().map(plain),
        repository: delivery.repository.as_ref().map(ToString::to_string),
        issue: delivery.issue.map(|issue| big(issue.0)),
        received_at,
    }
}

/// Inserts what is not there yet; returns a column of what was inserted.
pub(super) async fn insert_new<R: rowset::Row>(
    unit: &mut Unit<'_>,
    (into, column): (&str, &str),
    rows: &[R],
) -> StoreResult<Vec<AnyRow>> {
    insert_new_if(unit, ("1 = 1", into, column), rows).await
}

/// The same for those rows `r` of which something is true.
async fn insert_new_if<R: rowset::Row>(
    unit: &mut Unit<'_>,
    (condition, into, column): (&str, &str, &str),
    rows: &[R],
) -> StoreResult<Vec<AnyRow>> {
    let text = rowset::insert_text::<R>(unit.dialect, into);
    let text = format!("{text} AND {condition} ON CONFLICT DO NOTHING RETURNING {column}");
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(to_json(&rows)?)
        .fetch_all(unit.sql().await?)
        .await?;
    Ok(found)
}
