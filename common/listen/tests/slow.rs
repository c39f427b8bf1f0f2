//! Clients that are slow or do nothing, over real sockets.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::ConnectInfo;
use axum::routing::get;
use patchfleet_listen::{Limits, serve};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: here\r\n\r\n";
const NEVER: Duration = Duration::from_hours(1);
const SOON: Duration = Duration::from_millis(1);

struct Server {
    address: SocketAddr,
    /// Lets one request to `/slow` be answered.
    gate: Arc<Notify>,
    shutdown: CancellationToken,
    serving: JoinSet<()>,
}

impl Server {
    async fn new(connections: usize, head: Duration, idle: Duration) -> Self {
        let gate = Arc::new(Notify::new());
        let slow = Arc::clone(&gate);
        let app =
            Router::new()
                .route(
                    "/",
                    get(|ConnectInfo(peer): ConnectInfo<SocketAddr>| async move {
                        peer.ip().to_string()
                    }),
                )
                .route("/slow", get(|| async move { slow.notified().await }));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let limits = Limits {
            connections,
            head,
            idle,
            ..Limits::default()
        };
        let shutdown = CancellationToken::new();
        let mut serving = JoinSet::new();
        serving.spawn(serve(listener, app, limits, shutdown.clone()));
        Self {
            address,
            gate,
            shutdown,
            serving,
        }
    }

    async fn connect(&self, bytes: &[u8]) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream
    }
}

/// All that comes until the other side closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut bytes).await;
    String::from_utf8(bytes).unwrap()
}

/// What is answered, on a connection that stays.
async fn answer(stream: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4096];
    let read = stream.read(&mut bytes).await.unwrap();
    String::from_utf8_lossy(&bytes[..read]).into_owned()
}

#[tokio::test]
async fn a_head_that_does_not_end_is_given_up() {
    let server = Server::new(8, SOON, NEVER).await;
    let mut half = server.connect(&REQUEST[..20]).await;
    assert_eq!(rest(&mut half).await, "");
    // Also after a request that was answered.
    let mut second = server.connect(REQUEST).await;
    assert!(answer(&mut second).await.ends_with("127.0.0.1"));
    second.write_all(&REQUEST[..20]).await.unwrap();
    assert_eq!(rest(&mut second).await, "");
}

#[tokio::test]
async fn a_connection_on_which_nothing_is_asked_is_closed() {
    let server = Server::new(8, NEVER, SOON).await;
    let mut silent = server.connect(b"").await;
    assert_eq!(rest(&mut silent).await, "");
    let mut asked = server.connect(REQUEST).await;
    let said = rest(&mut asked).await;
    assert!(
        said.starts_with("HTTP/1.1 200") || said.is_empty(),
        "{said}"
    );
}

#[tokio::test]
async fn a_request_that_is_being_answered_is_not_overdue() {
    let server = Server::new(8, SOON, Duration::from_millis(50)).await;
    let slow = b"GET /slow HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    let mut slow = server.connect(slow).await;
    // Those that are closed for what they do not do show that time has passed.
    for _ in 0..3 {
        rest(&mut server.connect(b"").await).await;
    }
    server.gate.notify_one();
    assert!(rest(&mut slow).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn who_does_nothing_makes_room_for_who_asks() {
    let server = Server::new(16, NEVER, NEVER).await;
    let mut idle = Vec::new();
    for number in 0..1000 {
        let half = if number % 2 == 0 {
            &b""[..]
        } else {
            &REQUEST[..10]
        };
        idle.push(server.connect(half).await);
    }
    let mut asking = server.connect(REQUEST).await;
    assert!(answer(&mut asking).await.starts_with("HTTP/1.1 200"));
    // Those who did nothing for longest are gone.
    assert_eq!(rest(&mut idle[0]).await, "");
}

#[tokio::test]
async fn when_all_are_being_answered_a_new_one_is_told_to_come_back() {
    let server = Server::new(2, NEVER, NEVER).await;
    let slow = b"GET /slow HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n";
    let mut busy = [server.connect(slow).await, server.connect(slow).await];
    let refused = loop {
        // Until both have been heard of, one of them is the one that makes room.
        let said = rest(&mut server.connect(b"").await).await;
        if !said.is_empty() {
            break said;
        }
    };
    assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
    assert!(refused.contains("Retry-After: 1\r\n"), "{refused}");
    server.gate.notify_waiters();
    for busy in &mut busy {
        assert!(rest(busy).await.starts_with("HTTP/1.1 200"));
    }
}

#[tokio::test]
async fn an_end_waits_for_what_has_begun_and_for_nothing_else() {
    let mut server = Server::new(8, NEVER, NEVER).await;
    let mut idle = server.connect(REQUEST).await;
    answer(&mut idle).await;
    let mut slow = server
        .connect(b"GET /slow HTTP/1.1\r\nHost: here\r\n\r\n")
        .await;
    // It came first, so it has been heard when one that came later is answered.
    answer(&mut server.connect(REQUEST).await).await;
    server.shutdown.cancel();
    assert_eq!(rest(&mut idle).await, "");
    server.gate.notify_one();
    assert!(rest(&mut slow).await.starts_with("HTTP/1.1 200"));
    server.serving.join_next().await.unwrap().unwrap();
}
