//! The line to Redis: slow to connect, silent, and a Redis that lets us in only later.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::*;

/// A forwarder whose connections carry something only while it is open; those that are silent then
/// stay so.
struct Line {
    address: SocketAddr,
    open: watch::Sender<bool>,
    connections: Arc<AtomicUsize>,
    _serving: JoinSet<()>,
}

impl Line {
    async fn to(target: SocketAddr, is_open: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, watching) = watch::channel(is_open);
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let mut serving = JoinSet::new();
        serving.spawn(async move {
            let mut carried = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                carried.spawn(carry(stream, target, watching.clone()));
            }
        });
        Self {
            address,
            open,
            connections,
            _serving: serving,
        }
    }

    fn url(&self) -> String {
        // A database of that number has to be chosen, which takes an answer.
        format!("redis://{}/1", self.address)
    }
}

async fn carry(mut client: TcpStream, target: SocketAddr, mut open: watch::Receiver<bool>) {
    open.wait_for(|open| *open).await.unwrap();
    let mut server = TcpStream::connect(target).await.unwrap();
    let carrying = tokio::io::copy_bidirectional(&mut client, &mut server);
    let silenced = async {
        let _ = open.wait_for(|open| !open).await;
    };
    tokio::select! {
        _ = carrying => return,
        () = silenced => {}
    }
    std::future::pending::<()>().await;
}

fn over(line: &Line) -> Cache {
    let server = Server::new(&line.url(), None).unwrap();
    Cache::open(server, "test", Metrics::new())
}

#[tokio::test]
async fn a_connection_that_takes_longer_than_an_answer_is_made_once() {
    let redis = Redis::start().await.unwrap();
    let line = Line::to(redis.address(), false).await;
    let cache = over(&line);
    for _ in 0..2 {
        assert_eq!(cache.may_know_delivery("one").await, None);
    }
    assert_eq!(line.connections.load(Ordering::SeqCst), 1);
    line.open.send_replace(true);
    until_it_answers(&cache).await;
}

#[tokio::test]
async fn a_connection_that_falls_silent_is_replaced() {
    let redis = Redis::start().await.unwrap();
    let line = Line::to(redis.address(), true).await;
    let cache = over(&line);
    assert_eq!(cache.may_know_delivery("one").await, Some(false));
    line.open.send_replace(false);
    assert_eq!(cache.may_know_delivery("one").await, None);
    line.open.send_replace(true);
    until_it_answers(&cache).await;
}

#[tokio::test]
async fn a_redis_that_did_not_know_us_is_asked_again_until_it_does() {
    let redis = Redis::start().await.unwrap();
    let url = format!("redis://fleet:late@{}", redis.address());
    let server = Server::new(&url, None).unwrap();
    let cache = Cache::open(server, "test", Metrics::new());
    for _ in 0..3 {
        assert_eq!(cache.may_know_delivery("one").await, None);
    }
    let rule = "ACL SETUSER fleet on >late ~* &* +@all";
    assert!(redis.ask(rule).await.unwrap().starts_with("+OK"));
    until_it_answers(&cache).await;
}
