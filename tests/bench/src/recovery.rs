//! How long until work goes on after something died: an agent, a coordinator, PostgreSQL, Redis,
//! the network. Real processes and servers; at the end the tasks that were lost or doubled.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patchfleet_coordinator::store::{Scope, SqlStore, Store, TaskFilter};
use patchfleet_domain::{Task, TaskKind, TaskState};
use patchfleet_testkit::mock_agent::{Conduct, MockAgent, Profile};
use patchfleet_testkit::postgres::Database;
use patchfleet_testkit::redis::Redis;

use crate::figures::value;
use crate::fleet::{AGENT_TYPE, enqueue};
use crate::program::{Coordinator, KEY};
use crate::scale::free_address;

/// Between two tries to hand something in while the database is away.
const AGAIN: Duration = Duration::from_millis(5);

/// Tasks that wait when PostgreSQL is restarted under load.
const BACKLOG: usize = 8000;
/// How long rates are measured over.
const WINDOW: Duration = Duration::from_millis(250);
/// The part of the rate before that counts as full.
const FULL: f64 = 0.9;
/// How long that may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A coordinator as a process, with what may die beside it.
struct Scene<'a> {
    program: &'a Path,
    address: String,
    coordinator: Option<Coordinator>,
    database: Database,
    redis: Redis,
    store: Arc<dyn Store>,
    tasks: u64,
}

impl<'a> Scene<'a> {
    async fn start(program: &'a Path) -> anyhow::Result<Self> {
        let database = Database::durable().await?;
        let mut scene = Self {
            program,
            address: free_address().await?,
            coordinator: None,
            store: Arc::new(SqlStore::postgres(database.url(), 4).await?),
            database,
            redis: Redis::start().await?,
            tasks: 0,
        };
        scene.start_coordinator().await?;
        Ok(scene)
    }

    async fn start_coordinator(&mut self) -> anyhow::Result<()> {
        let (database, redis) = (self.database.url(), self.redis.url());
        let coordinator = Coordinator::beside(self.program, (database, &redis), &self.address);
        self.coordinator = Some(coordinator.await?);
        Ok(())
    }

    /// An agent with room for many, that keeps what it gets, or completes it.
    async fn agent(&self, name: &str, conduct: Conduct) -> anyhow::Result<MockAgent> {
        let url = format!("http://{}", self.address);
        let mut profile = Profile::new(&url, KEY, &name.parse()?);
        profile.slots = 1000;
        AGENT_TYPE.clone_into(&mut profile.agent_type);
        let agent = MockAgent::start(profile, move |_| conduct.clone());
        agent.wait_connected().await?;
        Ok(agent)
    }

    /// Hands in a task, as often as it takes.
    async fn task(&mut self) {
        self.tasks += 1;
        while enqueue(self.store.as_ref(), self.tasks, TaskKind::Prompt)
            .await
            .is_err()
        {
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// From `since` until the agent has so many assignments.
    async fn until(&self, agent: &MockAgent, count: usize, since: Instant) -> anyhow::Result<f64> {
        let assigned = agent.wait("an assignment", |seen| seen.assigns.len() >= count);
        assigned.await?;
        Ok(since.elapsed().as_secs_f64())
    }
}

/// What dies while an idle agent waits for work.
#[derive(Debug, Clone, Copy)]
enum Fault {
    Coordinator,
    Postgres,
    Redis,
    Network,
}

/// Each with its figure's name, and what that tells.
const FAULTS: [(Fault, &str, &str); 4] = [
    (
        Fault::Coordinator,
        "recovery_s_coordinator_killed",
        "kill until a new task is assigned, its start included",
    ),
    (
        Fault::Postgres,
        "recovery_s_postgres_restarted",
        "end of its restart until a new task is assigned",
    ),
    (
        Fault::Redis,
        "recovery_s_redis_killed",
        "kill until a new task is assigned",
    ),
    (
        Fault::Network,
        "recovery_s_network_cut",
        "all streams broken until a new task is assigned",
    ),
];

/// Measures each.
pub(crate) async fn measure(program: &Path) -> anyhow::Result<()> {
    let mut scene = Scene::start(program).await?;
    let done = Conduct::pull_request(1);
    let taken_over = agent_killed(&mut scene).await?;
    value(
        "recovery_s_agent_killed",
        taken_over,
        "kill of its process until another has its task; the grace is 5 s",
    );
    let worker = scene.agent("worker", done).await?;
    for (fault, name, of) in FAULTS {
        let before = worker.seen().assigns.len();
        let since = inject(fault, &mut scene, &worker).await?;
        scene.task().await;
        let took = scene.until(&worker, before + 1, since).await?;
        value(name, took, of);
    }
    full_rate(&mut scene).await?;
    count(&scene, &worker).await
}

/// How long after PostgreSQL is back work goes on as fast as before.
async fn full_rate(scene: &mut Scene<'_>) -> anyhow::Result<()> {
    let runner = scene.agent("runner", Conduct::pull_request(1)).await?;
    let ours = Scope::AgentType(AGENT_TYPE.parse()?);
    scene.store.pause(&ours, "bench", None).await?;
    for _ in 0..BACKLOG {
        scene.task().await;
    }
    scene.store.resume(&ours).await?;
    let done = || runner.seen().assigns.len();
    let (began, first) = (Instant::now(), done());
    tokio::time::sleep(WINDOW * 4).await;
    let before = rate(done() - first, began.elapsed());
    scene.database.restart().await?;
    let back = Instant::now();
    loop {
        let (began, first) = (Instant::now(), done());
        tokio::time::sleep(WINDOW).await;
        if rate(done() - first, began.elapsed()) >= FULL * before {
            value(
                "recovery_s_postgres_full_rate",
                (began - back).as_secs_f64(),
                "end of PostgreSQL's restart until tasks are assigned as fast as before it (90 %)",
            );
            return Ok(());
        }
        anyhow::ensure!(back.elapsed() < PATIENCE, "it never was as fast as before");
    }
}

fn rate(count: usize, during: Duration) -> f64 {
    small(u64::try_from(count).unwrap_or(u64::MAX)) / during.as_secs_f64()
}

async fn agent_killed(scene: &mut Scene<'_>) -> anyhow::Result<f64> {
    let hold = Conduct::Hold { events: Vec::new() };
    let first = scene.agent("first", hold.clone()).await?;
    scene.task().await;
    scene.until(&first, 1, Instant::now()).await?;
    let second = scene.agent("second", Conduct::pull_request(1)).await?;
    let killed = Instant::now();
    first.crash();
    let took = scene.until(&second, 1, killed).await?;
    second.goodbye();
    Ok(took)
}

/// Does it; returns the moment from which recovery counts.
async fn inject(
    fault: Fault,
    scene: &mut Scene<'_>,
    worker: &MockAgent,
) -> anyhow::Result<Instant> {
    let began = Instant::now();
    match fault {
        Fault::Coordinator => {
            if let Some(coordinator) = scene.coordinator.take() {
                coordinator.kill().await?;
            }
            scene.start_coordinator().await?;
        }
        Fault::Postgres => {
            scene.database.restart().await?;
            return Ok(Instant::now());
        }
        Fault::Redis => scene.redis.kill(),
        Fault::Network => {
            worker.cut();
            worker.reconnect();
        }
    }
    Ok(began)
}

/// Every task came to its one end.
async fn count(scene: &Scene<'_>, worker: &MockAgent) -> anyhow::Result<()> {
    let all_heard = worker.wait("acknowledgements", |seen| seen.unacknowledged == 0);
    all_heard.await?;
    let mut tasks = Vec::new();
    let over = async {
        loop {
            tasks = all_tasks(scene.store.as_ref()).await.unwrap_or_default();
            let is_over = |state| matches!(state, TaskState::Review | TaskState::Completed);
            if !tasks.is_empty() && tasks.iter().all(|task| is_over(task.state)) {
                return;
            }
            tokio::time::sleep(WINDOW).await;
        }
    };
    // What is not over by then is lost.
    let _ = tokio::time::timeout(PATIENCE, over).await;
    let over = tasks
        .iter()
        .filter(|task| !task.state.has_live_attempt())
        .count();
    let lost = scene.tasks - u64::try_from(over)?;
    value("recovery_tasks_lost", small(lost), "of those above");
    let mut doubled = 0;
    for task in &tasks {
        let attempts = scene.store.attempts(task.id).await?;
        let good = attempts
            .iter()
            .filter(|it| it.outcome.as_deref() == Some("pull_request"));
        doubled += u64::from(good.count() > 1);
    }
    value("recovery_tasks_doubled", small(doubled), "of those above");
    Ok(())
}

async fn all_tasks(store: &dyn Store) -> anyhow::Result<Vec<Task>> {
    let mut all: Vec<Task> = Vec::new();
    loop {
        let page = TaskFilter {
            before: all.last().map(|task| task.id),
            limit: 500,
            ..TaskFilter::default()
        };
        let found = store.tasks(&page).await?;
        if found.is_empty() {
            return Ok(all);
        }
        all.extend(found);
    }
}

fn small(number: u64) -> f64 {
    f64::from(u32::try_from(number).unwrap_or(u32::MAX))
}
