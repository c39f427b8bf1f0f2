//! Connections at hand: those whose last statement has just ended well.
//!
//! The pool asks every connection that is given back whether it is still there. For one that may
//! have been left halfway that is right. For one that has just answered it is one more round trip, in
//! the very moment in which the next statement comes: an analysis is followed by a claim.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use sqlx::pool::PoolConnection;
use sqlx::{Any, AnyPool};

use super::Sql;
use super::connect::TRUSTED;
use super::patience::Patience;

/// One of so many connections may be at hand, so that the pool has enough for all else.
const SHARE: u32 = 4;
/// Most that are: one for an analysis and one for the claim that follows it.
const MOST: u32 = 2;
/// After so long a connection is given back, so that it grows no older than the pool allows.
const KEPT: Duration = Duration::from_mins(1);

/// The connections at hand. Clones share them.
#[derive(Debug, Clone)]
pub(super) struct Warm {
    pool: AnyPool,
    idle: Arc<Mutex<Vec<Connection>>>,
    patience: Patience,
}

/// A connection outside of any transaction.
#[derive(Debug)]
pub(super) struct Connection {
    pooled: PoolConnection<Any>,
    taken: Instant,
    used: Instant,
}

impl Connection {
    pub(super) fn sql(&mut self) -> &mut Sql {
        &mut self.pooled
    }
}

impl Warm {
    pub(super) fn new(pool: AnyPool, patience: Patience) -> Self {
        Self {
            pool,
            idle: Arc::default(),
            patience,
        }
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Connection>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that was at hand, or one of the pool's.
    pub(super) async fn acquire(&self) -> sqlx::Result<Connection> {
        let idle = self.lock().pop();
        if let Some(warm) = idle {
            if warm.used.elapsed() < TRUSTED {
                return Ok(warm);
            }
            // Nobody knows whether it is still there when it is given back.
            self.patience.suspect();
        }
        let pooled = self.pool.acquire().await?;
        let now = Instant::now();
        Ok(Connection {
            pooled,
            taken: now,
            used: now,
        })
    }

    /// Keeps one at hand whose statement ended well; any other is to be dropped.
    pub(super) fn keep(&self, mut connection: Connection) {
        let most = (self.pool.options().get_max_connections() / SHARE).min(MOST);
        let mut idle = self.lock();
        let has_room = u32::try_from(idle.len()).is_ok_and(|count| count < most);
        if has_room && connection.taken.elapsed() < KEPT {
            connection.used = Instant::now();
            idle.push(connection);
        }
    }
}
