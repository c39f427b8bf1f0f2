//! HTTP/1.1 and HTTP/2 for whoever connects, so that nobody who is slow or does nothing keeps others
//! out.
//!
//! A connection may be idle for a while, has a shorter time for the head of a request, and is closed
//! when that is over; on HTTP/2 ([`serve_http2`]) it has that time to authenticate as well. There is
//! a bound of connections, which file descriptors bound as well. Where it is reached, one that does
//! nothing makes room for a new one: the oldest of the source address that has the most. When all of
//! them are being answered a new one is refused, on HTTP/1.1 with 503. How often the key of a
//! listener may be guessed is counted by source as well ([`GuardedKey`]). Absent: time limits of answers
//! and bodies, which the routes have themselves; TLS, for which a proxy stands in front.

mod connections;
mod guesses;
mod http2;
mod phase;
mod source;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use nix::sys::resource::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use self::connections::{Connections, Seat};
pub use self::guesses::{GUESSES_AT_ONCE, GUESSES_PER_MINUTE, GuardedKey, Guesses};
pub use self::http2::{Client, serve_http2};
pub use self::phase::Answering;
use self::phase::{Phase, Watched};
pub use self::source::Source;

/// Between two tries to accept when the system has no more descriptors.
const AGAIN: Duration = Duration::from_millis(100);
/// What is said when there is no room. Nothing of the request has been read.
const REFUSAL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nConnection: close\r\n\
Content-Type: text/plain\r\nContent-Length: 44\r\n\r\nall connections are in use; try again later\n";

/// What connections may take.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How many there may be at once.
    pub connections: usize,
    /// How many of them there may be on which nothing is answered.
    pub quiet: usize,
    /// How long the head of a request may take from its first byte on; on HTTP/2, how long it may
    /// take from the connection on until the client has authenticated.
    pub head: Duration,
    /// How long nothing may be asked on a connection, and how long its answer may take to be read.
    /// Longer than proxies keep their connections, so that it is they who close them.
    pub idle: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let connections = 4096.min(descriptors() / 2);
        Self {
            connections,
            quiet: connections,
            head: Duration::from_secs(10),
            idle: Duration::from_secs(90),
        }
    }
}

impl Limits {
    /// Limits of a listener for that many clients that keep their connections, beside which there is
    /// room for others that have not authenticated yet.
    pub fn long_lived(clients: usize) -> Self {
        let quiet = 4096.min(descriptors() / 4);
        Self {
            connections: clients.saturating_add(quiet),
            quiet,
            ..Self::default()
        }
    }
}

/// How many files this process may have open; half of them are for the database, git and agents.
fn descriptors() -> usize {
    let limit = getrlimit(Resource::RLIMIT_NOFILE).map_or(1024, |(soft, _)| soft);
    usize::try_from(limit).unwrap_or(usize::MAX)
}

/// Answers until told to end, and then until every request that has begun is answered.
pub async fn serve(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let protocol = Protocol {
        newcomer: Phase::idle,
        refuse: |stream, _| {
            // Whether it is read is up to the other side.
            let _ = stream.try_write(REFUSAL);
        },
        converse,
    };
    protocol.serve((listener, limits), app, shutdown).await;
}

/// How connections of one protocol begin.
struct Protocol<F> {
    /// What a new one does at first.
    newcomer: fn() -> Phase,
    /// What becomes of one that there is no room for, before it is closed.
    refuse: fn(&TcpStream, SocketAddr),
    /// Answers on one until it ends.
    converse: fn(Conversation, CancellationToken) -> F,
}

impl<F: Future<Output = ()> + Send + 'static> Protocol<F> {
    async fn serve(
        self,
        (listener, limits): (TcpListener, Limits),
        app: Router,
        shutdown: CancellationToken,
    ) {
        let connections = Connections::new(limits);
        let mut tasks = JoinSet::new();
        while let Some((stream, peer)) = accept(&listener, &connections, &shutdown).await {
            while tasks.try_join_next().is_some() {}
            let Some(seat) = connections.enter(peer.into(), (self.newcomer)()) else {
                (self.refuse)(&stream, peer);
                continue;
            };
            let conversation = Conversation {
                stream,
                peer,
                seat,
                app: app.clone(),
                limits,
            };
            tasks.spawn((self.converse)(conversation, shutdown.clone()));
        }
        drop(listener);
        while tasks.join_next().await.is_some() {}
    }
}

/// The next connection; nothing when it is time to end.
async fn accept(
    listener: &TcpListener,
    connections: &Connections,
    shutdown: &CancellationToken,
) -> Option<(TcpStream, SocketAddr)> {
    loop {
        match shutdown.run_until_cancelled(listener.accept()).await? {
            Ok((stream, peer)) => {
                // Small answers are not held back for more to come.
                let _ = stream.set_nodelay(true);
                return Some((stream, peer));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                connections.shed();
                tokio::time::sleep(AGAIN).await;
            }
        }
    }
}

/// A connection and what answers on it.
struct Conversation {
    stream: TcpStream,
    peer: SocketAddr,
    seat: Seat,
    app: Router,
    limits: Limits,
}

async fn converse(conversation: Conversation, shutdown: CancellationToken) {
    let Conversation {
        stream,
        peer,
        seat,
        app,
        limits,
    } = conversation;
    let phase = Arc::clone(&seat.phase);
    let service = service_fn(move |request: Request<Incoming>| {
        let (app, phase) = (app.clone(), Arc::clone(&phase));
        async move {
            let _answering = Answering::begin(&phase);
            answer(app, peer, request).await
        }
    });
    let io = TokioIo::new(Watched::new(stream, Arc::clone(&seat.phase)));
    let mut connection = pin!(http1::Builder::new().serve_connection(io, service));
    let overdue = phase::overdue(seat.phase.subscribe(), limits);
    tokio::select! {
        // What a client does wrong is of no interest.
        _ = connection.as_mut() => return,
        () = overdue => return,
        () = seat.shed.cancelled() => return,
        () = shutdown.cancelled() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

async fn answer(
    app: Router,
    peer: SocketAddr,
    request: Request<Incoming>,
) -> Result<Response<Body>, Infallible> {
    let mut request = request.map(Body::new);
    request.extensions_mut().insert(ConnectInfo(peer));
    app.oneshot(request).await
}
