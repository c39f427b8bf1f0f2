//! Webhook deliveries as GitHub's delivery log shows them.

use serde_json::{Value, json};

use super::super::hook::signature::sign;
use super::super::hook::{Attempt, Delivery};
use super::super::state::State;
use super::account::merge;
use super::time;

/// An entry of the log.
pub(crate) fn item(state: &State, delivery: &Delivery, attempt: &Attempt) -> Value {
    let installation = delivery.repository.and_then(|id| {
        let mut all = state.installations.iter();
        all.find(|one| one.repositories.contains(&id))
            .map(|one| one.id)
    });
    json!({
        "id": attempt.id,
        "guid": delivery.id,
        "delivered_at": time(attempt.at),
        "redelivery": attempt.redelivery,
        "duration": attempt.duration.as_secs_f64(),
        "status": words(attempt.status),
        "status_code": attempt.status.unwrap_or(0),
        "event": delivery.event,
        "action": delivery.action,
        "installation_id": installation,
        "repository_id": delivery.repository.map(|id| id.0),
        "throttled_at": null,
    })
}

/// An entry with what was sent and what came back.
pub(crate) fn full(state: &State, delivery: &Delivery, attempt: &Attempt) -> Value {
    let hook = state.hooks.find(delivery.hook);
    let signature = hook.map(|hook| sign(&hook.secret, delivery.body.as_bytes()));
    let mut body = item(state, delivery, attempt);
    let more = json!({
        "url": hook.map(|hook| hook.url.clone()),
        "request": {
            "headers": {
                "X-GitHub-Event": delivery.event,
                "X-GitHub-Delivery": delivery.id,
                "X-Hub-Signature-256": signature,
            },
            "payload": delivery.payload(),
        },
        "response": { "headers": {}, "payload": attempt.answer },
    });
    merge(&mut body, more);
    body
}

fn words(status: Option<u16>) -> String {
    match status {
        None => "timed out".to_owned(),
        Some(200..=299) => "OK".to_owned(),
        Some(code) => format!("Invalid HTTP Response: {code}"),
    }
}
