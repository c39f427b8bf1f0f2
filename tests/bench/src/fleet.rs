//! A coordinator's heart without GitHub: the store, the scheduler and the gRPC service, with mock
//! agents that do nothing.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use patchfleet_coordinator::cache::Cache;
use patchfleet_coordinator::dispatch::{
    Credentials, FleetOptions, FleetService, IssuedToken, Registry, Requested, serve,
};
use patchfleet_coordinator::scheduler::{Scheduler, SchedulerOptions};
use patchfleet_coordinator::store::{Act, Delivery, NewTask, SemanticKey, Store};
use patchfleet_domain::{IssueNumber, Priority, RepositoryName, TaskId, TaskKind, TaskRequest};
use patchfleet_proto::v1;
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent, Profile};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

const KEY: &str = "benchmark";
/// What tasks ask for and agents are: no general agents, which would take what is not theirs.
pub(crate) const AGENT_TYPE: &str = "backend";

/// No repository is touched, so nobody asks for a token.
#[derive(Debug)]
struct NoTokens;

#[async_trait]
impl Credentials for NoTokens {
    async fn token(&self, _: Requested<'_>) -> Result<IssuedToken, String> {
        Err("there are no tokens in a benchmark".to_owned())
    }
}

/// A running coordinator.
pub(crate) struct Fleet {
    url: String,
    registry: Registry,
    scheduler: Option<Scheduler>,
    shutdown: CancellationToken,
    parts: JoinSet<anyhow::Result<()>>,
}

impl Fleet {
    pub(crate) async fn start(store: &Arc<dyn Store>, metrics: &Metrics) -> anyhow::Result<Self> {
        let mut fleet = Self::idle(store, metrics).await?;
        fleet.go();
        Ok(fleet)
    }

    /// One that takes agents in and gives them nothing yet.
    pub(crate) async fn idle(store: &Arc<dyn Store>, metrics: &Metrics) -> anyhow::Result<Self> {
        let shutdown = CancellationToken::new();
        let registry = Registry::new(metrics.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}", listener.local_addr()?);
        let options = FleetOptions {
            key: KEY.parse()?,
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(5),
            grace: Duration::from_secs(5),
            deadline: Duration::from_hours(1),
            max_agents: 20_000,
        };
        let service = FleetService::new(
            Arc::clone(store),
            registry.clone(),
            Arc::new(NoTokens),
            (options, Cache::default()),
        );
        let options = SchedulerOptions::default();
        let scheduler = Scheduler::new(
            Arc::clone(store),
            registry.clone(),
            metrics.clone(),
            options,
        );
        let mut parts = JoinSet::new();
        let serving = serve(listener, service, shutdown.clone());
        parts.spawn(async {
            serving.await;
            Ok(())
        });
        Ok(Self {
            url,
            registry,
            scheduler: Some(scheduler),
            shutdown,
            parts,
        })
    }

    /// Begins to give tasks to agents.
    pub(crate) fn go(&mut self) {
        let Some(scheduler) = self.scheduler.take() else {
            return;
        };
        let stop = self.shutdown.clone();
        self.parts.spawn(async move {
            scheduler.run(stop).await;
            Ok(())
        });
    }

    /// How many agents are connected.
    pub(crate) fn connected(&self) -> usize {
        self.registry.connected().len()
    }

    /// Connects an agent of eight slots.
    pub(crate) fn agent(
        &self,
        number: usize,
        script: impl Fn(&v1::Assign) -> Conduct + Send + Sync + 'static,
    ) -> MockAgent {
        let id = format!("agent-{number}");
        let id = id.parse().expect("a plain word and a number");
        let mut profile = Profile::new(&self.url, KEY, &id);
        profile.slots = 8;
        AGENT_TYPE.clone_into(&mut profile.agent_type);
        MockAgent::start(profile, script)
    }

    pub(crate) async fn stop(mut self) {
        self.shutdown.cancel();
        while self.parts.join_next().await.is_some() {}
    }
}

/// Creates a task as a delivery does; returns right after the commit.
pub(crate) async fn enqueue(
    store: &dyn Store,
    number: u64,
    kind: TaskKind,
) -> anyhow::Result<TaskId> {
    let repository: RepositoryName = "acme/orders".parse()?;
    let id = TaskId::new();
    let request = TaskRequest {
        title: "Nothing".to_owned(),
        body: String::new(),
        labels: Vec::new(),
        author: "bench".to_owned(),
        triggered_by: "bench".to_owned(),
        clone_url: String::new(),
        default_branch: "main".to_owned(),
        agent_type: Some(AGENT_TYPE.parse()?),
    };
    let new = NewTask {
        id,
        kind,
        repository: repository.clone(),
        issue: (kind == TaskKind::Issue).then_some(IssueNumber(number + 1)),
        key: SemanticKey {
            trigger: "label".to_owned(),
            object: id.to_string(),
        },
        branch: format!("patchfleet/{number}-nothing"),
        priority: Priority::NORMAL,
        request,
        max_attempts: 3,
        traceparent: None,
    };
    let delivery = Delivery {
        id: format!("bench-{id}"),
        event: "issues".to_owned(),
        action: None,
        repository: Some(repository),
        issue: None,
    };
    store
        .record_delivery(&delivery, &[Act::Create(Box::new(new))])
        .await?;
    Ok(id)
}
