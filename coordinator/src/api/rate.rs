//! How often one address may ask, whoever it says it is: a key can't be guessed quickly.

use std::net::SocketAddr;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;

use crate::cache::Buckets;
use crate::problem::Problem;

/// Answers 429 with `Retry-After` when the address asked too often. Addresses are those of
/// connections: what a header says of others is not believed.
pub(super) async fn bound(
    State(buckets): State<Buckets>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let from = from.map_or_else(|| "unknown".to_owned(), |it| it.0.ip().to_string());
    buckets.take(&from).await.map_err(|wait| {
        let detail = "There were too many requests from your address.";
        Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(wait)
    })?;
    Ok(next.run(request).await)
}
