//! Replicas tell each other that something changed, by PostgreSQL's `LISTEN` and `NOTIFY`.
//!
//! A hint, no more: one that is lost costs the second until the next poll. Notifications are
//! committed one after the other over the whole server (PostgreSQL's documentation, `NOTIFY`), so
//! no transaction that does something carries one: a task of each process tells of its commits, a
//! hundred times a second at most. The listener's library loses notifications silently while it
//! connects again, so every connection begins with a look at everything.

use std::sync::Arc;
use std::time::Duration;

use sqlx::postgres::PgListener;
use tokio::sync::watch;
use uuid::Uuid;

use super::Database;
use crate::store::StoreResult;

const CHANNEL: &str = "patchfleet";
/// Between two notifications of one process.
const PAUSE: Duration = Duration::from_millis(10);
/// Before a listener that failed connects again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a connection may be silent before it is asked whether it is there, and for the answer.
const SILENCE: Duration = Duration::from_secs(10);

/// Listens until the future is dropped; the first connection is there when this returns.
pub(super) async fn listener(
    url: &str,
    own: Uuid,
    changed: watch::Sender<u64>,
) -> StoreResult<impl Future<Output = ()> + use<>> {
    let mut connected = Some(connect(url).await?);
    let url = url.to_owned();
    Ok(async move {
        loop {
            let listened = match connected.take() {
                Some(listener) => listen(listener, own, &changed).await,
                None => connect(&url)
                    .await
                    .map(|listener| connected = Some(listener)),
            };
            if let Err(error) = listened {
                tracing::warn!(%error, "other replicas are not heard; polling until they are");
                tokio::time::sleep(AGAIN).await;
            }
        }
    })
}

async fn connect(url: &str) -> Result<PgListener, sqlx::Error> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

async fn listen(
    mut listener: PgListener,
    own: Uuid,
    changed: &watch::Sender<u64>,
) -> Result<(), sqlx::Error> {
    let own = own.to_string();
    changed.send_modify(|count| *count += 1);
    loop {
        let Ok(notification) = tokio::time::timeout(SILENCE, listener.try_recv()).await else {
            is_there(&mut listener).await?;
            continue;
        };
        // Nothing: the connection was lost, and what was said meanwhile with it.
        let notification = notification?;
        if notification.is_none_or(|it| it.payload() != own) {
            changed.send_modify(|count| *count += 1);
        }
    }
}

/// Asks whether the connection is there: of one that the network forgot nothing would ever be heard.
async fn is_there(listener: &mut PgListener) -> Result<(), sqlx::Error> {
    let asked = sqlx::query("SELECT 1").execute(listener);
    let answer = tokio::time::timeout(SILENCE, asked).await;
    answer.unwrap_or(Err(sqlx::Error::PoolTimedOut)).map(|_| ())
}

/// Tells the other replicas of this one's commits, until the future is dropped.
pub(super) async fn announce(
    database: Arc<Database>,
    own: Uuid,
    mut committed: watch::Receiver<u64>,
) {
    // Nobody waits for the disk because of a hint.
    let text = "SELECT set_config('synchronous_commit', 'off', true), pg_notify($1, $2)::text";
    while committed.changed().await.is_ok() {
        let told = sqlx::query(text).bind(CHANNEL).bind(own.to_string());
        if let Err(error) = told.execute(&database.pool).await {
            tracing::debug!(%error, "other replicas do not hear of a change");
        }
        tokio::time::sleep(PAUSE).await;
    }
}
