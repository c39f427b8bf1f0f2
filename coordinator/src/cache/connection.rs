//! One connection for all, made again when it is lost.
//!
//! Connecting has a time limit of its own, as a TLS handshake takes longer than anybody waits for an
//! answer: it goes on when those who asked have given up, and the next ones find it done. Absent:
//! trying again by itself; the breaker in front decides when Redis is asked.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::{BoxFuture, Shared};
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, Client, RedisResult};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// How long a connection may take to be made, with TLS and authentication.
const CONNECT: Duration = Duration::from_secs(5);

/// A connection that is there, or is being made, or could not be made.
type Connecting = Shared<BoxFuture<'static, RedisResult<MultiplexedConnection>>>;

/// The connection of one process.
pub(super) struct Connection {
    client: Client,
    config: AsyncConnectionConfig,
    patience: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    current: Option<Connecting>,
    /// What makes a connection even when nobody waits for it.
    drivers: JoinSet<()>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// A connection that is made when it is first needed; nobody waits longer than that for it, nor
    /// for an answer on it.
    pub(super) fn new(client: Client, patience: Duration) -> Self {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            // Ours is the same for whatever is asked, and knows what it was that took so long.
            .set_response_timeout(None);
        Self {
            client,
            config,
            patience,
            state: Mutex::default(),
        }
    }

    /// Asks a question; nothing when there was no connection or no answer in time. A connection that
    /// broke or fell silent is forgotten, as the other side may be gone without a word, and the next
    /// question makes a new one; one that is still being made goes on.
    pub(super) async fn ask<T, F>(
        &self,
        question: impl Fn(MultiplexedConnection) -> F,
    ) -> Option<RedisResult<T>>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let current = self.current();
        let connected = timeout(self.patience, current.clone()).await.ok()?;
        let answer = match connected {
            Ok(connection) => timeout(self.patience, question(connection)).await.ok(),
            Err(error) => {
                self.forget(&current);
                return Some(Err(error));
            }
        };
        let is_lost = match &answer {
            None => true,
            Some(Err(error)) => error.is_unrecoverable_error(),
            Some(Ok(_)) => false,
        };
        if is_lost {
            self.forget(&current);
        }
        answer
    }

    fn current(&self) -> Connecting {
        let mut state = self.state();
        if let Some(current) = &state.current {
            return current.clone();
        }
        let (client, config) = (self.client.clone(), self.config.clone());
        let connecting = async move {
            let made = client.get_multiplexed_async_connection_with_config(&config);
            made.await
        };
        let connecting = connecting.boxed().shared();
        while state.drivers.try_join_next().is_some() {}
        state.drivers.spawn(connecting.clone().map(drop));
        state.current = Some(connecting.clone());
        connecting
    }

    fn forget(&self, lost: &Connecting) {
        let mut state = self.state();
        state.current.take_if(|current| current.ptr_eq(lost));
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
