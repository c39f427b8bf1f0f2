//! The task that posts deliveries, one after the other.
//!
//! GitHub waits ten seconds for an answer and does not try again by itself;
//! neither does this.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::shared::Shared;
use super::signature::sign;
use super::{Attempt, Fate, Queued};

const TIMEOUT: Duration = Duration::from_secs(10);

/// A delivery with all that is needed to post it.
struct Outgoing {
    url: String,
    headers: Vec<(&'static str, String)>,
    body: Arc<str>,
}

/// Delivers until the simulator shuts down.
pub(crate) async fn run(shared: Arc<Shared>) {
    let client = reqwest::Client::builder()
        .timeout(TIMEOUT)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .build()
        .expect("a client without TLS has nothing that could fail");
    let wake = Arc::clone(&shared.state().hooks.wake);
    loop {
        let next = shared.state().hooks.take();
        let step = async {
            match next {
                Some((queued, fate)) => deliver(&shared, &client, queued, fate).await,
                None => wake.notified().await,
            }
        };
        tokio::select! {
            () = step => {}
            () = shared.stop.cancelled() => return,
        }
    }
}

async fn deliver(shared: &Shared, client: &reqwest::Client, queued: Queued, fate: Fate) {
    let times = match fate {
        Fate::Lost => 0,
        Fate::Once => 1,
        Fate::Twice => 2,
    };
    if times == 0 {
        record(shared, queued, None, Duration::ZERO);
    }
    for _ in 0..times {
        let outgoing = outgoing(shared, queued);
        let started = Instant::now();
        let answer = match outgoing {
            Some(outgoing) => post(client, outgoing).await,
            None => None,
        };
        record(shared, queued, answer, started.elapsed());
    }
    shared.state().hooks.landed();
    shared.changed.notify_waiters();
}

fn outgoing(shared: &Shared, queued: Queued) -> Option<Outgoing> {
    let state = shared.state();
    let delivery = state.hooks.deliveries.get(queued.index)?;
    let hook = state.hooks.find(delivery.hook)?;
    let target = delivery.repository.map_or(0, |id| id.0);
    Some(Outgoing {
        url: hook.url.clone(),
        headers: vec![
            ("content-type", "application/json".to_owned()),
            ("accept", "*/*".to_owned()),
            ("user-agent", "GitHub-Hookshot/0000001".to_owned()),
            ("x-github-event", delivery.event.clone()),
            ("x-github-delivery", delivery.id.to_string()),
            ("x-github-hook-id", hook.id.0.to_string()),
            ("x-github-hook-installation-target-id", target.to_string()),
            (
                "x-github-hook-installation-target-type",
                "repository".to_owned(),
            ),
            (
                "x-hub-signature-256",
                sign(&hook.secret, delivery.body.as_bytes()),
            ),
        ],
        body: Arc::clone(&delivery.body),
    })
}

/// Status and text of the answer.
async fn post(client: &reqwest::Client, outgoing: Outgoing) -> Option<(u16, String)> {
    let mut request = client.post(&outgoing.url).body(outgoing.body.to_string());
    for (name, value) in outgoing.headers {
        request = request.header(name, value);
    }
    match request.send().await {
        Ok(answer) => {
            let status = answer.status().as_u16();
            Some((status, answer.text().await.unwrap_or_default()))
        }
        Err(error) => {
            tracing::debug!(%error, "a webhook delivery had no answer");
            None
        }
    }
}

fn record(shared: &Shared, queued: Queued, answer: Option<(u16, String)>, duration: Duration) {
    let (status, answer) = answer.unzip();
    let mut state = shared.state();
    let (id, at) = (state.next_id(), state.now());
    if let Some(delivery) = state.hooks.deliveries.get_mut(queued.index) {
        let redelivery = queued.redelivery;
        delivery.attempts.push(Attempt {
            id,
            at,
            status,
            answer: answer.unwrap_or_default(),
            duration,
            redelivery,
        });
    }
}
