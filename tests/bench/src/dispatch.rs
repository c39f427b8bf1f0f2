//! From the commit that queues a task to the assignment at an idle agent, over real gRPC.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use patchfleet_coordinator::analysis::{AnalysisPolicy, Configuration, analyze, run};
use patchfleet_coordinator::store::{SqlStore, Store};
use patchfleet_domain::{TaskId, TaskKind};
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent};
use patchfleet_testkit::postgres::Database;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::crowd;
use crate::figures::distribution;
use crate::fleet::{Fleet, enqueue};
use crate::lifecycle;

const TASKS: u64 = 300;
/// One task each 20 ms: the agents are idle.
const PACE: Duration = Duration::from_millis(20);
const CALM: &str = "commit to assignment at an idle agent, one task each 20 ms";
/// Agents of eight slots for many tasks.
const MANY: usize = 100;
/// For how many seconds there are many tasks.
const BUSY_SECONDS: u32 = 5;

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

/// So many tasks a second on a private PostgreSQL.
pub(crate) async fn busy_postgres(rate: u32) -> anyhow::Result<()> {
    let database = Database::durable().await?;
    let store = SqlStore::postgres(database.url(), 8).await?;
    let store: Arc<dyn Store> = Arc::new(store);
    let tasks = u64::from(rate * BUSY_SECONDS);
    let fleet = Fleet::start(&store, &Metrics::new()).await?;
    let arrivals = Arrivals::default();
    let agents = connect(&fleet, MANY, &arrivals).await;
    let stop = CancellationToken::new();
    let analyzing = run(
        Arc::clone(&store),
        AnalysisPolicy::default(),
        None,
        stop.clone(),
    );
    let mut others = JoinSet::new();
    others.spawn(analyzing);
    let mut news = store.newly_queued();
    let mut clock = tokio::time::interval(Duration::from_secs(1) / rate);
    let feed = Arc::clone(&store);
    let feeding = async move {
        let mut sending = JoinSet::new();
        for number in 0..tasks {
            clock.tick().await;
            let store = Arc::clone(&feed);
            sending.spawn(async move { enqueue(store.as_ref(), number, TaskKind::Issue).await });
        }
        while let Some(sent) = sending.join_next().await {
            sent??;
        }
        anyhow::Ok(())
    };
    let listening = async {
        let mut sent = BTreeMap::new();
        while u64::try_from(sent.len()).is_ok_and(|heard| heard < tasks) {
            let queued = news.recv().await?;
            sent.insert(queued.id.to_string(), Instant::now());
        }
        anyhow::Ok(sent)
    };
    let ((), sent) = tokio::try_join!(feeding, listening)?;
    wait_for_all(&arrivals, tasks).await?;
    stop.cancel();
    let name = format!("dispatch_latency_ms_postgres_{rate}_per_s");
    let of = format!("commit to assignment, {rate} tasks a second for {MANY} agents");
    report((&name, &of), &sent, &arrivals);
    drop(agents);
    fleet.stop().await;
    Ok(())
}

async fn measure(name: &str, store: Arc<dyn Store>) -> anyhow::Result<()> {
    let fleet = Fleet::start(&store, &Metrics::new()).await?;
    let arrivals = Arrivals::default();
    let agents = connect(&fleet, 4, &arrivals).await;
    let mut sent = BTreeMap::new();
    let mut pace = tokio::time::interval(PACE);
    for number in 0..TASKS {
        pace.tick().await;
        let id = queue(store.as_ref(), number).await?;
        sent.insert(id.to_string(), Instant::now());
    }
    wait_for_all(&arrivals, TASKS).await?;
    report((name, CALM), &sent, &arrivals);
    drop(agents);
    fleet.stop().await;
    Ok(())
}

async fn connect(fleet: &Fleet, count: usize, arrivals: &Arrivals) -> Vec<MockAgent> {
    let agents = (0..count)
        .map(|number| agent(fleet, number, arrivals))
        .collect();
    while fleet.connected() < count {
        tokio::time::sleep(PACE).await;
    }
    agents
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
        .analyzed(
            id,
            &analyze(&task, &AnalysisPolicy::default(), &Configuration::default()),
        )
        .await?;
    Ok(id)
}

async fn wait_for_all(arrivals: &Arrivals, tasks: u64) -> anyhow::Result<()> {
    let all = async {
        loop {
            let count = arrivals
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .len();
            if u64::try_from(count).is_ok_and(|count| count >= tasks) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_mins(1), all)
        .await
        .context("not every task arrived")
}

fn report((name, of): (&str, &str), sent: &BTreeMap<String, Instant>, arrivals: &Arrivals) {
    let arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
    let latency = |(id, sent): (&String, &Instant)| {
        // An assignment may arrive before the committing task runs again.
        arrivals
            .get(id)
            .map(|at| at.saturating_duration_since(*sent).as_secs_f64() * 1000.0)
    };
    let values: Vec<_> = sent.iter().filter_map(latency).collect();
    distribution(name, values, of);
}
