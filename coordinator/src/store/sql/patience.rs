//! Limits for a database that hangs: one that took the connection and does not answer.
//!
//! The server's own limits end what waits there for a lock. They are of no use when the server
//! stands still or the network swallows what is sent. Then TCP gives up after a quarter of an hour,
//! and until then the pool, which asks every connection that is given back whether it is there,
//! would keep its place and hand out no other. So every operation has a limit here, and where one was
//! broken off, connections that are given back are asked with a limit, too.

use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use sqlx::any::AnyPoolOptions;
use sqlx::{AnyConnection, Connection as _};
use tokio::time::Instant;

use crate::store::{StoreError, StoreResult};

/// How long an operation may take: longer than the server's limit for a statement, whose error says
/// more.
const OPERATION: Duration = Duration::from_secs(20);
/// How long a connection may take to say that it is there.
const PING: Duration = Duration::from_secs(2);
/// How long after an operation was broken off its connection may be given back.
const SUSPICION: Duration = Duration::from_secs(5);

/// The limits, and when one was last reached. Clones share that.
#[derive(Debug, Clone, Default)]
pub(super) struct Patience {
    broken_off: Arc<Mutex<Option<Instant>>>,
}

impl Patience {
    /// Does an operation within the limit. A caller that goes away breaks it off as well.
    pub(super) async fn bound<T>(
        &self,
        operation: impl Future<Output = StoreResult<T>>,
    ) -> StoreResult<T> {
        let mut operation = pin!(operation);
        // Dropped first: before the operation gives its connection back.
        let mut unfinished = Unfinished(Some(self));
        let done = tokio::time::timeout(OPERATION, operation.as_mut()).await;
        let Ok(done) = done else {
            let why = format!("it did not answer within {OPERATION:?}");
            return Err(StoreError::Unavailable(why));
        };
        unfinished.0 = None;
        done
    }

    /// Has connections that are given back soon tested with a limit.
    pub(super) fn suspect(&self) {
        let mut last = self
            .broken_off
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        *last = Some(Instant::now());
    }

    fn is_suspicious(&self) -> bool {
        let last = self
            .broken_off
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() < SUSPICION)
    }

    /// A pool that keeps no place for connections that hang.
    pub(super) fn watch(&self, pool: AnyPoolOptions) -> AnyPoolOptions {
        let patience = self.clone();
        pool.after_release(move |connection, _| {
            let is_suspicious = patience.is_suspicious();
            Box::pin(async move {
                if is_suspicious {
                    ping(connection).await?;
                }
                Ok(true)
            })
        })
    }
}

/// Asks a connection whether it is there, for as long as that takes where all is well.
pub(super) async fn ping(connection: &mut AnyConnection) -> sqlx::Result<()> {
    let answer = tokio::time::timeout(PING, connection.ping()).await;
    answer.unwrap_or_else(|_| {
        let hangs = std::io::Error::new(std::io::ErrorKind::TimedOut, "the connection hangs");
        Err(sqlx::Error::Io(hangs))
    })
}

/// An operation that is broken off when this is dropped.
struct Unfinished<'a>(Option<&'a Patience>);

impl Drop for Unfinished<'_> {
    fn drop(&mut self) {
        if let Some(patience) = self.0 {
            patience.suspect();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_operation_that_hangs_is_given_up_and_names_the_database() {
        let patience = Patience::default();
        let done = patience.bound(async { Ok(7) }).await;
        assert_eq!(done.unwrap(), 7);
        assert!(!patience.is_suspicious());
        let hangs = std::future::pending::<StoreResult<()>>();
        let error = patience.bound(hangs).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "the database is unavailable: it did not answer within 20s"
        );
        assert!(patience.is_suspicious());
        tokio::time::advance(SUSPICION).await;
        assert!(!patience.is_suspicious());
    }

    /// What tells when it is dropped whether it was suspected by then, as a connection would.
    struct Given<'a>(&'a Patience, &'a mut bool);

    impl Drop for Given<'_> {
        fn drop(&mut self) {
            *self.1 = self.0.is_suspicious();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_that_goes_away_has_the_connection_suspected_before_it_is_given_back() {
        let (patience, mut suspected) = (Patience::default(), false);
        let given = Given(&patience, &mut suspected);
        let operation = patience.bound(async move {
            let _given = given;
            std::future::pending::<StoreResult<()>>().await
        });
        let gone = tokio::time::timeout(Duration::from_secs(1), operation).await;
        assert!(gone.is_err());
        assert!(suspected);
    }
}
