//! A mock agent's streams: connect, register, say and hear, come back.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_proto::v1::agent_message::Body;
use patchfleet_proto::v1::coordinator_message::Body as Told;
use patchfleet_proto::v1::fleet_client::FleetClient;
use patchfleet_proto::{MAX_MESSAGE_BYTES, v1};
use tokio::sync::{mpsc, watch};
use tokio::time::Interval;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataValue;
use tonic::transport::Endpoint;
use tonic::{Code, Request, Status, Streaming};

use super::state::{Closed, State};
use super::{Shared, conduct};

/// Between two streams.
const PAUSE: Duration = Duration::from_millis(50);
/// Messages on their way to the coordinator.
const OUTGOING: usize = 64;

/// Connects whenever the agent is not told to stay away, until it is dropped.
pub(super) async fn keep_connected(shared: Arc<Shared>) {
    let shutdown = shared.shutdown.clone();
    shutdown
        .run_until_cancelled(async {
            loop {
                let closed = one_stream(&shared).await;
                let gives_up = is_verdict(closed.code);
                shared.state.send_modify(|state| {
                    state.ended(closed);
                    state.away |= gives_up;
                });
                tokio::time::sleep(PAUSE).await;
            }
        })
        .await;
}

/// True where connecting again would only meet the same answer.
fn is_verdict(code: Code) -> bool {
    matches!(
        code,
        Code::Aborted | Code::FailedPrecondition | Code::InvalidArgument | Code::Unauthenticated
    )
}

async fn one_stream(shared: &Arc<Shared>) -> Closed {
    let mut changes = shared.state.subscribe();
    if changes.wait_for(|state| !state.away).await.is_err() {
        return closed(&Status::cancelled("dropped"));
    }
    let token = CancellationToken::new();
    shared.state.send_modify(|state| {
        state.stream = token.clone();
        if state.away {
            token.cancel();
        }
    });
    match token.run_until_cancelled(Box::pin(converse(shared))).await {
        Some(Ok(())) => closed(&Status::ok("the coordinator ended the stream")),
        Some(Err(status)) => closed(&status),
        None => closed(&Status::cancelled("cut by the mock agent")),
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
        .connect_timeout(Duration::from_secs(5));
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
        Some(message) => hear(shared, &mut saying, message).await?,
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
                Some(message) => { hear(shared, saying, message).await?; }
                None => return Ok(()),
            },
            _ = heartbeats.tick() => {
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
    tokio::time::timeout(Duration::from_secs(5), ended)
        .await
        .map_err(late)?
}

/// Takes in a message and acknowledges it; a welcome gives the beat.
async fn hear(
    shared: &Arc<Shared>,
    saying: &mut Saying,
    message: v1::CoordinatorMessage,
) -> Result<Option<Interval>, Status> {
    let seq = message.seq;
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
    saying.say(Body::Ack(v1::Ack { seq })).await?;
    Ok(beat)
}

/// The sending half of a stream.
struct Saying {
    tx: mpsc::Sender<v1::AgentMessage>,
    seq: u64,
    /// The newest report that was sent on this stream.
    reported: u64,
}

impl Saying {
    fn new(tx: mpsc::Sender<v1::AgentMessage>) -> Self {
        Self {
            tx,
            seq: 0,
            reported: 0,
        }
    }

    async fn say(&mut self, body: Body) -> Result<(), Status> {
        self.seq += 1;
        let message = v1::AgentMessage {
            seq: self.seq,
            body: Some(body),
        };
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
