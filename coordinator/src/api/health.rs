//! Whether this process can do its work, and how the things that it depends on are.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use patchfleet_resilience::{CircuitState, Health};
use patchfleet_telemetry::TEXT_FORMAT;
use serde::Serialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::ApiState;
use crate::store::Store;

/// One process's health.
#[derive(Debug, Serialize)]
struct Report {
    /// `ok`; `unavailable` while the database does not answer; `failing` when a stage has ended and
    /// the process is about to.
    status: &'static str,
    /// The stages that ended without having been asked to; why is in the log.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    failed_stages: Vec<&'static str>,
    /// The database: `ok`, `unreachable`, or `hangs` when it does not answer in time; readiness only.
    #[serde(skip_serializing_if = "Option::is_none")]
    database: Option<&'static str>,
    /// What it asks over the network, as far as it was asked.
    remotes: Vec<Health>,
}

/// The word for what works.
const OK: &str = "ok";
/// How long an answer of the database counts, however many ask.
const FRESH: Duration = Duration::from_secs(1);
/// How long the database may take: probes wait for a few seconds at the most.
const PATIENCE: Duration = Duration::from_secs(2);

/// Whether the database answers, asked once a second at the most: anybody may ask for the health.
#[derive(Debug)]
pub(super) struct Readiness {
    store: Arc<dyn Store>,
    last: Mutex<Option<(Instant, &'static str)>>,
}

impl Readiness {
    pub(super) fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            store,
            last: Mutex::new(None),
        })
    }

    async fn database(&self) -> &'static str {
        // Who comes meanwhile waits for the same answer.
        let mut last = self.last.lock().await;
        if let Some((at, answer)) = *last
            && at.elapsed() < FRESH
        {
            return answer;
        }
        let answer = match tokio::time::timeout(PATIENCE, self.store.ping()).await {
            Ok(Ok(())) => OK,
            Ok(Err(error)) => {
                tracing::error!(%error, "the database is away");
                "unreachable"
            }
            Err(_) => {
                tracing::error!("the database did not answer within {PATIENCE:?}");
                "hangs"
            }
        };
        *last = Some((Instant::now(), answer));
        answer
    }
}

/// For probes of liveness: this process runs, all its stages do, and it gets over whatever is away by
/// itself. A stage that ends takes the process with it; until that has ended in order, this tells.
pub(super) async fn live(State(state): State<ApiState>) -> Response {
    let report = Report {
        status: OK,
        database: None,
        failed_stages: failed_stages(&state),
        remotes: Vec::new(),
    };
    report.into_response()
}

/// For probes of readiness, and for people.
pub(super) async fn ready(
    Extension(ready): Extension<Arc<Readiness>>,
    State(state): State<ApiState>,
) -> Response {
    let database = ready.database().await;
    let report = Report {
        status: if database == OK { OK } else { "unavailable" },
        database: Some(database),
        failed_stages: failed_stages(&state),
        remotes: (state.remotes)(),
    };
    report.into_response()
}

fn failed_stages(state: &ApiState) -> Vec<&'static str> {
    let ended = state.liveness.ended();
    ended.iter().map(|ended| ended.stage).collect()
}

impl IntoResponse for Report {
    fn into_response(mut self) -> Response {
        if !self.failed_stages.is_empty() {
            self.status = "failing";
        }
        let status = if self.status == OK {
            StatusCode::OK
        } else {
            StatusCode::SERVICE_UNAVAILABLE
        };
        (status, Json(self)).into_response()
    }
}

pub(super) async fn metrics(State(state): State<ApiState>) -> impl IntoResponse {
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
    (
        [(header::CONTENT_TYPE, TEXT_FORMAT)],
        state.metrics.render(),
    )
}
