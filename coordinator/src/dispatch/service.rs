//! The gRPC service: checks the key, starts a session for each stream, ends them all on shutdown.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use patchfleet_config::ApiKey;
use patchfleet_domain::AgentId;
use patchfleet_proto::v1::fleet_server::{Fleet, FleetServer};
use patchfleet_proto::{FREE_WITHIN, MAX_MESSAGE_BYTES, PUSHBACK, v1};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataValue;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Server;
use tonic::transport::server::{Router, TcpIncoming};
use tonic::{Request, Response, Status, Streaming};

use super::auth::KeyCheck;
use super::outgoing::{self, Item};
use super::{Credentials, Registry, lookout, session};
use crate::cache::Cache;
use crate::store::{Store, Terms};

/// How often a silent connection is probed, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// How long sessions may take to end on shutdown, and connections after them.
const DRAIN: Duration = Duration::from_secs(3);

/// When an agent that found no room is to come back.
const FULL_PUSHBACK_MS: u64 = 5000;

/// How sessions are held.
#[derive(Debug, Clone)]
pub struct FleetOptions {
    /// What agents have to show.
    pub key: ApiKey,
    /// How long an attempt lives without a sign of life.
    pub lease: Duration,
    /// How often agents are to give a sign of life.
    pub heartbeat: Duration,
    /// How long an attempt lives after its agent's stream broke.
    pub grace: Duration,
    /// How long an attempt may take, although its agent lives.
    pub deadline: Duration,
    /// Streams that may be open at once.
    pub max_agents: usize,
}

impl FleetOptions {
    /// How long an agent may say nothing: its leases are over by then.
    pub(super) fn silence(&self) -> Duration {
        self.lease.max(self.heartbeat * 3)
    }

    pub(super) const fn terms(&self) -> Terms {
        Terms {
            lease: self.lease,
            deadline: self.deadline,
        }
    }
}

/// What all sessions share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Arc<dyn Store>,
    pub(super) registry: Registry,
    pub(super) credentials: Arc<dyn Credentials>,
    pub(super) options: FleetOptions,
    pub(super) cache: Cache,
    /// Cancelled when the coordinator ends.
    pub(super) shutdown: CancellationToken,
    sessions: TaskTracker,
}

/// The service `fleet.v1.Fleet`. Cheap to clone; clones are the same service.
#[derive(Debug, Clone)]
pub struct FleetService {
    shared: Arc<Shared>,
}

impl FleetService {
    /// A service for agents whose attempts are in that store. What they say of themselves is also
    /// left in the cache, for other replicas.
    pub fn new(
        store: Arc<dyn Store>,
        registry: Registry,
        credentials: Arc<dyn Credentials>,
        (options, cache): (FleetOptions, Cache),
    ) -> Self {
        let shared = Arc::new(Shared {
            store,
            registry,
            credentials,
            options,
            cache,
            shutdown: CancellationToken::new(),
            sessions: TaskTracker::new(),
        });
        Self { shared }
    }

    /// Ends all sessions with `UNAVAILABLE`, so that agents come back, and waits for their end
    /// for a moment. New streams are refused the same way.
    pub async fn close(&self) {
        self.shared.shutdown.cancel();
        self.shared.sessions.close();
        let ended = tokio::time::timeout(DRAIN, self.shared.sessions.wait());
        if ended.await.is_err() {
            tracing::warn!("some sessions did not end in time and are dropped");
        }
    }
}

/// The answer to streams that come too late, or stayed too long.
pub(super) fn shutting_down() -> Status {
    Status::unavailable("the coordinator is shutting down; connect again")
}

/// The answer to a stream whose agent has a newer one.
pub(super) fn superseded() -> Status {
    Status::aborted("a newer stream of this agent took over")
}

/// The answer to a process whose agent id another process has.
pub(super) fn occupied(agent: &AgentId, silence: Duration) -> Status {
    let mut status = Status::already_exists(format!(
        "another process with the id `{agent}` is connected; this one gets the place when that one \
         ends, or is not heard for {silence:?}"
    ));
    let millis = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX);
    let free_within = MetadataValue::from(millis);
    status.metadata_mut().insert(FREE_WITHIN, free_within);
    status
}

/// The answer to streams that are too many.
fn full() -> Status {
    let mut status = Status::resource_exhausted("as many agents are connected as may be");
    let pushback = MetadataValue::from(FULL_PUSHBACK_MS);
    status.metadata_mut().insert(PUSHBACK, pushback);
    status
}

#[tonic::async_trait]
impl Fleet for FleetService {
    type ConnectStream = ReceiverStream<Item>;

    async fn connect(
        &self,
        request: Request<Streaming<v1::AgentMessage>>,
    ) -> Result<Response<Self::ConnectStream>, Status> {
        if self.shared.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        if self.shared.sessions.len() >= self.shared.options.max_agents {
            return Err(full());
        }
        let (tx, rx) = mpsc::channel(outgoing::CHANNEL);
        let peer = request.remote_addr();
        let stream = (request.into_inner(), peer);
        let session = session::serve(self.shared.clone(), stream, tx);
        self.shared.sessions.spawn(session);
        // Answered before the registration, so that no agent waits for the answer to register.
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

/// The gRPC server with its limits: size of messages, keepalive, the key.
pub fn server(service: FleetService) -> Router {
    let check = KeyCheck::new(service.shared.options.key.clone());
    let fleet = FleetServer::new(service)
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE.0))
        .http2_keepalive_timeout(Some(KEEPALIVE.1))
        .add_service(InterceptedService::new(fleet, check))
}

/// Serves agents until the shutdown, then drains for a few seconds at most.
///
/// # Errors
/// When the server fails.
pub async fn serve(
    listener: TcpListener,
    service: FleetService,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
    let stop = CancellationToken::new();
    let serving = server(service.clone())
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    tokio::pin!(serving);
    tokio::select! {
        served = &mut serving => return served.context("the server for agents failed"),
        () = lookout::run(&service.shared) => {}
        () = shutdown.cancelled() => {}
    }
    let draining = async {
        service.close().await;
        stop.cancel();
    };
    let drained = async { tokio::join!(draining, serving).1 };
    if let Ok(served) = tokio::time::timeout(DRAIN * 2, drained).await {
        return served.context("the server for agents failed");
    }
    tracing::warn!("some agents' connections did not end in time and are dropped");
    Ok(())
}
