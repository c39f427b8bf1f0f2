//! `/api/v1/queue`: what holds the queue back, and who may do so.

use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};

use super::{ACTOR, ApiState};
use crate::problem::Problem;
use crate::store::{AtWork, Pause, Scope};

/// What holds the queue back.
#[derive(Debug, Serialize)]
pub(super) struct QueueView {
    /// Parts of which nothing is given to agents.
    pauses: Vec<Pause>,
    /// Tasks at work in each lane that has some.
    at_work: Vec<AtWork>,
}

/// Which part of the queue.
#[derive(Debug, Deserialize)]
pub(super) struct PauseRequest {
    #[serde(flatten)]
    scope: Scope,
    /// Why; shown to whoever asks.
    reason: Option<String>,
}

/// What became of a pause.
#[derive(Debug, Serialize)]
pub(super) struct PauseDone {
    #[serde(flatten)]
    scope: Scope,
    paused: bool,
    /// False when it was so before.
    changed: bool,
}

pub(super) async fn show(State(state): State<ApiState>) -> Result<Json<QueueView>, Problem> {
    Ok(Json(QueueView {
        pauses: state.store.pauses().await?,
        at_work: state.store.at_work().await?,
    }))
}

pub(super) async fn pause(
    State(state): State<ApiState>,
    body: Result<Json<PauseRequest>, JsonRejection>,
) -> Result<Json<PauseDone>, Problem> {
    let PauseRequest { scope, reason } = read(body)?;
    let changed = state.store.pause(&scope, ACTOR, reason.as_deref()).await?;
    tracing::info!(%scope, reason, changed, "paused");
    Ok(Json(PauseDone {
        scope,
        paused: true,
        changed,
    }))
}

pub(super) async fn resume(
    State(state): State<ApiState>,
    body: Result<Json<PauseRequest>, JsonRejection>,
) -> Result<Json<PauseDone>, Problem> {
    let PauseRequest { scope, .. } = read(body)?;
    let changed = state.store.resume(&scope).await?;
    tracing::info!(%scope, changed, "resumed");
    Ok(Json(PauseDone {
        scope,
        paused: false,
        changed,
    }))
}

fn read(body: Result<Json<PauseRequest>, JsonRejection>) -> Result<PauseRequest, Problem> {
    body.map(|Json(request)| request).map_err(|error| {
        let detail = format!(
            "{}. Send {{\"repository\": \"owner/name\"}} or {{\"agent_type\": \"TYPE\"}}.",
            error.body_text()
        );
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })
}
