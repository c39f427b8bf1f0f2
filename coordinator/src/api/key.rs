//! One key for all callers, how often they may ask, and how often it may be guessed.
//!
//! Whoever shows the key takes from a bucket of its own; whoever shows none, from the bucket of its
//! address. Whoever shows a key from an address that has not shown the right one before takes from
//! a bucket of guesses first, and when that is empty the key is not even looked at: an answer would
//! tell whoever goes on guessing when it was right. An address that has shown the right key is
//! spared that for a day, and loopback always: behind a proxy or NAT strangers have the operator's
//! address, and must not be able to lock the operator out. There the length of the key is what
//! protects it (`ApiKey` has a minimum), and what the proxy limits.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use lru::LruCache;
use patchfleet_config::ApiKey;
use tokio::time::Instant;

use super::ACTOR;
use crate::cache::{Buckets, Cache, Rate};
use crate::problem::Problem;

/// How often an address may guess.
const GUESSES: Rate = Rate {
    per_minute: NonZeroU32::new(30).expect("more than none"),
    burst: NonZeroU32::new(20).expect("more than none"),
};
/// How long an address that has shown the key is spared.
const TRUSTED: Duration = Duration::from_hours(24);
/// How many such addresses are remembered. Only who has the key adds to them.
const MANY: NonZeroUsize = NonZeroUsize::new(10_000).expect("more than none");

/// What a request has to pass. Cheap to clone; clones share it.
#[derive(Clone)]
pub(super) struct Guard {
    key: ApiKey,
    /// How much each principal, shown by its key, may still ask for.
    callers: Buckets,
    /// By the address of the connection: what a header says of others is not believed.
    strangers: Buckets,
    /// By the address as well.
    guesses: Buckets,
    /// When an address has shown the key last.
    trusted: Arc<Mutex<LruCache<Source, Instant>>>,
}

/// From where a request comes; nothing when that is not known.
type Source = Option<IpAddr>;

impl Guard {
    pub(super) fn new(key: ApiKey, cache: &Cache, rate: Rate) -> Self {
        Self {
            key,
            callers: Buckets::new(cache.clone(), "principal", rate),
            strangers: Buckets::new(cache.clone(), "address", rate),
            guesses: Buckets::new(cache.clone(), "guess", GUESSES),
            trusted: Arc::new(Mutex::new(LruCache::new(MANY))),
        }
    }

    /// Lets a key be looked at, as often as that address may guess.
    async fn may_show(&self, source: Source) -> Result<(), Duration> {
        let is_spared = source.is_some_and(|ip| ip.is_loopback()) || {
            let shown = self.trusted().get(&source).copied();
            shown.is_some_and(|at| at.elapsed() < TRUSTED)
        };
        if is_spared {
            return Ok(());
        }
        self.guesses.take(&name(source)).await
    }

    fn trusted(&self) -> MutexGuard<'_, LruCache<Source, Instant>> {
        self.trusted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets a request pass that shows the key; answers 429 with `Retry-After` to whoever asks or guesses
/// too often.
pub(super) async fn require(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.map(axum::http::HeaderValue::as_bytes);
    let source = source(&request);
    if shown.is_some() {
        let looked = guard.may_show(source).await;
        looked.map_err(|wait| too_many("with a wrong key from your address", wait))?;
    }
    if guard.key.admits(shown) {
        guard.trusted().put(source, Instant::now());
        let taken = guard.callers.take(ACTOR).await;
        taken.map_err(|wait| too_many("with this key", wait))?;
        return Ok(next.run(request).await);
    }
    let taken = guard.strangers.take(&name(source)).await;
    taken.map_err(|wait| too_many("without the key from your address", wait))?;
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "Send `Authorization: Bearer KEY` with the key of `coordinator.api`.",
    ))
}

/// The address of the connection. A host with IPv6 has a whole /64, so that is taken for one.
fn source(request: &Request) -> Source {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>()?;
    Some(match peer.0.ip().to_canonical() {
        IpAddr::V6(ip) if !ip.is_loopback() => {
            let network = ip.to_bits() >> 64 << 64;
            IpAddr::V6(Ipv6Addr::from_bits(network))
        }
        ip => ip,
    })
}

fn name(source: Source) -> String {
    source.map_or_else(|| "unknown".to_owned(), |ip| ip.to_string())
}

fn too_many(whose: &str, wait: Duration) -> Problem {
    let detail = format!("There were too many requests {whose}.");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
}
