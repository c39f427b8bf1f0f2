//! The REST API `/api/v1`, metrics and health.
//!
//! Everything but `/health` and what is below it wants `Authorization: Bearer KEY`. Errors are problem documents
//! (RFC 9457). Absent: people, roles and sessions; one operator's key is all there is.

mod agents;
mod budgets;
mod health;
mod key;
mod measure;
mod overload;
mod queue;
mod tasks;

use std::sync::Arc;

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Extension, Router, middleware};
use patchfleet_config::ApiKey;
use patchfleet_resilience::Health;
use patchfleet_telemetry::Metrics;

use crate::cache::{Cache, Rate};
use crate::dispatch::Registry;
use crate::problem::Problem;
use crate::stages::Liveness;
use crate::store::{Store, StoreError};

pub use overload::Bounds;

/// Who is named in histories for what came through the API.
const ACTOR: &str = "operator";

/// What the handlers share.
#[derive(Clone)]
pub struct ApiState {
    /// The store.
    pub store: Arc<dyn Store>,
    /// The metrics to show.
    pub metrics: Metrics,
    /// What callers have to show.
    pub key: ApiKey,
    /// How much of the coordinator it may take.
    pub bounds: Bounds,
    /// How often the operator may ask, and how often an address without the key.
    pub rate: Rate,
    /// The agents that are connected here.
    pub registry: Registry,
    /// What other replicas know.
    pub cache: Cache,
    /// How the things outside are.
    pub remotes: Remotes,
    /// Which stages of this process ended.
    pub liveness: Liveness,
}

/// Tells how the things outside are.
pub type Remotes = Arc<dyn Fn() -> Vec<Health> + Send + Sync>;

/// Health, metrics and `/api/v1`.
pub fn router(state: ApiState) -> Router {
    let guarded = Router::new()
        .route("/api/v1/tasks", get(tasks::list))
        .route("/api/v1/tasks/{id}", get(tasks::show))
        .route("/api/v1/tasks/{id}/events", get(tasks::events))
        .route("/api/v1/tasks/{id}/logs", get(tasks::logs))
        .route("/api/v1/tasks/{id}/cancel", post(tasks::cancel))
        .route("/api/v1/tasks/{id}/retry", post(tasks::retry))
        .route("/api/v1/tasks/{id}/approve", post(budgets::approve))
        .route("/api/v1/budgets", get(budgets::show))
        .route("/api/v1/agents", get(agents::list))
        .route("/api/v1/queue", get(queue::show))
        .route("/api/v1/queue/pause", post(queue::pause))
        .route("/api/v1/queue/resume", post(queue::resume))
        .route_layer(middleware::from_fn_with_state(
            overload::Gate::new(state.bounds),
            overload::bound,
        ))
        .route("/metrics", get(health::metrics))
        .route_layer(middleware::from_fn_with_state(
            key::Guard::new(state.key.clone(), &state.cache, state.rate),
            key::require,
        ));
    let ready = health::Readiness::new(Arc::clone(&state.store));
    Router::new()
        .route("/health", get(health::ready))
        .route("/health/ready", get(health::ready))
        .route("/health/live", get(health::live))
        .layer(Extension(ready))
        .merge(guarded)
        .route_layer(middleware::from_fn_with_state(
            state.metrics.clone(),
            measure::measure,
        ))
        .with_state(state)
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        tracing::error!(%error, "the store refused");
        match error {
            StoreError::Unavailable(_) | StoreError::Contended(_) => Self::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "The database is unavailable; try again in a few seconds.",
            ),
            StoreError::Corrupt(_) => Self::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "The operator's log has the details.",
            ),
        }
    }
}
