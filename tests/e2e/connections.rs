//! Strangers who connect and ask for nothing.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::world::{Plan, World};

/// What the coordinator may have open, less than there are strangers.
const FILES: u32 = 256;

#[tokio::test]
async fn idle_connections_and_half_requests_do_not_stop_a_webhook() {
    let world = World::with(Plan {
        files: Some(FILES),
        ..Plan::default()
    })
    .await;
    let address = world
        .api_url("")
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .to_owned();
    let mut strangers = Vec::new();
    for number in 0..2 * FILES {
        let mut stranger = TcpStream::connect(&address).await.unwrap();
        if number % 2 == 0 {
            let half = b"POST /webhooks/github HTTP/1.1\r\nContent-Le";
            stranger.write_all(half).await.unwrap();
        }
        strangers.push(stranger);
    }
    let issue = world.open();
    world.label(issue);
    world.pull_request().await;
    drop(strangers);
}
