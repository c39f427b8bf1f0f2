//! One key for all callers, and how often they may ask.
//!
//! Whoever shows the key takes from a bucket of its own; whoever does not, from the bucket of its
//! address. Strangers behind the operator's proxy have the operator's address, and can't take
//! anything from it.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use patchfleet_config::ApiKey;

use super::ACTOR;
use crate::cache::Buckets;
use crate::problem::Problem;

/// What a request has to pass.
#[derive(Clone)]
pub(super) struct Guard {
    pub(super) key: ApiKey,
    /// By principal.
    pub(super) callers: Buckets,
    /// By the address of the connection: what a header says of others is not believed.
    pub(super) strangers: Buckets,
}

/// Lets a request pass that shows the key; answers 429 with `Retry-After` to whoever asks too
/// often.
pub(super) async fn require(
    State(guard): State<Guard>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let shown = request.headers().get(header::AUTHORIZATION);
    if guard
        .key
        .admits(shown.map(axum::http::HeaderValue::as_bytes))
    {
        let taken = guard.callers.take(ACTOR).await;
        taken.map_err(|wait| too_many("with this key", wait))?;
        return Ok(next.run(request).await);
    }
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let from = from.map_or_else(|| "unknown".to_owned(), |it| it.0.ip().to_string());
    let taken = guard.strangers.take(&from).await;
    taken.map_err(|wait| too_many("without the key from your address", wait))?;
    Err(Problem::new(
        StatusCode::UNAUTHORIZED,
        "Send `Authorization: Bearer KEY` with the key of `coordinator.api`.",
    ))
}

fn too_many(whose: &str, wait: std::time::Duration) -> Problem {
    let detail = format!("There were too many requests {whose}.");
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
}
