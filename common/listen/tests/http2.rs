//! Clients of HTTP/2 that authenticate, and strangers that do not, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use axum::{Extension, Router};
use hyper::client::conn::http2::{SendRequest, handshake};
use hyper_util::rt::{TokioExecutor, TokioIo};
use patchfleet_listen::{Client, Limits, serve_http2};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The preface of HTTP/2, settings, and a ping.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\
\0\0\x08\x06\0\0\0\0\0whatever";
const NEVER: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(1);
const QUIET: usize = 8;

struct Server {
    address: SocketAddr,
    /// A request of somebody who has authenticated is being answered.
    begun: Arc<Notify>,
    /// Lets it be answered.
    gate: Arc<Notify>,
    shutdown: CancellationToken,
    tasks: JoinSet<()>,
}

impl Server {
    async fn new(head: Duration) -> Self {
        let (begun, gate) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (begins, gated) = (Arc::clone(&begun), Arc::clone(&gate));
        let authenticated = |Extension(client): Extension<Client>| async move {
            let _open = client.authenticated();
            begins.notify_one();
            gated.notified().await;
        };
        let app = Router::new()
            .route("/refused", get(|| async { StatusCode::UNAUTHORIZED }))
            .route("/authenticated", get(authenticated));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits {
            connections: 2 * QUIET,
            quiet: QUIET,
            head,
            idle: NEVER,
        };
        let shutdown = CancellationToken::new();
        let mut tasks = JoinSet::new();
        tasks.spawn(serve_http2(listener, app, limits, shutdown.clone()));
        Self {
            address,
            begun,
            gate,
            shutdown,
            tasks,
        }
    }

    async fn stranger(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        stream
    }

    async fn client(&mut self) -> SendRequest<Body> {
        let stream = TcpStream::connect(self.address).await.unwrap();
        let io = TokioIo::new(stream);
        let (client, connection) = handshake(TokioExecutor::new(), io).await.unwrap();
        self.tasks.spawn(async { drop(connection.await) });
        client
    }
}

async fn ask(mut client: SendRequest<Body>, path: &str) -> StatusCode {
    let request = Request::get(format!("http://here{path}"));
    let request = request.body(Body::empty()).unwrap();
    client.send_request(request).await.unwrap().status()
}

/// Waits until the other side closes.
async fn closed(mut stream: TcpStream) {
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut Vec::new()).await;
}

#[tokio::test]
async fn a_client_that_does_not_authenticate_in_time_is_closed_whatever_it_sends() {
    let mut server = Server::new(SOON).await;
    closed(TcpStream::connect(server.address).await.unwrap()).await;
    closed(server.stranger().await).await;

    // Also one whose requests are answered, as often as it asks.
    let mut client = server.client().await;
    while client.ready().await.is_ok() {
        let request = Request::get("http://here/refused").body(Body::empty());
        if client.send_request(request.unwrap()).await.is_err() {
            break;
        }
    }
}

#[tokio::test]
async fn strangers_make_room_for_each_other_and_for_whoever_authenticates() {
    let mut server = Server::new(NEVER).await;
    let client = server.client().await;
    let mut asked = JoinSet::new();
    asked.spawn(ask(client, "/authenticated"));
    server.begun.notified().await;

    let mut strangers = Vec::new();
    for _ in 0..10 * QUIET {
        strangers.push(server.stranger().await);
    }
    // Those who came first have gone, and another client gets in among those who are left.
    for gone in strangers.drain(..9 * QUIET) {
        closed(gone).await;
    }
    let client = server.client().await;
    asked.spawn(ask(client, "/authenticated"));
    server.begun.notified().await;
    for _ in 0..10 * QUIET {
        strangers.push(server.stranger().await);
    }
    closed(strangers.remove(0)).await;
    server.gate.notify_waiters();
    assert_eq!(asked.join_all().await, [StatusCode::OK; 2]);
}

#[tokio::test]
async fn an_end_waits_for_what_is_answered_and_for_no_stranger() {
    let mut server = Server::new(NEVER).await;
    let stranger = server.stranger().await;
    let client = server.client().await;
    let mut asked = JoinSet::new();
    asked.spawn(ask(client, "/authenticated"));
    server.begun.notified().await;
    server.shutdown.cancel();
    closed(stranger).await;
    server.gate.notify_one();
    assert_eq!(asked.join_all().await, [StatusCode::OK]);
    while let Some(ended) = server.tasks.join_next().await {
        ended.unwrap();
    }
}
