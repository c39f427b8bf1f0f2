//! One key for all callers, compared in constant time.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::Response;
use secrecy::{ExposeSecret as _, SecretString};
use subtle::ConstantTimeEq as _;

use crate::problem::Problem;

/// Lets a request pass that knows the key.
pub(super) async fn require(
    State(key): State<Arc<SecretString>>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let given = request
        .headers()
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "))
        .unwrap_or_default();
    if bool::from(given.ct_eq(key.expose_secret().as_bytes())) {
        Ok(next.run(request).await)
    } else {
        Err(Problem::new(
            StatusCode::UNAUTHORIZED,
            "Send `Authorization: Bearer KEY` with the key of `coordinator.api`.",
        ))
    }
}
