//! The two coordinators under one adapter: the stub of the kit and the real one.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_coordinator::cache::Cache;
use patchfleet_coordinator::dispatch::{
    self, Credentials, FleetOptions, FleetService, IssuedToken, Registry, Requested,
};
use patchfleet_coordinator::store::SqlStore;
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::stub_coordinator::{Answers, StubCoordinator};
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// What agents have to show.
pub(crate) const KEY: &str = "fleet-key-of-the-contract";

/// A coordinator without tasks.
pub(crate) trait Part: Sized {
    /// Starts one.
    async fn start() -> Self;
    /// Where agents connect.
    fn url(&self) -> String;
}

/// The kit's.
pub(crate) struct Stub(StubCoordinator);

impl Part for Stub {
    async fn start() -> Self {
        let answers = Answers {
            key: KEY.to_owned(),
            ..Answers::default()
        };
        Self(StubCoordinator::start(answers).await.unwrap())
    }

    fn url(&self) -> String {
        self.0.url()
    }
}

/// The real one.
pub(crate) struct Real {
    url: String,
    _stages: JoinSet<()>,
    _folder: TempDir,
}

#[derive(Debug)]
struct NoTokens;

#[async_trait]
impl Credentials for NoTokens {
    async fn token(&self, _: Requested<'_>) -> Result<IssuedToken, String> {
        Err("there are no tokens here".to_owned())
    }
}

impl Part for Real {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SqlStore::sqlite(&folder.path().join("patchfleet.db")).await;
        let options = FleetOptions {
            key: KEY.parse().unwrap(),
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_millis(200),
            grace: Duration::from_secs(10),
            deadline: Duration::from_hours(1),
            max_agents: 10,
        };
        let service = FleetService::new(
            Arc::new(store.unwrap()),
            Registry::new(Metrics::new()),
            Arc::new(NoTokens),
            (options, Cache::default()),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = dispatch::serve(listener, service, CancellationToken::new());
        let mut stages = JoinSet::new();
        stages.spawn(async { serving.await.unwrap() });
        Self {
            url,
            _stages: stages,
            _folder: folder,
        }
    }

    fn url(&self) -> String {
        self.url.clone()
    }
}
