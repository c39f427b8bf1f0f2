//! One key for all callers, how often they may ask, and how often it may be guessed
//! (`patchfleet_listen::GuardedKey`).
//!
//! Whoever shows the key takes from a bucket of its own; whoever shows none, from the bucket of its
//! address.

use std::net::SocketAddr;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use patchfleet_config::ApiKey;
use patchfleet_listen::Source;

use super::ACTOR;
use crate::cache::{Buckets, Cache, Rate};
use crate::guesses::SharedKey;
use crate::problem::Problem;

/// What a request has to pass. Cheap to clone; clones share it.
#[derive(Clone)]
pub(super) struct Guard {
    key: SharedKey,
    /// How much each principal, shown by its key, may still ask for.
    callers: Buckets,
    /// By the address of the connection.
    strangers: Buckets,
}

impl Guard {
    pub(super) fn new(key: ApiKey, cache: &Cache, rate: Rate) -> Self {
        Self {
            key: SharedKey::new(key, cache, "guess"),
            callers: Buckets::new(cache.clone(), "principal", rate),
            strangers: Buckets::new(cache.clone(), "address", rate),
        }
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
    let shown = shown.map(HeaderValue::as_bytes);
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let source = peer.map_or(Source::UNKNOWN, |peer| peer.0.into());
    let admitted = guard.key.admits(shown, source).await;
    if admitted.map_err(|wait| too_many("with a wrong key from your address", wait))? {
        let taken = guard.callers.take(ACTOR).await;
        taken.map_err(|wait| too_many("with this key", wait))?;
        return Ok(next.run(request).await);
    }
    let taken = guard.strangers.take(&source.to_string()).await;
    taken.map_err(|wait| too_many("without the key from your address", wait))?;
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "Send `Authorization: Bearer KEY` with the key of `coordinator.api`.",
    ))
}

fn too_many(whose: &str, wait: Duration) -> Problem {
    let detail = format!("There were too many requests {whose}.");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
}
