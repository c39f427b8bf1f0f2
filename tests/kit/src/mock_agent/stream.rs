//! A mock agent's streams: connect, register, say and hear, come back.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_proto::v1::agent_message::Body;
use patchfleet_proto::v1::coordinator_message::Body as Told;
use patchfleet_proto::v1::fleet_client::FleetClient;
use patchfleet_proto::{FREE_WITHIN, MAX_MESSAGE_BYTES, PUSHBACK, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, Interval};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};

use super::state::{Closed, State};
use super::{PATIENCE, Shared, conduct};

/// Between two streams.
const PAUSE: Duration = Duration::from_millis(50);
/// How much longer to try than another process with the same id may be silent.
const RIVAL_SLACK: Duration = Duration::from_secs(5);
/// Messages on their way to the coordinator.
const OUTGOING: usize = 64;

/// Connects whenever the agent is not told to stay away, until it is dropped.
pub(super) async fn keep_connected(shared: Arc<Shared>) {
    let shutdown = shared.shutdown.clone();
    shutdown
        .run_until_cancelled(async {
            let mut rival = None;
            loop {
                let status = one_stream(&shared).await;
                let id_taken = is_taken(&mut rival, &status);
                rival.take_if(|_| id_taken);
                let pushback = millis(&status, PUSHBACK).unwrap_or_default();
                shared.state.send_modify(|state| {
                    state.ended(closed(&status));
                    state.seen.id_taken = id_taken;
                    state.away |= id_taken;
                });
                tokio::time::sleep(PAUSE + pushback).await;
            }
        })
        .await;
}

/// True when another process has the agent's id: it took over, or had the time to end since the
/// first refusal and did not.
fn is_taken(rival: &mut Option<Instant>, status: &Status) -> bool {
    match status.code() {
        Code::Aborted => true,
        Code::AlreadyExists => {
            let free_within = millis(status, FREE_WITHIN).unwrap_or_default();
            let since = rival.get_or_insert_with(Instant::now);
            since.elapsed() > free_within + RIVAL_SLACK
        }
        _ => {
            *rival = None;
            false
        }
    }
}

/// A time in a status's trailers.
fn millis(status: &Status, trailer: &str) -> Option<Duration> {
    let millis = status.metadata().get(trailer)?.to_str().ok()?;
    Some(Duration::from_millis(millis.parse().ok()?))
}

async fn one_stream(shared: &Arc<Shared>) -> Status {
    let mut changes = shared.state.subscribe();
    if changes.wait_for(|state| !state.away).await.is_err() {
        return Status::cancelled("dropped");
    }
    let token = CancellationToken::new();
    shared.state.send_modify(|state| {
        state.stream = token.clone();
        if state.away {
            token.cancel();
        }
    });
    match token.run_until_cancelled(Box::pin(converse(shared))).await {
        Some(Ok(())) => Status::ok("the coordinator ended the stream"),
        Some(Err(status)) => status,
        None => Status::cancelled("cut by the mock agent"),
    }
}

fn closed(status: &Status) -> Closed {
    Closed {
        code: status.code(),
        message: status.message().to_owned(),
    }
}

async fn converse(shared: &Arc<Shared>) -> Result<(), Status> {
    let unavailable = |error: tonic::transport::Error| Status::unavailable(error.to_string());
    let endpoint = Endpoint::from_shared(shared.profile.coordinator.clone())
        .map_err(unavailable)?
        .connect_timeout(PATIENCE);
    let channel = endpoint.connect().await.map_err(unavailable)?;
    let (tx, rx) = mpsc::channel(OUTGOING);
    let mut saying = Saying::new(tx);
    saying.say(Body::Register(register(shared))).await?;

    let mut request = Request::new(ReceiverStream::new(rx));
    let bearer = MetadataValue::try_from(format!("Bearer {}", shared.profile.key))
        .map_err(|error| Status::invalid_argument(error.to_string()))?;
    request.metadata_mut().insert("authorization", bearer);
    let mut client = FleetClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let mut incoming = client.connect(request).await?.into_inner();

    let welcome = match incoming.message().await? {
        Some(message) => hear(shared, message),
        None => None,
    };
    let Some(heartbeats) = welcome else {
        return Err(Status::internal("the first message was no welcome"));
    };
    exchange(shared, &mut saying, incoming, heartbeats).await
}

fn register(shared: &Shared) -> v1::Register {
    let profile = &shared.profile;
    let state = shared.state.borrow();
    v1::Register {
        agent_id: profile.id.clone(),
        agent_type: profile.agent_type.clone(),
        capabilities: profile.capabilities.clone(),
        clearance: profile.clearance.clone(),
        slots: profile.slots,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        protocol: profile.protocol,
        instance: state.instance.to_string(),
        resume: state.current().into_iter().map(Into::into).collect(),
        state: state.says.map_or_else(String::new, |it| it.to_string()),
        reason: state.reason(),
    }
}

async fn exchange(
    shared: &Arc<Shared>,
    saying: &mut Saying,
    mut incoming: Streaming<v1::CoordinatorMessage>,
    mut heartbeats: Interval,
) -> Result<(), Status> {
    let mut changes = shared.state.subscribe();
    loop {
        if shared.state.borrow().silent {
            tokio::select! {
                message = incoming.message() => if message?.is_none() { return Ok(()); },
                _ = changes.changed() => {}
            }
            continue;
        }
        if saying.flush(shared).await? {
            shared.state.send_modify(|state| state.away = true);
            saying.close();
            return drain(incoming).await;
        }
        tokio::select! {
            message = incoming.message() => match message? {
                Some(message) => { hear(shared, message); }
                None => return Ok(()),
            },
            _ = heartbeats.tick() => {
                if shared.state.borrow().is_overdue() {
                    return Err(Status::cancelled("no lease was renewed for a whole lease"));
                }
                let heartbeat = shared.state.borrow().heartbeat(shared.profile.slots);
                saying.say(Body::Heartbeat(heartbeat)).await?;
            }
            _ = changes.changed() => {}
        }
    }
}

/// Lets the coordinator end the stream, so that what was said last arrives.
async fn drain(mut incoming: Streaming<v1::CoordinatorMessage>) -> Result<(), Status> {
    let ended = async {
        while incoming.message().await?.is_some() {}
        Ok(())
    };
    let late = |_| Status::deadline_exceeded("the coordinator did not end the stream");
    tokio::time::timeout(PATIENCE, ended).await.map_err(late)?
}

/// Takes in a message; a welcome gives the beat. A kind that it does not know is left out.
fn hear(shared: &Arc<Shared>, message: v1::CoordinatorMessage) -> Option<Interval> {
    let mut beat = None;
    if let Some(body) = message.body {
        shared.state.send_modify(|state| state.told(&body));
        match body {
            Told::Welcome(welcome) => {
                let every = Duration::from_millis(welcome.heartbeat_interval_ms.max(1));
                beat = Some(tokio::time::interval(every));
            }
            Told::Assign(assign) => conduct::take(shared, assign),
            Told::Cancel(cancel) => {
                if let Some(Ok(work)) = cancel.work.map(TryInto::try_into) {
                    shared
                        .state
                        .send_modify(|state| conduct::cancel(state, work));
                }
            }
            _ => {}
        }
    }
    beat
}

/// The sending half of a stream.
struct Saying {
    tx: mpsc::Sender<v1::AgentMessage>,
    /// The newest report that was sent on this stream.
    reported: u64,
}

impl Saying {
    fn new(tx: mpsc::Sender<v1::AgentMessage>) -> Self {
        Self { tx, reported: 0 }
    }

    async fn say(&self, body: Body) -> Result<(), Status> {
        let message = v1::AgentMessage { body: Some(body) };
        let gone = |_| Status::unavailable("the stream is gone");
        self.tx.send(message).await.map_err(gone)
    }

    /// Sends what waits; true after a goodbye.
    async fn flush(&mut self, shared: &Shared) -> Result<bool, Status> {
        let reports = unsent(&shared.state, self.reported);
        for (order, report) in reports {
            self.reported = order;
            self.say(Body::Report(report.into())).await?;
        }
        while let Some(body) = pop(&shared.state) {
            let leaves = matches!(body, Body::Goodbye(_));
            self.say(body).await?;
            if leaves {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Says nothing more.
    fn close(&mut self) {
        let (closed, _) = mpsc::channel(1);
        self.tx = closed;
    }
}

fn unsent(state: &watch::Sender<State>, after: u64) -> Vec<(u64, patchfleet_domain::Report)> {
    let state = state.borrow();
    let newer = state
        .unacknowledged
        .iter()
        .filter(|(order, _)| *order > after);
    newer.cloned().collect()
}

/// Takes the next message without waking those who wait for changes.
fn pop(state: &watch::Sender<State>) -> Option<Body> {
    let mut body = None;
    state.send_if_modified(|state| {
        body = state.outbox.pop_front();
        false
    });
    body
}
