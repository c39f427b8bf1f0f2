//! `POST /webhooks/github`: bytes in, typed event out, 202 once it is durable.
//!
//! Nothing is read before the signature over the raw bytes is right. Every request is counted;
//! what is refused leaves no trace in the store. When GitHub can't be asked now whether an event
//! counts, the delivery is stored and judged later, and the answer says so. When the database is away
//! the answer is 503 and nothing is stored, so that GitHub keeps the delivery as failed and it can be
//! delivered again.
//! Absent: what an event leads to; that is `intake`'s.

mod answer;
mod body;
pub mod event;
pub mod payload;
mod signature;

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Extension, Json, Router};
use patchfleet_telemetry::{Metrics, trace};
use secrecy::SecretString;
use tracing::{Instrument as _, field};

use self::answer::{Accepted, Refused};
use self::body::Bodies;
use self::event::Event;
use self::payload::Payload;
use crate::intake::Intake;
use crate::store::Delivery;

/// GitHub's delivery ids are UUIDs; this leaves room without letting anything in.
const MAX_DELIVERY_ID: usize = 128;

/// What the endpoint needs.
#[derive(Clone)]
pub struct WebhookState {
    /// One secret, or two while they are being rotated.
    pub secrets: Arc<[SecretString]>,
    /// Where events go.
    pub intake: Arc<Intake>,
    /// Where deliveries are counted.
    pub metrics: Metrics,
}

/// The endpoint.
pub fn router(state: WebhookState) -> Router {
    Router::new()
        .route("/webhooks/github", post(receive))
        .layer(Extension(Bodies::default()))
        .with_state(state)
}

async fn receive(
    State(state): State<WebhookState>,
    Extension(bodies): Extension<Bodies>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let event = event::known_name(text(&headers, "x-github-event").unwrap_or_default());
    // What others say of traces is not followed: anybody may send a header.
    let span = tracing::info_span!(
        target: trace::TARGET, "webhook", otel.kind = "server", github.event = event,
        trace_id = field::Empty
    );
    trace::follow(&span, None);
    let result = accept(&state, &headers, (&bodies, body))
        .instrument(span.clone())
        .await;
    let outcome = result.as_ref().map_or_else(Refused::word, Accepted::word);
    let counter = &state.metrics.webhook_deliveries;
    counter.with_label_values(&[event, outcome]).inc();
    match result {
        Ok(accepted) => (StatusCode::ACCEPTED, Json(accepted)).into_response(),
        Err(refused) => {
            trace::failed(&span, &refused);
            tracing::warn!(event, outcome, reason = %refused, "a delivery was refused");
            refused.problem().into_response()
        }
    }
}

async fn accept(
    state: &WebhookState,
    headers: &HeaderMap,
    (bodies, body): (&Bodies, Body),
) -> Result<Accepted, Refused> {
    let body = bodies.read(headers, body).await?;
    let given = text(headers, "x-hub-signature-256");
    if !signature::is_valid(&state.secrets, given, &body) {
        return Err(Refused::Signature);
    }
    let name = text(headers, "x-github-event").filter(|name| !name.is_empty());
    let name = name.ok_or(Refused::MissingHeader("X-GitHub-Event"))?;
    let id = text(headers, "x-github-delivery").filter(|id| is_delivery_id(id));
    let id = id.ok_or(Refused::MissingHeader("X-GitHub-Delivery"))?;
    let payload = Payload::of(text(headers, "content-type"), &body);
    let payload = payload.map_err(Refused::Malformed)?;
    let event = Event::read(name, &payload);
    let delivery = Delivery {
        id: id.to_owned(),
        event: event::known_name(name).to_owned(),
        action: payload.action.clone(),
        repository: payload.repository.clone(),
        issue: None,
    };
    let taken = state
        .intake
        .accept(&delivery, &event, payload.text())
        .await?;
    Ok(Accepted::new(delivery, taken))
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

fn is_delivery_id(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_graphic();
    !text.is_empty() && text.len() <= MAX_DELIVERY_ID && text.bytes().all(plain)
}
