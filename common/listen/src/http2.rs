//! HTTP/2 without TLS, for clients that authenticate once and keep their connections: gRPC.
//!
//! Whoever has not authenticated is closed after a while, whatever it sends, and makes room for
//! others. Whoever has is only closed when nothing is asked for a while, or when its host does not
//! answer HTTP/2's pings.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::Request;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::phase::{self, Answering, Phase};
use crate::{Conversation, Limits, Protocol, Source, answer};

/// How often a silent connection is probed, and how long it may take to answer.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(10));
/// Requests that may be answered at once on a connection: a client has one stream, and another one
/// while it takes over from itself.
const STREAMS: u32 = 8;
/// What the heads of a request may take.
const HEAD_BYTES: u32 = 16 * 1024;

/// The client that a request comes from; among the extensions of each request.
#[derive(Debug, Clone)]
pub struct Client {
    /// Its address.
    pub peer: SocketAddr,
    phase: Arc<watch::Sender<Phase>>,
}

impl Client {
    /// What limits count it by.
    pub fn source(&self) -> Source {
        self.peer.into()
    }

    /// Keeps the connection open for as long as the value lives: the client has authenticated.
    #[must_use = "the connection is idle when this is dropped"]
    pub fn authenticated(&self) -> Answering {
        Answering::begin(&self.phase)
    }
}

/// Serves HTTP/2 until the shutdown, and then until every request that has begun is answered.
pub async fn serve_http2(
    listener: TcpListener,
    app: Router,
    limits: Limits,
    shutdown: CancellationToken,
) {
    let protocol = Protocol {
        newcomer: || Phase::Head(Instant::now()),
        // Without room it is closed, which clients take for a reason to come back later.
        refuse: |_, peer| tracing::debug!(%peer, "no room for a connection"),
        converse,
    };
    protocol.serve((listener, limits), app, shutdown).await;
}

async fn converse(conversation: Conversation, shutdown: CancellationToken) {
    let Conversation {
        stream,
        peer,
        seat,
        app,
        limits,
    } = conversation;
    let client = Client {
        peer,
        phase: Arc::clone(&seat.phase),
    };
    let service = service_fn(move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(client.clone());
        answer(app.clone(), peer, request)
    });
    let connection = builder().serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let overdue = phase::overdue(seat.phase.subscribe(), limits);
    tokio::select! {
        // What a client does wrong is of no interest.
        _ = connection.as_mut() => return,
        () = overdue => return,
        () = seat.shed.cancelled() => return,
        () = shutdown.cancelled() => {
            // A stranger might keep the end waiting by not answering.
            if matches!(*seat.phase.borrow(), Phase::Head(_)) {
                return;
            }
            connection.as_mut().graceful_shutdown();
        }
    }
    let _ = connection.await;
}

fn builder() -> http2::Builder<TokioExecutor> {
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .keep_alive_interval(KEEPALIVE.0)
        .keep_alive_timeout(KEEPALIVE.1)
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD_BYTES);
    builder
}
