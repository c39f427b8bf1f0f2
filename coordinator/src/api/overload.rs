//! Bounds what the API takes of the coordinator, so that webhooks and agents always find a
//! connection to the database.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::Response;
use tokio::sync::Semaphore;

use crate::problem::Problem;

/// How the API is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bounds {
    /// Requests that are worked at at once.
    pub at_once: usize,
    /// Requests that wait beside them.
    pub waiting: usize,
    /// How long one waits before it is refused.
    pub patience: Duration,
    /// How long the database may take for one.
    pub deadline: Duration,
}

impl Default for Bounds {
    /// A part of the ten connections to the database that there are by default.
    fn default() -> Self {
        Self {
            at_once: 4,
            waiting: 256,
            patience: Duration::from_secs(2),
            deadline: Duration::from_secs(8),
        }
    }
}

/// When to come back after the database was late.
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Lets requests in, one after the other when there are many.
#[derive(Debug, Clone)]
pub(super) struct Gate {
    inside: Arc<Semaphore>,
    present: Arc<Semaphore>,
    patience: Duration,
    deadline: Duration,
}

impl Gate {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            inside: Arc::new(Semaphore::new(bounds.at_once)),
            present: Arc::new(Semaphore::new(bounds.at_once + bounds.waiting)),
            patience: bounds.patience,
            deadline: bounds.deadline,
        }
    }
}

/// Answers 429 with `Retry-After` when there is no room, and 503 when there is no answer in time:
/// nothing but the database is asked.
pub(super) async fn bound(
    State(gate): State<Gate>,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let present = gate.present.try_acquire();
    let _present = present.map_err(|_| full(gate.patience))?;
    let inside = tokio::time::timeout(gate.patience, gate.inside.acquire()).await;
    let Ok(Ok(_inside)) = inside else {
        return Err(full(gate.patience));
    };
    let answered = tokio::time::timeout(gate.deadline, next.run(request)).await;
    answered.map_err(|_| late(gate.deadline))
}

fn late(deadline: Duration) -> Problem {
    let detail = format!(
        "The database did not answer within {deadline:?}. What was asked for may be done \
         nevertheless; look before you repeat it."
    );
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
}

fn full(patience: Duration) -> Problem {
    let detail = "There are more requests than can be answered; try again a little later.";
    Problem::new(StatusCode::TOO_MANY_REQUESTS, detail).retry_after(patience)
}
