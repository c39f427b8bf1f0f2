//! Counts requests and how long they take, by the route that they matched.

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::Response;
use patchfleet_telemetry::Metrics;
use tokio::time::Instant;

/// Methods that have a name of their own in metrics; anybody may send others.
const METHODS: [&str; 6] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"];

pub(super) async fn measure(
    State(metrics): State<Metrics>,
    request: Request,
    next: Next,
) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let endpoint = matched.map_or_else(|| "none".to_owned(), |it| it.as_str().to_owned());
    let method = request.method().as_str();
    let known = METHODS.into_iter().find(|known| *known == method);
    let method = known.unwrap_or("other");
    let began = Instant::now();
    let response = next.run(request).await;
    let took = began.elapsed().as_secs_f64();
    let status = response.status();
    let labels = [endpoint.as_str(), method, status.as_str()];
    metrics.api_requests.with_label_values(&labels).inc();
    let duration = metrics.api_duration.with_label_values(&[&endpoint]);
    duration.observe(took);
    response
}
