//! From the commit that queues a task to the assignment at an idle agent, over real gRPC.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use patchfleet_coordinator::analysis::{AnalysisPolicy, analyze};
use patchfleet_coordinator::store::{SqlStore, Store};
use patchfleet_domain::{TaskId, TaskKind};
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent};
use patchfleet_testkit::postgres::Database;

use crate::crowd;
use crate::figures::distribution;
use crate::fleet::{Fleet, enqueue};
use crate::lifecycle;

const TASKS: u64 = 300;
/// One task each 20 ms: the agents are idle.
const PACE: Duration = Duration::from_millis(20);

/// When each task arrived at an agent.
type Arrivals = Arc<Mutex<BTreeMap<String, Instant>>>;

/// On SQLite.
pub(crate) async fn sqlite() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let store = SqlStore::sqlite(&folder.path().join("tasks.db")).await?;
    measure("dispatch_latency_ms_sqlite", Arc::new(store)).await
}

/// On a private PostgreSQL whose commits wait for the disk.
pub(crate) async fn postgres() -> anyhow::Result<()> {
    let database = Database::durable().await?;
    let store = SqlStore::postgres(database.url(), 8).await?;
    measure("dispatch_latency_ms_postgres", Arc::new(store)).await
}

/// The same with two million other tasks, after many that are over, with an old transaction open.
pub(crate) async fn crowded_postgres() -> anyhow::Result<()> {
    let database = Database::durable().await?;
    let metrics = Metrics::new();
    let store = SqlStore::postgres(database.url(), 8).await?;
    let store: Arc<dyn Store> = Arc::new(store.counted(metrics.clone()));
    crowd::enter(database.url()).await?;
    let old = crowd::old_transaction(database.url()).await?;
    lifecycle::pass_through(&store, &metrics, (10, 20_000)).await?;
    measure("dispatch_latency_ms_crowded_postgres", store).await?;
    drop(old);
    Ok(())
}

async fn measure(name: &str, store: Arc<dyn Store>) -> anyhow::Result<()> {
    let fleet = Fleet::start(&store, &Metrics::new()).await?;
    let arrivals = Arrivals::default();
    let agents: Vec<_> = (0..4)
        .map(|number| agent(&fleet, number, &arrivals))
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
    fleet.stop().await;
    Ok(())
}

fn agent(fleet: &Fleet, number: usize, arrivals: &Arrivals) -> MockAgent {
    let arrivals = Arc::clone(arrivals);
    fleet.agent(number, move |assign| {
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
    let id = enqueue(store, number, TaskKind::Issue).await?;
    let task = store.task(id).await?.context("the task was just created")?;
    let _ = store
        .analyzed(id, &analyze(&task, &AnalysisPolicy::default()))
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
