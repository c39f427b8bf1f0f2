//! The agent's own HTTP interface: health, status, metrics, and calling a task off.
//!
//! Only `/health` and what is below it answer without the key. Absent: TLS, for which a proxy stands in front, and
//! handing in tasks; those come from the coordinator alone.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use patchfleet_config::ApiKey;
use patchfleet_domain::TaskId;
use patchfleet_listen::{GuardedKey, Guesses, Limits, Source, serve};
use patchfleet_telemetry::TEXT_FORMAT;
use serde_json::json;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::timeout::TimeoutLayer;

use crate::config::HttpConfig;
use crate::member::Member;
use crate::session::desk::Stop;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// The interface, bound to its address.
pub(crate) struct Http {
    listener: TcpListener,
    key: ApiKey,
}

impl Http {
    /// Takes the address and the key.
    pub(crate) async fn bind(config: &HttpConfig) -> anyhow::Result<Self> {
        let key = config.key.api_key("agents.http.key")?;
        let listener = TcpListener::bind(config.listen)
            .await
            .with_context(|| format!("agents.http.listen: can't listen on {}", config.listen))?;
        let address = listener.local_addr()?;
        tracing::info!(%address, "the agent's HTTP interface listens");
        Ok(Self { listener, key })
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self, member: Arc<Member>) {
        let router = router(member, Guard::new(self.key));
        let never = CancellationToken::new();
        serve(self.listener, router, Limits::default(), never).await;
    }
}

/// The key, and who has guessed it how often.
#[derive(Clone)]
struct Guard {
    key: GuardedKey,
    guesses: Guesses,
}

impl Guard {
    fn new(key: ApiKey) -> Self {
        Self {
            key: GuardedKey::new(key),
            guesses: Guesses::default(),
        }
    }
}

fn router(member: Arc<Member>, guard: Guard) -> Router {
    Router::new()
        .route("/status", get(status))
        .route("/metrics", get(metrics))
        .route("/cancel_task/{id}", post(cancel_task))
        .route_layer(middleware::from_fn_with_state(guard, authenticate))
        .route("/health", get(live))
        .route("/health/live", get(live))
        .route("/health/ready", get(ready))
        .layer(TimeoutLayer::with_status_code(
            StatusCode::SERVICE_UNAVAILABLE,
            PATIENCE,
        ))
        .with_state(member)
}

async fn authenticate(State(guard): State<Guard>, request: Request, next: Next) -> Response {
    let shown = request.headers().get(header::AUTHORIZATION);
    let shown = shown.map(HeaderValue::as_bytes);
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let source = peer.map_or(Source::UNKNOWN, |peer| peer.0.into());
    let guess = async { guard.guesses.take(source) };
    match guard.key.admits(shown, source, guess).await {
        Ok(true) => next.run(request).await,
        Ok(false) => problem(StatusCode::UNAUTHORIZED, "authentication failed"),
        Err(wait) => {
            let detail = "there were too many requests with a wrong key from your address";
            let seconds = HeaderValue::from(wait.as_secs() + 1);
            let retry_after = [(header::RETRY_AFTER, seconds)];
            (retry_after, problem(StatusCode::TOO_MANY_REQUESTS, detail)).into_response()
        }
    }
}

/// For probes of liveness: the process works. A stage of the agent that ends takes the process with
/// it, and what is away comes back without a restart.
async fn live() -> Json<serde_json::Value> {
    Json(json!({"status": "ok"}))
}

/// For probes of readiness: it is connected, fit and not draining, so that it takes tasks.
async fn ready(State(member): State<Arc<Member>>) -> Response {
    let obstacles = member.obstacles();
    if obstacles.is_empty() {
        return Json(json!({"status": "ok"})).into_response();
    }
    let body = json!({"status": "unavailable", "reasons": obstacles});
    (StatusCode::SERVICE_UNAVAILABLE, Json(body)).into_response()
}

async fn status(State(member): State<Arc<Member>>) -> Json<serde_json::Value> {
    let beat = member.heartbeat().await;
    let works = member.desk.works();
    let tasks: Vec<_> = works
        .iter()
        .map(|work| json!({"task": work.task, "attempt": work.attempt}))
        .collect();
    Json(json!({
        "agent_id": member.config.id.to_string(),
        "agent_type": member.config.agent_type.to_string(),
        "version": env!("CARGO_PKG_VERSION"),
        "state": beat.state,
        "reason": beat.reason,
        "load": beat.load,
        "slots": member.config.slots,
        "free_slots": beat.free_slots,
        "warm_repositories": beat.warm_repositories,
        "tasks": tasks,
    }))
}

async fn metrics(State(member): State<Arc<Member>>) -> impl IntoResponse {
    let beat = member.heartbeat().await;
    let gauges = [
        (
            "load",
            "Runnable tasks of the host per core, 0 to 1.",
            f64::from(beat.load),
        ),
        (
            "slots",
            "Tasks that the agent runs at once.",
            f64::from(member.config.slots),
        ),
        (
            "free_slots",
            "Slots without a task.",
            f64::from(beat.free_slots),
        ),
    ];
    let agent = &member.config.id;
    let mut text = String::new();
    for (name, help, value) in gauges {
        // Writing to a text can't fail.
        let _ = write!(
            text,
            "# HELP patchfleet_agent_{name} {help}\n# TYPE patchfleet_agent_{name} gauge\n\
             patchfleet_agent_{name}{{agent_id=\"{agent}\"}} {value}\n"
        );
    }
    ([(header::CONTENT_TYPE, TEXT_FORMAT)], text)
}

async fn cancel_task(State(member): State<Arc<Member>>, Path(id): Path<String>) -> Response {
    let Ok(id) = id.parse::<TaskId>() else {
        return problem(StatusCode::BAD_REQUEST, "the task's id is not a UUID");
    };
    let works = member.desk.works();
    let mut found = works.into_iter().filter(|work| work.task == id).peekable();
    if found.peek().is_none() {
        let detail = "the task does not run on this agent";
        return problem(StatusCode::NOT_FOUND, detail);
    }
    for work in found {
        tracing::info!(task.id = %id, attempt = work.attempt.0, "called off by HTTP");
        member.desk.stop(work, Stop::CalledOff);
    }
    let body = json!({"task_id": id, "status": "cancelling"});
    (StatusCode::ACCEPTED, Json(body)).into_response()
}

/// A problem document (RFC 9457).
fn problem(status: StatusCode, detail: &str) -> Response {
    let title = status.canonical_reason().unwrap_or("error");
    let body = json!({"title": title, "status": status.as_u16(), "detail": detail});
    let kind = [(header::CONTENT_TYPE, "application/problem+json")];
    (status, kind, body.to_string()).into_response()
}

#[cfg(test)]
mod tests;
