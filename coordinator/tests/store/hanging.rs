//! Connections that the network forgot, or that a server keeps and does not serve.

use std::time::Duration;

use futures::future::join_all;
use patchfleet_coordinator::store::{SqlStore, Store as _};
use patchfleet_testkit::gateway::Gateway;
use patchfleet_testkit::postgres::Database;

/// As many as the pool has.
const CONNECTIONS: u32 = 3;

/// Callers have limits of their own, as webhooks and probes do: what they break off must not take the
/// places of connections, or the store would be away for as long as TCP hopes.
#[tokio::test]
async fn a_store_whose_connections_were_forgotten_works_again_on_new_ones() {
    let (database, gateway) = (
        Database::create().await.unwrap(),
        Gateway::start(1).await.unwrap(),
    );
    let url = database.url_through(&gateway).unwrap();
    let store = SqlStore::postgres(&url, CONNECTIONS).await.unwrap();
    let impatient = async || {
        let seen = store.delivery_seen("d-1");
        tokio::time::timeout(Duration::from_millis(500), seen).await
    };
    // As many connections as there may be; nobody is impatient as long as all is well.
    for answer in join_all((0..CONNECTIONS * 2).map(|_| store.delivery_seen("d-1"))).await {
        assert!(!answer.unwrap());
    }
    gateway.forget();
    let mut broken_off = 0;
    let recovering = async {
        while let Err(_) | Ok(Err(_)) = impatient().await {
            broken_off += 1;
        }
    };
    let recovered = tokio::time::timeout(Duration::from_mins(2), recovering).await;
    recovered.expect("new connections take the places of those that hang");
    assert!(broken_off > 0, "they did hang");
}
