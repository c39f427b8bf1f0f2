//! Redis: what is quicker there. Absent or away means slower, never wrong.
//!
//! Nothing is only here. A delivery that Redis knows is looked up in the store before it counts as
//! known; presence lies over what the store says of agents; a hint that is lost costs a poll; what
//! GitHub answered counts when GitHub says that it is still so, and is kept in this process where there
//! is no Redis; and buckets that can't be asked are kept in this process instead. While Redis is away its calls are not made, which
//! [`patchfleet_resilience`] sees to, so that nobody waits for it twice.
//!
//! Absent: a cache of what the API reads from the store, which finds a task by its key in one round
//! trip; Redis would take one too (`docs/decisions/0008-redis.md`).

mod answers;
mod buckets;
mod check;
mod connection;
mod deliveries;
mod fanout;
mod presence;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use patchfleet_resilience::{CallError, Failure, FailureKind, Policy, Remote};
use patchfleet_telemetry::Metrics;
use redis::RedisResult;
use redis::aio::MultiplexedConnection;

use self::answers::Answers;
use self::connection::Connection;
pub use buckets::{Buckets, Rate};
pub(crate) use check::check;
pub use fanout::run as fan_out;
pub use server::{InvalidRedis, Server};

/// How long an answer may take. Whoever is slower than the store is of no use.
const PATIENCE: Duration = Duration::from_millis(100);
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
    /// What GitHub answered, where there is no Redis.
    answers: Arc<Answers>,
}

#[derive(Debug)]
struct Redis {
    server: Server,
    connection: Connection,
    remote: Remote,
    prefix: String,
    metrics: Metrics,
    /// What was asked last was not answered.
    is_away: AtomicBool,
}

/// Why Redis did not answer.
#[derive(Debug, thiserror::Error)]
enum Away {
    #[error("{0}")]
    Refused(String),
    #[error("no answer within {PATIENCE:?}")]
    Slow,
}

impl Failure for Away {
    fn kind(&self) -> FailureKind {
        FailureKind::Transient { retry_after: None }
    }
}

impl Cache {
    /// A Redis whose keys begin with `prefix`. It is connected to when it is first asked, and need
    /// not be there.
    pub fn open(server: Server, prefix: &str, metrics: Metrics) -> Self {
        let redis = Redis {
            connection: Connection::new(server.client.clone(), PATIENCE),
            server,
            remote: Remote::new("redis", POLICY),
            prefix: prefix.to_owned(),
            metrics,
            is_away: AtomicBool::new(false),
        };
        Self {
            redis: Some(Arc::new(redis)),
            answers: Arc::default(),
        }
    }

    /// Redis as a remote, for health and metrics.
    pub fn remote(&self) -> Option<&Remote> {
        self.redis.as_ref().map(|redis| &redis.remote)
    }

    /// Asks Redis; nothing when there is none, or it is away.
    async fn ask<T, F>(
        &self,
        operation: &'static str,
        question: impl Fn(MultiplexedConnection) -> F,
    ) -> Option<T>
    where
        F: Future<Output = RedisResult<T>>,
    {
        let redis = self.redis.as_ref()?;
        let call = || async {
            let asked = redis.connection.ask(&question);
            let answer = asked.await.ok_or(Away::Slow)?;
            answer.map_err(|error| Away::Refused(redis.server.why(&error)))
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
