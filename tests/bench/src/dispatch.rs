//! From the commit that queues a task to the assignment at an idle agent, over real gRPC.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use async_trait::async_trait;
use patchfleet_coordinator::analysis::{AgentCatalog, analyze};
use patchfleet_coordinator::dispatch::{
    CredentialScope, Credentials, FleetOptions, FleetService, IssuedToken, Registry, serve,
};
use patchfleet_coordinator::scheduler::{Scheduler, SchedulerOptions};
use patchfleet_coordinator::store::{Act, Delivery, NewTask, SemanticKey, SqlStore, Store};
use patchfleet_domain::{IssueNumber, Priority, RepositoryName, TaskId, TaskKind, TaskRequest};
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent, Profile};
use patchfleet_testkit::postgres::Database;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::figures::distribution;

const TASKS: u64 = 300;
/// One task each 20 ms: the agents are idle.
const PACE: Duration = Duration::from_millis(20);
const KEY: &str = "benchmark";

/// When each task arrived at an agent.
type Arrivals = Arc<Mutex<BTreeMap<String, Instant>>>;

/// No repository is touched, so nobody asks for a token.
#[derive(Debug)]
struct NoTokens;

#[async_trait]
impl Credentials for NoTokens {
    async fn token(&self, _: &RepositoryName, _: CredentialScope) -> Result<IssuedToken, String> {
        Err("there are no tokens in a benchmark".to_owned())
    }
}

/// On SQLite.
pub(crate) async fn sqlite() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store = SqlStore::sqlite(&folder.path().join("tasks.db")).await?;
    measure("dispatch_latency_ms_sqlite", Arc::new(store)).await
}

/// On a private PostgreSQL.
pub(crate) async fn postgres() -> anyhow::Result<()> {
    let database = Database::create().await?;
    let store = SqlStore::postgres(database.url(), 8).await?;
    measure("dispatch_latency_ms_postgres", Arc::new(store)).await
}

async fn measure(name: &str, store: Arc<dyn Store>) -> anyhow::Result<()> {
    let shutdown = CancellationToken::new();
    let metrics = Metrics::new();
    let registry = Registry::new(metrics.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let url = format!("http://{}", listener.local_addr()?);
    let options = FleetOptions {
        key: KEY.to_owned().into(),
        lease: Duration::from_secs(30),
        heartbeat: Duration::from_secs(5),
    };
    let service = FleetService::new(
        Arc::clone(&store),
        registry.clone(),
        Arc::new(NoTokens),
        options,
    );
    let scheduler = Scheduler::new(
        Arc::clone(&store),
        registry,
        metrics,
        SchedulerOptions::default(),
    );
    let mut parts = JoinSet::new();
    parts.spawn(serve(listener, service, shutdown.clone()));
    let stop = shutdown.clone();
    parts.spawn(async move {
        scheduler.run(stop).await;
        Ok(())
    });
    let arrivals = Arrivals::default();
    let agents: Vec<_> = (0..4)
        .map(|number| agent(number, &url, &arrivals))
        .collect();
    let mut sent = BTreeMap::new();
    let mut pace = tokio::time::interval(PACE);
    for number in 0..TASKS {
        pace.tick().await;
        let id = queue(store.as_ref(), number).await?;
        sent.insert(id.to_string(), Instant::now());
    }
    wait_for_all(&arrivals).await?;
    report(name, &sent, &arrivals);
    drop(agents);
    shutdown.cancel();
    while parts.join_next().await.is_some() {}
    Ok(())
}

fn agent(number: usize, url: &str, arrivals: &Arrivals) -> MockAgent {
    let arrivals = Arc::clone(arrivals);
    let id = format!("agent-{number}")
        .parse()
        .expect("a plain word and a number");
    let mut profile = Profile::new(url, KEY, &id);
    profile.slots = 8;
    MockAgent::start(profile, move |assign| {
        let now = Instant::now();
        if let Some(work) = &assign.work {
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            arrivals.insert(work.task_id.clone(), now);
        }
        Conduct::pull_request(1)
    })
}

/// Creates a task and queues it; returns right after the commit.
async fn queue(store: &dyn Store, number: u64) -> anyhow::Result<TaskId> {
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
        agent_type: None,
    };
    let new = NewTask {
        id,
        kind: TaskKind::Issue,
        repository: repository.clone(),
        issue: Some(IssueNumber(number + 1)),
        key: SemanticKey {
            trigger: "label".to_owned(),
            object: number.to_string(),
        },
        branch: format!("patchfleet/{number}-nothing"),
        priority: Priority::NORMAL,
        request,
        max_attempts: 3,
    };
    let delivery = Delivery {
        id: format!("bench-{number}"),
        event: "issues".to_owned(),
        action: None,
        repository: Some(repository),
    };
    store
        .record_delivery(&delivery, &[Act::Create(Box::new(new))])
        .await?;
    let task = store.task(id).await?.context("the task was just created")?;
    let _ = store
        .analyzed(id, &analyze(&task, &AgentCatalog::default()))
        .await?;
    Ok(id)
}

async fn wait_for_all(arrivals: &Arrivals) -> anyhow::Result<()> {
    let all = async {
        loop {
            let count = arrivals
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len();
            if u64::try_from(count).is_ok_and(|count| count >= TASKS) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), all)
        .await
        .context("not every task arrived")
}

fn report(name: &str, sent: &BTreeMap<String, Instant>, arrivals: &Arrivals) {
    let arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    let latency = |(id, sent): (&String, &Instant)| {
        // An assignment may arrive before the committing task runs again.
        arrivals
            .get(id)
            .map(|at| at.saturating_duration_since(*sent).as_secs_f64() * 1000.0)
    };
    let values: Vec<_> = sent.iter().filter_map(latency).collect();
    distribution(
        name,
        values,
        "commit to assignment at an idle agent, one task each 20 ms",
    );
}
