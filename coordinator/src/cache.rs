//! Redis: what is quicker there. Absent or away means slower, never wrong.
//!
//! Nothing is only here. A delivery that Redis knows is looked up in the store before it counts as
//! known; presence lies over what the store says of agents; a hint that is lost costs a poll; what
//! GitHub answered counts when GitHub says that it is still so; and buckets that can't be asked are
//! kept in this process instead. While Redis is away its calls are not made, which
//! [`patchfleet_resilience`] sees to, so that nobody waits for it twice.
//!
//! Absent: a cache of what the API reads from the store, which finds a task by its key in one round
//! trip; Redis would take one too (`docs/decisions/0008-redis.md`).

mod answers;
mod buckets;
mod deliveries;
mod fanout;
mod presence;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use patchfleet_resilience::{CallError, Failure, FailureKind, Policy, Remote};
use patchfleet_telemetry::Metrics;
use redis::aio::{ConnectionManager, ConnectionManagerConfig};
use redis::{Client, RedisError, RedisResult};

pub use buckets::{Buckets, Rate};
pub use fanout::run as fan_out;

/// How long an answer may take. Whoever is slower than the store is of no use.
const PATIENCE: Duration = Duration::from_millis(100);
/// The same where somebody wants to know why.
const CHECK_PATIENCE: Duration = Duration::from_secs(5);
/// How a Redis that fails is left alone.
const POLICY: Policy = Policy {
    tries: 1,
    base: Duration::ZERO,
    cap: Duration::ZERO,
    threshold: 3,
    rest: Duration::from_secs(1),
};

/// A Redis, if there is one. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Cache {
    redis: Option<Arc<Redis>>,
}

#[derive(Debug)]
struct Redis {
    client: Client,
    connection: Connection,
    remote: Remote,
    prefix: String,
    metrics: Metrics,
    /// What was asked last was not answered.
    is_away: AtomicBool,
}

/// A connection that is made again when it breaks.
#[derive(Clone)]
struct Connection(ConnectionManager);

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connection")
    }
}

/// Why Redis did not answer.
#[derive(Debug, thiserror::Error)]
enum Away {
    #[error(transparent)]
    Redis(#[from] RedisError),
    #[error("no answer within {PATIENCE:?}")]
    Slow,
}

impl Failure for Away {
    fn kind(&self) -> FailureKind {
        FailureKind::Transient { retry_after: None }
    }
}

impl Cache {
    /// A Redis at that address, whose keys begin with `prefix`. It is connected to when it is
    /// first asked, and need not be there.
    ///
    /// # Errors
    /// When the address is none of Redis.
    pub fn open(url: &str, prefix: &str, metrics: Metrics) -> Result<Self, InvalidRedis> {
        let wrong = |error: RedisError| InvalidRedis(error.category().to_owned());
        let client = Client::open(url).map_err(wrong)?;
        let config = ConnectionManagerConfig::new()
            .set_connection_timeout(Some(PATIENCE))
            .set_response_timeout(Some(PATIENCE))
            .set_number_of_retries(0)
            .set_max_delay(PATIENCE);
        let connection = ConnectionManager::new_lazy_with_config(client.clone(), config);
        let connection = Connection(connection.map_err(wrong)?);
        let redis = Redis {
            client,
            connection,
            remote: Remote::new("redis", POLICY),
            prefix: prefix.to_owned(),
            metrics,
            is_away: AtomicBool::new(false),
        };
        Ok(Self {
            redis: Some(Arc::new(redis)),
        })
    }

    /// Redis as a remote, for health and metrics.
    pub fn remote(&self) -> Option<&Remote> {
        self.redis.as_ref().map(|redis| &redis.remote)
    }

    /// Asks Redis; nothing when there is none, or it is away.
    async fn ask<T, F>(
        &self,
        operation: &'static str,
        question: impl Fn(ConnectionManager) -> F,
    ) -> Option<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let redis = self.redis.as_ref()?;
        let call = || async {
            let asked = question(redis.connection.0.clone());
            let answer = tokio::time::timeout(PATIENCE, asked).await;
            Ok(answer.map_err(|_| Away::Slow)??)
        };
        let answer: Result<T, CallError<Away>> = redis.remote.call(call).await;
        let outcome = match &answer {
            Ok(_) => "ok",
            Err(CallError::Open { .. }) => "skipped",
            Err(CallError::Failed(error)) => {
                // Once, until it answers again: all the rest says the same.
                if redis.is_away.swap(true, Ordering::Relaxed) {
                    tracing::debug!(%error, operation, "Redis did not answer");
                } else {
                    tracing::warn!(%error, operation, "Redis does not answer; going on without it");
                }
                "failed"
            }
        };
        if answer.is_ok() && redis.is_away.swap(false, Ordering::Relaxed) {
            tracing::info!("Redis answers again");
        }
        let operations = &redis.metrics.cache_operations;
        operations.with_label_values(&[operation, outcome]).inc();
        answer.ok()
    }

    /// A key of this installation's.
    fn key(&self, kind: &str, name: &str) -> String {
        let prefix = self.redis.as_ref().map_or("", |redis| &redis.prefix);
        format!("{prefix}:{kind}:{name}")
    }
}

/// Asks the Redis at that address for a sign of life.
///
/// # Errors
/// The reason that Redis or the system gives.
pub(crate) async fn check(url: &str) -> anyhow::Result<()> {
    let client = Client::open(url).map_err(|error| InvalidRedis(error.category().to_owned()))?;
    let asked = async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let _: String = redis::cmd("PING").query_async(&mut connection).await?;
        Ok(())
    };
    tokio::time::timeout(CHECK_PATIENCE, asked)
        .await
        .map_err(|_| anyhow::anyhow!("no answer within {CHECK_PATIENCE:?}"))?
}

/// What was given is no address of a Redis; it is not repeated, as it may hold a password.
#[derive(Debug, thiserror::Error)]
#[error("not an address of Redis, which is redis://HOST:PORT/DB or redis+unix:///PATH: {0}")]
pub struct InvalidRedis(String);
