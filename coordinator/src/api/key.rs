//! One key for all callers.

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use patchfleet_config::ApiKey;

use crate::problem::Problem;

/// Lets a request pass that shows the key.
pub(super) async fn require(
    State(key): State<ApiKey>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let shown = request.headers().get(header::AUTHORIZATION);
    if key.admits(shown.map(axum::http::HeaderValue::as_bytes)) {
        Ok(next.run(request).await)
    } else {
        Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "Send `Authorization: Bearer KEY` with the key of `coordinator.api`.",
        ))
    }
}
