//! Strangers who connect and ask for nothing.

use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::world::{Part, Plan, World};

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

/// The preface of HTTP/2 and settings: a client that goes on to say nothing.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

#[tokio::test]
async fn strangers_at_the_fleets_port_stop_no_agent_and_no_webhook() {
    let mut world = World::with(Plan {
        files: Some(FILES),
        ..Plan::default()
    })
    .await;
    world.kill(Part::Agent).await;
    let url = world.fleet_url();
    let address = url.trim_start_matches("http://");
    let mut strangers = Vec::new();
    for number in 0..2 * FILES {
        let mut stranger = TcpStream::connect(address).await.unwrap();
        if number % 2 == 0 {
            stranger.write_all(PREFACE).await.unwrap();
        }
        strangers.push(stranger);
    }
    world.start(Part::Agent).await;
    let issue = world.open();
    world.label(issue);
    world.pull_request().await;
    drop(strangers);
}
