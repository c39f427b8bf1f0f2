//! `/api/v1/budgets`: what models cost, and letting a task spend more.

use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use patchfleet_domain::{Limit, TaskId};
use serde::Serialize;

use super::tasks::{CommandDone, done, task_id};
use super::{ACTOR, ApiState};
use crate::problem::Problem;
use crate::store::ScopeSpending;

/// What was spent today, of those budgets that are one for each day.
#[derive(Debug, Serialize)]
pub(super) struct BudgetsView {
    budgets: Vec<ScopeSpending>,
}

pub(super) async fn show(State(state): State<ApiState>) -> Result<Json<BudgetsView>, Problem> {
    let budgets = state.store.spending().await?;
    Ok(Json(BudgetsView { budgets }))
}

pub(super) async fn approve(
    State(state): State<ApiState>,
    id: Result<Path<TaskId>, PathRejection>,
    body: Result<Json<Limit>, JsonRejection>,
) -> Result<Json<CommandDone>, Problem> {
    let id = task_id(id)?;
    let hint = "Send {\"usd\": \"5\"} or {\"tokens\": 100000}: how much more.";
    let more = body.map(|Json(more)| more).map_err(|error| {
        let detail = format!("{}. {hint}", error.body_text());
        Problem::new(StatusCode::BAD_REQUEST, detail)
    })?;
    if more == Limit::default() {
        return Err(Problem::new(StatusCode::BAD_REQUEST, hint));
    }
    done(id, "approve", state.store.allow(id, more, ACTOR).await?)
}
