//! Replicas tell each other that something changed, by PostgreSQL's `LISTEN` and `NOTIFY`.
//!
//! A hint, no more: one that is lost costs the second until the next poll. Notifications are
//! committed one after the other over the whole server (PostgreSQL's documentation, `NOTIFY`), so
//! no transaction that does something carries one: a task of each process tells of its commits, a
//! hundred times a second at most. The listener's library loses notifications silently while it
//! connects again, so every connection begins with a look at everything.

use std::sync::Arc;
use std::time::Duration;

use sqlx::Executor as _;
use sqlx::postgres::PgListener;
use tokio::sync::watch;
use uuid::Uuid;

use super::{Database, advisory};
use crate::store::StoreResult;

const CHANNEL: &str = "patchfleet";
/// A name for `pg_stat_activity`, unless the address has one.
const NAMED: &str = "SELECT set_config('application_name', 'patchfleet', false) \
     WHERE current_setting('application_name') = ''";
/// Between two notifications of one process.
const PAUSE: Duration = Duration::from_millis(10);
/// Before a listener that failed connects again.
const AGAIN: Duration = Duration::from_secs(1);

/// How long a connection may be silent before it is asked whether it is there, and for the answer.
const SILENCE: Duration = Duration::from_secs(10);

/// Connects, shares the lock of the store and listens, in a session that does both until it is lost.
pub(super) async fn connect(url: &str) -> StoreResult<PgListener> {
    let mut listener = PgListener::connect(url).await?;
    // A new session has to share the lock as well.
    listener.eager_reconnect(false);
    listener.execute(NAMED).await?;
    advisory::share(&mut listener).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

/// Listens until the future is dropped, with this listener first and with others when it fails.
pub(super) async fn listen(
    listener: PgListener,
    url: String,
    own: Uuid,
    changed: watch::Sender<u64>,
) {
    let mut connected = Some(listener);
    loop {
        let heard = match connected.take() {
            Some(listener) => hear(listener, own, &changed).await,
            None => connect(&url)
                .await
                .map(|listener| connected = Some(listener)),
        };
        if let Err(error) = heard {
            tracing::warn!(
                %error,
                "other replicas are not heard, and the store's lock is not shared; polling, and \
                 trying again"
            );
            tokio::time::sleep(AGAIN).await;
        }
    }
}

/// Listens until the session is lost, and what was said meanwhile with it.
async fn hear(
    mut listener: PgListener,
    own: Uuid,
    changed: &watch::Sender<u64>,
) -> StoreResult<()> {
    let own = own.to_string();
    changed.send_modify(|count| *count += 1);
    loop {
        let Ok(notification) = tokio::time::timeout(SILENCE, listener.try_recv()).await else {
            is_there(&mut listener).await?;
            continue;
        };
        let Some(notification) = notification? else {
            return Ok(());
        };
        if notification.payload() != own {
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
