//! Whether this process can do its work, and how the things that it depends on are.

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use patchfleet_resilience::{CircuitState, Health};
use serde::Serialize;

use super::ApiState;

/// One process's health.
#[derive(Debug, Serialize)]
struct Report {
    /// `ok`, or `unavailable` while the database does not answer.
    status: &'static str,
    /// What it asks over the network, as far as it was asked.
    remotes: Vec<Health>,
}

pub(super) async fn health(State(state): State<ApiState>) -> Response {
    let (status, word) = match state.store.ping().await {
        Ok(()) => (StatusCode::OK, "ok"),
        Err(error) => {
            tracing::error!(%error, "the store refused");
            (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
        }
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
