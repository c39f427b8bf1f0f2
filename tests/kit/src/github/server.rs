//! The way of a request: who asks, what interferes, REST or git, the journal.
//!
//! Effects run to their end even if the caller goes away in the middle, as on
//! a real server; only a request held before its effect dies with its caller.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use serde_json::json;

use super::account::{Actor, identify};
use super::interference::{Fault, Moment};
use super::journal::RequestRecord;
use super::problem::Problem;
use super::rest::{self, Asked};
use super::shared::Shared;
use super::smart_http::{self, GitRequest};

/// More than GitHub takes in one request.
const MAX_BODY: usize = 32 * 1024 * 1024;

/// Serves until the simulator stops.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback(answer).with_state(shared)
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let actor = identify(&shared.state(), text(&parts.headers, header::AUTHORIZATION));
    let place = shared.journal.arrived(RequestRecord {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        actor: actor.as_ref().map_or("", Actor::login).to_owned(),
        status: None,
    });
    // Those who wait for the arrival of a request.
    shared.changed.notify_waiters();
    let response = interfered(&shared, parts, body, actor).await;
    shared.journal.answered(place, response.status().as_u16());
    shared.changed.notify_waiters();
    response
}

async fn interfered(
    shared: &Arc<Shared>,
    parts: Parts,
    body: Body,
    actor: Result<Actor, Problem>,
) -> Response {
    let method = parts.method.to_string();
    let target = parts.uri.to_string();
    let interference = &shared.interference;
    let fault = interference.take_fault(&method, &target);
    if let Some(instead) = fault.and_then(|fault| replaced(shared, (fault, is_git(&target)))) {
        return instead;
    }
    if let Some(Fault::Slow(delay)) = fault {
        tokio::time::sleep(delay).await;
    }
    let response = match GitRequest::parse(&parts) {
        Some(git) => {
            interference
                .pass_gates(&method, &target, Moment::BeforeEffect)
                .await;
            smart_http::answer(shared, git, actor, body).await
        }
        None => answer_rest(shared, parts, body, actor).await,
    };
    interference
        .pass_gates(&method, &target, Moment::AfterEffect)
        .await;
    match fault {
        Some(Fault::Cut) => cut(response).await,
        Some(Fault::Malformed) => malformed(response).await,
        _ => response,
    }
}

async fn answer_rest(
    shared: &Arc<Shared>,
    parts: Parts,
    body: Body,
    actor: Result<Actor, Problem>,
) -> Response {
    // Read before the gate, so that a caller who goes away meanwhile is noticed.
    let Ok(body) = to_bytes(body, MAX_BODY).await else {
        return plain(StatusCode::PAYLOAD_TOO_LARGE, "Payload too large");
    };
    let target = parts.uri.to_string();
    let gates = &shared.interference;
    gates
        .pass_gates(parts.method.as_str(), &target, Moment::BeforeEffect)
        .await;
    let asked = Asked {
        method: parts.method.to_string(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().unwrap_or_default().to_owned(),
        accept: text(&parts.headers, header::ACCEPT)
            .unwrap_or_default()
            .to_owned(),
        if_none_match: text(&parts.headers, header::IF_NONE_MATCH).map(str::to_owned),
        body,
    };
    let inside = Arc::clone(shared);
    // Git commands block, so they may not run on the server's own threads.
    let effect = shared
        .tasks
        .spawn_blocking(move || rest::answer(&mut inside.state(), &asked, actor));
    effect.await.unwrap_or_else(|error| {
        tracing::error!(%error, "the simulator failed to answer");
        plain(StatusCode::INTERNAL_SERVER_ERROR, "Server Error")
    })
}

fn text(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// Whether git asks, to which GitHub answers in plain text.
fn is_git(target: &str) -> bool {
    target.contains(".git/")
}

/// The answer of a fault that leaves no effect.
fn replaced(shared: &Shared, (fault, is_git): (Fault, bool)) -> Option<Response> {
    let message = |text: &str| json!({ "message": text, "documentation_url": "https://docs.github.com/rest" });
    match fault {
        Fault::Status(code) => {
            let status = status(code);
            let reason = status.canonical_reason().unwrap_or("Server Error");
            Some(response(status, &[], message(reason).to_string()))
        }
        Fault::Refusal(code, words) if is_git => Some(plain(status(code), words)),
        Fault::Refusal(code, words) => {
            Some(response(status(code), &[], message(words).to_string()))
        }
        Fault::Answer {
            status: code,
            headers,
            body,
        } => {
            let headers = headers
                .iter()
                .map(|(name, value)| (*name, (*value).to_owned()));
            let headers: Vec<_> = headers.collect();
            Some(response(status(code), &headers, body.to_owned()))
        }
        Fault::Invalid { resource, field } => {
            let problem = Problem::invalid(resource, field, "invalid");
            let status = status(problem.status());
            Some(response(status, &[], problem.body().to_string()))
        }
        Fault::Redirect(code, location) => {
            let headers = [("location", location.to_owned())];
            let body = message("Moved Permanently").to_string();
            Some(response(status(code), &headers, body))
        }
        Fault::SecondaryLimit { retry_after } => {
            let text = "You have exceeded a secondary rate limit. Please wait a few minutes before you try again.";
            let wait = [("retry-after", retry_after.as_secs().to_string())];
            Some(response(
                StatusCode::FORBIDDEN,
                &wait,
                message(text).to_string(),
            ))
        }
        Fault::PrimaryLimit => {
            let reset = shared.state().now() + Duration::from_secs(1);
            let headers = [
                ("x-ratelimit-limit", "5000".to_owned()),
                ("x-ratelimit-remaining", "0".to_owned()),
                ("x-ratelimit-used", "5000".to_owned()),
                ("x-ratelimit-resource", "core".to_owned()),
                ("x-ratelimit-reset", reset.timestamp().to_string()),
            ];
            let body = message("API rate limit exceeded.").to_string();
            Some(response(StatusCode::FORBIDDEN, &headers, body))
        }
        Fault::Slow(_) | Fault::Cut | Fault::Malformed => None,
    }
}

fn status(code: u16) -> StatusCode {
    StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}

fn response(status: StatusCode, headers: &[(&str, String)], body: String) -> Response {
    let mut builder = Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "application/json; charset=utf-8");
    for (name, value) in headers {
        builder = builder.header(*name, value);
    }
    builder
        .body(body.into())
        .expect("headers made of digits are valid")
}

/// An answer in words.
pub(crate) fn plain(status: StatusCode, text: &str) -> Response {
    Response::builder()
        .status(status)
        .header(header::CONTENT_TYPE, "text/plain; charset=utf-8")
        .body(text.to_owned().into())
        .expect("fixed headers are valid")
}

/// Promises the whole body, sends half of it and closes the connection.
async fn cut(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    if body.is_empty() {
        // Without a body there is nothing to cut; so promise one.
        parts.status = StatusCode::OK;
    }
    let half = body.slice(..body.len() / 2);
    let promised = body.len().max(1);
    parts
        .headers
        .insert(header::CONTENT_LENGTH, promised.into());
    let stream = futures::stream::iter([Ok::<Bytes, _>(half)]);
    let broken = futures::stream::once(async {
        // Lets what came before reach the wire; else the caller sees no answer at all.
        tokio::task::yield_now().await;
        Err(std::io::Error::other("cut on command"))
    });
    let stream = futures::StreamExt::chain(stream, broken);
    Response::from_parts(parts, Body::from_stream(stream))
}

async fn malformed(response: Response) -> Response {
    let (mut parts, body) = response.into_parts();
    let body = to_bytes(body, usize::MAX).await.unwrap_or_default();
    parts.headers.remove(header::CONTENT_LENGTH);
    let half = body.slice(..body.len() / 2);
    Response::from_parts(parts, Body::from([&half[..], b"\x00{"].concat()))
}
