//! Deferred deliveries: taken like entries of the outbox, the first of each issue, under a lease.

use std::time::Duration;

use patchfleet_domain::{IssueNumber, Timestamp};
use sqlx::Row as _;
use sqlx::any::AnyRow;

use super::acts::do_all;
use super::deliveries::keep;
use super::rows::{moment_of, number, word};
use super::rowset::{big, plain};
use super::unit::Unit;
use super::unreadable::DEFERRED;
use super::{Database, micros};
use crate::store::{Acted, Cas, Deferral, DeferredDelivery, Judgement, StoreError, StoreResult};

/// How long a delivery whose row can't be decoded is put off each time, and for how long in all: an
/// upgrade of replicas one after the other costs nothing.
const PUT_OFF: Duration = Duration::from_mins(1);
const PUT_OFF_IN_ALL: Duration = Duration::from_hours(24);

/// Keeps a delivery for later; false when it is known already.
pub(super) async fn defer(database: &Database, deferral: &Deferral) -> StoreResult<bool> {
    let mut unit = Unit::of(database);
    // What was given up may be delivered again, and is judged anew.
    let over = "DELETE FROM deferred_deliveries WHERE delivery = $1 AND given_up_at IS NOT NULL";
    sqlx::query(over)
        .bind(&deferral.delivery.id)
        .execute(unit.sql().await?)
        .await?;
    if !keep(&mut unit, &deferral.delivery).await? {
        return Ok(false);
    }
    let now = unit.now().await?.timestamp_micros();
    let (repository, issue) = &deferral.subject;
    let done = sqlx::query(
        "INSERT INTO deferred_deliveries \
         (delivery, event, repository, issue, payload, received_at, next_at, error) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT DO NOTHING",
    )
    .bind(&deferral.delivery.id)
    .bind(plain(&deferral.delivery.event))
    .bind(repository.as_str())
    .bind(big(issue.0))
    .bind(plain(&deferral.payload))
    .bind(now.saturating_sub(micros(deferral.received)))
    .bind(now.saturating_add(micros(deferral.after)))
    .bind(plain(&deferral.error))
    .execute(unit.sql().await?)
    .await?;
    unit.commit().await?;
    Ok(done.rows_affected() > 0)
}

/// How many wait to be judged.
pub(super) async fn waiting(database: &Database) -> StoreResult<u64> {
    let text = "SELECT COUNT(*) FROM deferred_deliveries WHERE given_up_at IS NULL";
    let count: i64 = sqlx::query_scalar(text)
        .fetch_one(&database.readers)
        .await?;
    Ok(u64::try_from(count).unwrap_or(0))
}

/// Takes the first of each issue, if its time has come.
pub(super) async fn take(
    database: &Database,
    limit: u32,
    hold: Duration,
) -> StoreResult<Vec<DeferredDelivery>> {
    let mut unit = Unit::of(database);
    let now = unit.now().await?;
    let micros_now = now.timestamp_micros();
    let text = format!(
        "SELECT id, delivery, event, repository, issue, payload, tries, received_at \
         FROM deferred_deliveries d \
         WHERE given_up_at IS NULL AND next_at <= $1 AND held_until <= $2 AND NOT EXISTS (\
             SELECT 1 FROM deferred_deliveries e \
             WHERE e.repository = d.repository AND e.issue = d.issue AND e.given_up_at IS NULL \
             AND (e.received_at < d.received_at \
                 OR (e.received_at = d.received_at AND e.id < d.id))) \
         ORDER BY received_at, id LIMIT {limit}{}",
        unit.dialect.lock_free()
    );
    let found = sqlx::query(sqlx::AssertSqlSafe(text))
        .bind(micros_now)
        .bind(micros_now)
        .fetch_all(unit.sql().await?)
        .await?;
    let mut taken = Vec::with_capacity(found.len());
    for row in &found {
        match decode(row, now) {
            Ok(deferred) => {
                let held_until = micros_now.saturating_add(micros(hold));
                mark_taken(&mut unit, deferred.id, held_until).await?;
                taken.push(deferred);
            }
            Err(error) => put_off(&mut unit, row.try_get("id")?, &error).await?,
        }
    }
    unit.commit().await?;
    Ok(taken)
}

fn decode(row: &AnyRow, now: Timestamp) -> StoreResult<DeferredDelivery> {
    let received = moment_of(row, "received_at")?;
    Ok(DeferredDelivery {
        id: row.try_get("id")?,
        delivery: row.try_get("delivery")?,
        event: row.try_get("event")?,
        repository: word(row, "repository")?,
        issue: IssueNumber(number(row, "issue")?),
        payload: row.try_get("payload")?,
        tries: number::<u32>(row, "tries")?.saturating_add(1),
        waiting_for: (now - received).to_std().unwrap_or_default(),
    })
}

async fn mark_taken(unit: &mut Unit<'_>, id: i64, held_until: i64) -> StoreResult<()> {
    sqlx::query("UPDATE deferred_deliveries SET held_until = $1, tries = tries + 1 WHERE id = $2")
        .bind(held_until)
        .bind(id)
        .execute(unit.sql().await?)
        .await?;
    Ok(())
}

/// Tries a row later that can't be decoded: another replica may be a version that knows what it
/// says. It is given up when it has been for so long that nobody does.
async fn put_off(unit: &mut Unit<'_>, id: i64, error: &StoreError) -> StoreResult<()> {
    unit.database().skip(DEFERRED, &id.to_string(), error);
    let now = unit.now().await?.timestamp_micros();
    sqlx::query(
        "UPDATE deferred_deliveries SET tries = tries + 1, next_at = $1, error = $2, \
         given_up_at = CASE WHEN received_at <= $3 THEN $4 END WHERE id = $5",
    )
    .bind(now.saturating_add(micros(PUT_OFF)))
    .bind(plain(&error.to_string()))
    .bind(now.saturating_sub(micros(PUT_OFF_IN_ALL)))
    .bind(now)
    .bind(id)
    .execute(unit.sql().await?)
    .await?;
    Ok(())
}

/// Does what was decided about a delivery, unless somebody else has taken it since.
pub(super) async fn settle(
    database: &Database,
    deferred: &DeferredDelivery,
    judgement: &Judgement,
) -> StoreResult<Cas<Vec<Acted>>> {
    let mut unit = Unit::of(database);
    let now = unit.now().await?.timestamp_micros();
    let own = (deferred.id, i64::from(deferred.tries));
    let query = match judgement {
        Judgement::Judged(_) => sqlx::query(
            "DELETE FROM deferred_deliveries WHERE id = $1 AND tries = $2 AND given_up_at IS NULL",
        )
        .bind(own.0)
        .bind(own.1),
        Judgement::Again { after, error } => sqlx::query(
            "UPDATE deferred_deliveries SET next_at = $1, held_until = 0, error = $2 \
             WHERE id = $3 AND tries = $4 AND given_up_at IS NULL",
        )
        .bind(now.saturating_add(micros(*after)))
        .bind(plain(error))
        .bind(own.0)
        .bind(own.1),
        Judgement::GivenUp { error } => sqlx::query(
            "UPDATE deferred_deliveries SET given_up_at = $1, held_until = 0, error = $2 \
             WHERE id = $3 AND tries = $4 AND given_up_at IS NULL",
        )
        .bind(now)
        .bind(plain(error))
        .bind(own.0)
        .bind(own.1),
    };
    let done = query.execute(unit.sql().await?).await?;
    if done.rows_affected() == 0 {
        return Ok(Cas::Stale);
    }
    let acted = match judgement {
        Judgement::Judged(acts) => do_all(&mut unit, &acts.iter().collect::<Vec<_>>()).await?,
        Judgement::Again { .. } => Vec::new(),
        Judgement::GivenUp { .. } => {
            // Whoever has it delivered again has it judged.
            sqlx::query("DELETE FROM deliveries WHERE id = $1")
                .bind(&deferred.delivery)
                .execute(unit.sql().await?)
                .await?;
            Vec::new()
        }
    };
    unit.commit().await?;
    Ok(Cas::Applied(acted))
}
