//! The lock of a whole PostgreSQL store: coordinators share it, a copy of everything has it alone.
//!
//! A coordinator's lock is on the session that listens, and is acquired again with each new one: a
//! session that is lost costs nothing. A copy's is on a transaction, so that no pooler between keeps
//! it when the copy ends, and is asked for before what was copied is committed. The keys are two
//! numbers, ours and the schema's; those of sqlx' migrations and of this store's own transactions
//! are one, which PostgreSQL keeps apart.

use sqlx::postgres::PgListener;
use sqlx::{Connection as _, Executor as _, PgConnection};

use crate::store::{StoreError, StoreResult};

/// Acquires the lock for a session, or does not wait for it.
const SHARE: &str = "SELECT pg_try_advisory_lock_shared(1885760628, \
     hashtext(COALESCE(current_schema(), '')))";
/// Acquires it alone, until the transaction ends.
const ALONE: &str = "SELECT pg_try_advisory_xact_lock(1885760628, \
     hashtext(COALESCE(current_schema(), '')))";
/// The sessions that hold the lock.
const HOLDERS: &str = "SELECT pid, application_name, COALESCE(host(client_addr), 'a local socket') \
     FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND pid IN \
     (SELECT pid FROM pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 2 \
     AND database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
     AND classid = 1885760628) ORDER BY pid LIMIT 10";
/// Who else is there. Any session may be a coordinator's: a pooler, or the address, gives it
/// another name, and one of an earlier version has no lock.
const SESSIONS: &str = "SELECT pid, application_name, COALESCE(host(client_addr), 'a local socket') \
     FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() \
     AND usesysid IS NOT NULL ORDER BY pid LIMIT 10";
/// A session that waits between two tables of a copy is neither idle nor late.
const PATIENT: [&str; 3] = [
    "SET LOCAL idle_in_transaction_session_timeout = 0",
    "SET LOCAL statement_timeout = 0",
    "SET LOCAL application_name = 'patchfleet migrate'",
];

/// A session as `pg_stat_activity` shows it.
type Session = (i32, Option<String>, String);

/// Shares the lock, until the listener's session ends.
pub(super) async fn share(listener: &mut PgListener) -> StoreResult<()> {
    let shared: bool = sqlx::query_scalar(SHARE).fetch_one(&mut *listener).await?;
    if shared {
        return Ok(());
    }
    let holders: Vec<Session> = sqlx::query_as(HOLDERS).fetch_all(&mut *listener).await?;
    Err(StoreError::Unavailable(format!(
        "`patchfleet migrate` is copying it, which no coordinator may write to meanwhile ({}); \
         start again when it has ended",
        named(&holders)
    )))
}

/// The lock, held exclusively: no coordinator has its share of it.
#[derive(Debug)]
pub(in crate::store) struct Alone {
    connection: PgConnection,
}

/// What came of asking for the lock.
#[derive(Debug)]
pub(in crate::store) enum Attempt {
    /// The lock was acquired.
    Locked(Alone),
    /// Others are there: these.
    Held(String),
}

impl Alone {
    /// Acquires the lock when nobody else works with the database. Does not wait.
    pub(in crate::store) async fn attempt(url: &str) -> StoreResult<Attempt> {
        let mut connection = PgConnection::connect(url).await?;
        connection.execute("BEGIN").await?;
        for statement in PATIENT {
            connection.execute(statement).await?;
        }
        let locked: bool = sqlx::query_scalar(ALONE).fetch_one(&mut connection).await?;
        let others = if locked { SESSIONS } else { HOLDERS };
        let others: Vec<Session> = sqlx::query_as(others).fetch_all(&mut connection).await?;
        if locked && others.is_empty() {
            return Ok(Attempt::Locked(Self { connection }));
        }
        connection.close().await?;
        Ok(Attempt::Held(named(&others)))
    }

    /// Says whether the lock was there all the time: it ends with its transaction, and that with its
    /// session.
    pub(in crate::store) async fn verify(&mut self) -> StoreResult<()> {
        let asked = self.connection.execute("SELECT 1").await;
        asked.map_err(|error| {
            let lost = "the lock that keeps coordinators out was lost";
            StoreError::Unavailable(format!("{lost}: {error}"))
        })?;
        Ok(())
    }

    /// Releases the lock.
    pub(in crate::store) async fn release(self) -> StoreResult<()> {
        Ok(self.connection.close().await?)
    }
}

fn named(sessions: &[Session]) -> String {
    if sessions.is_empty() {
        return "a session that has just ended".to_owned();
    }
    let named = sessions.iter().map(|(pid, name, from)| {
        let name = name.as_deref().filter(|name| !name.is_empty());
        let name = name.unwrap_or("without a name");
        format!("session {pid} ({name}) from {from}")
    });
    named.collect::<Vec<_>>().join(", ")
}
