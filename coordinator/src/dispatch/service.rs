//! The gRPC service: checks the key, starts a session for each stream, ends them all on shutdown.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_config::ApiKey;
use patchfleet_domain::AgentId;
use patchfleet_listen::{Client, Limits, Source, serve_http2};
use patchfleet_proto::v1::fleet_server::{Fleet, FleetServer};
use patchfleet_proto::{FREE_WITHIN, MAX_MESSAGE_BYTES, PUSHBACK, v1};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tonic::metadata::MetadataValue;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::auth::KeyCheck;
use super::outgoing::{self, Item};
use super::{Credentials, Registry, lookout, session};
use crate::cache::Cache;
use crate::store::{Store, Terms};

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
    check: KeyCheck,
    /// Cancelled when the coordinator ends.
    pub(super) shutdown: CancellationToken,
    sessions: TaskTracker,
}

/// The service `fleet.v1.Fleet`. Cheap to clone; clones are the same service.
#[derive(Debug, Clone)]
pub struct FleetService {
    shared: Arc<Shared>,
    limits: Limits,
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
        let limits = Limits::long_lived(options.max_agents);
        let shared = Arc::new(Shared {
            store,
            registry,
            credentials,
            check: KeyCheck::new(options.key.clone(), &cache),
            options,
            cache,
            shutdown: CancellationToken::new(),
            sessions: TaskTracker::new(),
        });
        Self { shared, limits }
    }

    /// The same with other limits of connections.
    #[must_use]
    pub const fn limited(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
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
        let client = request.extensions().get::<Client>().cloned();
        let source = client.as_ref().map_or(Source::UNKNOWN, Client::source);
        self.shared.check.check(&request, source).await?;
        let connection = client.as_ref().map(Client::authenticated);
        if self.shared.shutdown.is_cancelled() {
            return Err(shutting_down());
        }
        if self.shared.sessions.len() >= self.shared.options.max_agents {
            return Err(full());
        }
        let (tx, rx) = mpsc::channel(outgoing::CHANNEL);
        let stream = (request.into_inner(), client.map(|client| client.peer));
        let session = session::serve(self.shared.clone(), stream, tx);
        self.shared.sessions.spawn(async move {
            session.await;
            drop(connection);
        });
        // Answered before the registration, so that no agent waits for the answer to register.
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

/// Serves agents until the shutdown, then drains for a few seconds at most.
pub async fn serve(listener: TcpListener, service: FleetService, shutdown: CancellationToken) {
    let fleet = FleetServer::new(service.clone())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES);
    let app = Routes::new(fleet).prepare().into_axum_router();
    let limits = service.limits;
    let stop = CancellationToken::new();
    let serving = serve_http2(listener, app, limits, stop.clone());
    tokio::pin!(serving);
    tokio::select! {
        () = &mut serving => return,
        () = lookout::run(&service.shared) => {}
        () = shutdown.cancelled() => {}
    }
    let draining = async {
        service.close().await;
        stop.cancel();
    };
    let drained = async { tokio::join!(draining, serving) };
    if tokio::time::timeout(DRAIN * 2, drained).await.is_err() {
        tracing::warn!("some agents' connections did not end in time and are dropped");
    }
}
