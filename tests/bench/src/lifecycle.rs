//! How many tasks a second go in, and from the queue to their end, on a PostgreSQL whose commits
//! wait for the disk, with agents that do nothing.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use patchfleet_coordinator::analysis::{AnalysisPolicy, run as analyze};
use patchfleet_coordinator::store::{SqlStore, Store};
use patchfleet_domain::{Outcome, TaskKind, TaskState};
use patchfleet_telemetry::Metrics;
use patchfleet_testkit::mock_agent::{Conduct, MockAgent};
use patchfleet_testkit::postgres::Database;
use tokio_util::sync::CancellationToken;

use crate::figures::{distribution, value};
use crate::fleet::{AGENT_TYPE, Fleet, enqueue};

/// Deliveries under way at once.
const SENDERS: usize = 64;
/// How long everything may take.
const PATIENCE: Duration = Duration::from_mins(2);

/// With that many agents of eight slots each; the tasks that come to their end in a second.
pub(crate) async fn measure(agents: usize, tasks: u64) -> anyhow::Result<f64> {
    let database = Database::durable().await?;
    let metrics = Metrics::new();
    let store = SqlStore::postgres(database.url(), 8).await?;
    let store: Arc<dyn Store> = Arc::new(store.counted(metrics.clone()));
    let started = Instant::now();
    let times = fill(&store, tasks).await?;
    per_second(&format!("enqueue_per_s_{agents}_agents"), tasks, started);
    distribution(
        &format!("enqueue_ms_{agents}_agents"),
        times,
        "one delivery with one task until it is durable, 64 at once",
    );
    let started = Instant::now();
    queue_all(&store, &metrics, tasks).await?;
    per_second(&format!("analyze_per_s_{agents}_agents"), tasks, started);
    let mut fleet = Fleet::idle(&store, &metrics).await?;
    let connected = connect(&fleet, agents).await?;
    let started = Instant::now();
    fleet.go();
    reached(&metrics, TaskState::Completed, tasks).await?;
    let name = format!("lifecycle_per_s_{agents}_agents");
    let rate = per_second(&name, tasks, started);
    drop(connected);
    fleet.stop().await;
    Ok(rate)
}

/// Has that many agents complete that many new tasks.
pub(crate) async fn pass_through(
    store: &Arc<dyn Store>,
    metrics: &Metrics,
    (agents, tasks): (usize, u64),
) -> anyhow::Result<()> {
    fill(store, tasks).await?;
    queue_all(store, metrics, tasks).await?;
    let fleet = Fleet::start(store, metrics).await?;
    let connected = connect(&fleet, agents).await?;
    reached(metrics, TaskState::Completed, tasks).await?;
    drop(connected);
    fleet.stop().await;
    Ok(())
}

/// Agents that are connected and answer whatever they are given.
async fn connect(fleet: &Fleet, agents: usize) -> anyhow::Result<Vec<MockAgent>> {
    let connected = (0..agents).map(|number| fleet.agent(number, |_| answer()));
    let connected = connected.collect();
    let all = async {
        while fleet.connected() < agents {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, all).await;
    waited.context("not every agent connected")?;
    Ok(connected)
}

fn answer() -> Conduct {
    Conduct::Finish {
        events: Vec::new(),
        outcome: Outcome::Answer {
            summary: "Nothing was done.".to_owned(),
        },
    }
}

/// Takes in all tasks, each durable before the next of its sender; how long each took, in ms.
async fn fill(store: &Arc<dyn Store>, tasks: u64) -> anyhow::Result<Vec<f64>> {
    let one = |number| async move {
        let began = Instant::now();
        enqueue(store.as_ref(), number, TaskKind::Prompt).await?;
        anyhow::Ok(began.elapsed().as_secs_f64() * 1000.0)
    };
    let filling = futures::stream::iter((0..tasks).map(one));
    filling.buffer_unordered(SENDERS).try_collect().await
}

/// Analyzes all tasks, as the coordinator's loop does.
async fn queue_all(store: &Arc<dyn Store>, metrics: &Metrics, tasks: u64) -> anyhow::Result<()> {
    let stop = CancellationToken::new();
    let analyzing = analyze(
        Arc::clone(store),
        AnalysisPolicy::default(),
        None,
        stop.clone(),
    );
    let waiting = async {
        let reached = reached(metrics, TaskState::Queued, tasks).await;
        stop.cancel();
        reached
    };
    tokio::join!(analyzing, waiting).1
}

/// Waits until that many tasks came into the state.
async fn reached(metrics: &Metrics, state: TaskState, tasks: u64) -> anyhow::Result<()> {
    let all = async {
        while metrics
            .tasks
            .with_label_values(&[state.as_str(), AGENT_TYPE])
            .get()
            < tasks
        {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, all).await;
    waited.with_context(|| format!("not every task came to {state}"))
}

fn per_second(name: &str, tasks: u64, since: Instant) -> f64 {
    let tasks = f64::from(u32::try_from(tasks).unwrap_or(u32::MAX));
    let rate = tasks / since.elapsed().as_secs_f64();
    value(name, rate, "tasks a second, PostgreSQL with fsync");
    rate
}
