//! Whether this process can do its work, and how the things that it depends on are.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use axum::{Extension, Json};
use patchfleet_resilience::{CircuitState, Health};
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::ApiState;
use crate::store::Store;

/// One process's health.
#[derive(Debug, Serialize)]
struct Report {
    /// `ok`, or `unavailable` while the database does not answer.
    status: &'static str,
    /// What it asks over the network, as far as it was asked.
    remotes: Vec<Health>,
}

/// How long an answer of the database counts, however many ask.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take: probes wait for a few seconds at the most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the database answers, asked once a second at the most: anybody may ask for the health.
#[derive(Debug)]
pub(super) struct Readiness {
    store: Arc<dyn Store>,
    last: Mutex<Option<(Instant, bool)>>,
}

impl Readiness {
    pub(super) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            last: Mutex::new(None),
        })
    }

    async fn is_ready(&self) -> bool {
        // Who comes meanwhile waits for the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = *last
            && at.elapsed() < FRESH
        {
            return answer;
        }
        let answer = match tokio::time::timeout(PATIENCE, self.store.ping()).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(%error, "the database is away");
                false
            }
            Err(_) => {
                tracing::error!("the database did not answer within {PATIENCE:?}");
                false
            }
        };
        *last = Some((Instant::now(), answer));
        answer
    }
}

/// For probes of liveness: this process runs, and gets over whatever is away by itself. A stage that
/// ends takes the process with it, so there is nothing that only a restart would mend.
pub(super) async fn live() -> Response {
    let report = Report {
        status: "ok",
        remotes: Vec::new(),
    };
    Json(report).into_response()
}

/// For probes of readiness, and for people.
pub(super) async fn ready(
    Extension(ready): Extension<Arc<Readiness>>,
    State(state): State<ApiState>,
) -> Response {
    let (status, word) = if ready.is_ready().await {
        (StatusCode::OK, "ok")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
    };
    let remotes = (state.remotes)();
    let report = Report {
        status: word,
        remotes,
    };
    (status, Json(report)).into_response()
}

pub(super) async fn metrics(State(state): State<ApiState>) -> String {
    for remote in (state.remotes)() {
        let value = match remote.circuit_breaker.state {
            CircuitState::Closed => 0,
            CircuitState::HalfOpen => 1,
            CircuitState::Open => 2,
        };
        let gauge = &state.metrics.circuit_state;
        gauge.with_label_values(&[&remote.remote]).set(value);
    }
    // Agents come and go; those that are gone have no load.
    let load = &state.metrics.agent_load;
    load.reset();
    for agent in state.registry.connected() {
        let id = agent.id.as_str();
        load.with_label_values(&[id]).set(f64::from(agent.load));
    }
    state.metrics.render()
}
