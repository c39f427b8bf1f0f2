//! The loop that turns plans into claims.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use patchfleet_domain::{AgentType, TaskId};
use patchfleet_telemetry::Metrics;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::TryRecvError;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::{Grant, Limits, plan, topic_of};
use super::turns::Turns;
use crate::dispatch::{Handover, Registry};
use crate::store::{Assignment, Cas, Claim, Look, QueuedTask, Store, StoreResult};
use crate::wake::next_change;

/// Tasks that are fetched at once; more only when there are more lanes.
const WINDOW: usize = 1024;
/// Fewest of each lane, and most in all.
const FEWEST: usize = 4;
const MOST: u32 = 4096;
/// Lanes there may be, before anybody has looked.
const LANES: usize = 64;
/// Between two looks at the queue while there is something left of the last one.
const FRESH: Duration = Duration::from_millis(20);

/// How the scheduler works.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedulerOptions {
    /// How long an attempt lives without a sign of life.
    pub lease: Duration,
    /// How often to look when nothing wakes it.
    pub interval: Duration,
    /// What bounds a plan.
    pub limits: Limits,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(30),
            interval: Duration::from_secs(1),
            limits: Limits::default(),
        }
    }
}

/// Gives queued tasks to connected agents.
#[derive(Debug)]
pub struct Scheduler {
    store: Arc<dyn Store>,
    registry: Registry,
    metrics: Metrics,
    options: SchedulerOptions,
    turns: Mutex<Turns>,
    backlog: tokio::sync::Mutex<Backlog>,
}

/// What is known of the queue and not given away yet. A task may have gone meanwhile, which its
/// claim finds out.
#[derive(Debug)]
struct Backlog {
    tasks: BTreeMap<TaskId, Waiting>,
    /// What this process queues comes by itself.
    news: broadcast::Receiver<QueuedTask>,
    /// Some of it was missed.
    missed: bool,
    fetched: Instant,
    took: Duration,
    lanes: usize,
}

/// A task, and since when it is known to have waited so long.
#[derive(Debug)]
struct Waiting {
    task: QueuedTask,
    since: Instant,
}

/// A look at the queue.
#[derive(Debug)]
struct Fetched {
    tasks: Vec<QueuedTask>,
    began: Instant,
    took: Duration,
}

async fn fetch(store: &dyn Store, look: Look) -> StoreResult<Fetched> {
    let began = Instant::now();
    let tasks = store.queued(&look).await?;
    let took = began.elapsed();
    Ok(Fetched { tasks, began, took })
}

impl Backlog {
    fn new(store: &dyn Store) -> Self {
        Self {
            tasks: BTreeMap::new(),
            news: store.newly_queued(),
            missed: true,
            fetched: Instant::now(),
            took: Duration::ZERO,
            lanes: LANES,
        }
    }

    /// When the queue is to be looked at again: not so often that looking takes more than a fifth
    /// of the time.
    fn stale_at(&self) -> Instant {
        let pause = self.took * 4;
        self.fetched
            + match (self.missed, self.tasks.is_empty()) {
                (true, _) => Duration::ZERO,
                (false, true) => pause,
                (false, false) => pause.max(FRESH),
            }
    }

    /// Takes in what was queued here.
    fn listen(&mut self) {
        loop {
            match self.news.try_recv() {
                Ok(task) => self.add(task, Instant::now()),
                // The queue itself has what was missed.
                Err(TryRecvError::Lagged(_)) => self.missed = true,
                Err(TryRecvError::Empty | TryRecvError::Closed) => return,
            }
        }
    }

    fn add(&mut self, task: QueuedTask, since: Instant) {
        if self.tasks.len() < MOST as usize {
            self.tasks.insert(task.id, Waiting { task, since });
        }
    }

    /// Takes in a look at the queue. What was queued since it began is not in it.
    fn replace(&mut self, fetched: Fetched) {
        let Fetched { tasks, began, took } = fetched;
        let lanes: BTreeSet<_> = tasks.iter().map(topic_of).collect();
        self.lanes = lanes.len();
        self.tasks.retain(|_, waiting| waiting.since >= began);
        for task in tasks {
            self.add(task, began);
        }
        (self.fetched, self.took, self.missed) = (began, took, false);
    }

    /// The tasks with what they have waited by now.
    fn queue(&self) -> Vec<QueuedTask> {
        let waiting = self.tasks.values();
        let by_now = waiting.map(|it| QueuedTask {
            waited: it.task.waited + it.since.elapsed(),
            ..it.task.clone()
        });
        by_now.collect()
    }
}

impl Scheduler {
    /// A scheduler for the agents of that registry.
    pub fn new(
        store: Arc<dyn Store>,
        registry: Registry,
        metrics: Metrics,
        options: SchedulerOptions,
    ) -> Self {
        let backlog = Backlog::new(store.as_ref());
        Self {
            store,
            registry,
            metrics,
            options,
            turns: Mutex::default(),
            backlog: tokio::sync::Mutex::new(backlog),
        }
    }

    /// Assigns whenever the store or an agent has news, and by the clock, until the shutdown. A
    /// look at the queue goes on beside that: it may be long, and what was queued here is known
    /// without it.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut stored = Some(self.store.changed());
        let mut room = self.registry.changed();
        let mut fetching = FuturesUnordered::new();
        let mut next = Instant::now();
        // The queue may have what no look at it has seen.
        let mut news = true;
        loop {
            let fetched = tokio::select! {
                () = shutdown.cancelled() => return,
                () = next_change(&mut stored) => None,
                _ = room.changed() => None,
                Some(fetched) = fetching.next() => Some(fetched),
                () = tokio::time::sleep_until(next) => None,
            };
            // A claim under way is finished: cancelled halfway, its task would wait for the lease.
            let mut backlog = self.backlog.lock().await;
            next = Instant::now() + self.options.interval;
            let woken = fetched.is_none();
            match self.look(&mut backlog, fetched).await {
                // Where some were given away there may be more.
                Ok(assigned) => news |= woken || assigned > 0,
                Err(error) => {
                    tracing::warn!(%error, "tasks could not be assigned; trying again");
                    continue;
                }
            }
            if !news || self.registry.room() == 0 || !fetching.is_empty() {
                continue;
            }
            if backlog.stale_at() <= Instant::now() {
                fetching.push(fetch(self.store.as_ref(), self.next_look(&backlog)));
                news = false;
            } else {
                next = next.min(backlog.stale_at());
            }
        }
    }

    /// Assigns what can be assigned now; says how many tasks that were.
    ///
    /// # Errors
    /// When the store can't be asked. What was claimed before stays claimed.
    pub async fn tick(&self) -> StoreResult<usize> {
        let mut backlog = self.backlog.lock().await;
        let fetched = fetch(self.store.as_ref(), self.next_look(&backlog)).await;
        self.look(&mut backlog, Some(fetched)).await
    }

    /// How much of the queue to look at: what waits for agents that are not there costs little.
    fn next_look(&self, backlog: &Backlog) -> Look {
        let types = self.registry.types();
        let each = (WINDOW / backlog.lanes.max(1)).max(FEWEST);
        Look {
            types: (!types.iter().any(AgentType::is_general)).then(|| types.into_iter().collect()),
            each: u32::try_from(each).unwrap_or(u32::MAX),
            most: MOST,
        }
    }

    /// Takes in what is new and gives away what can be.
    async fn look(
        &self,
        backlog: &mut Backlog,
        fetched: Option<StoreResult<Fetched>>,
    ) -> StoreResult<usize> {
        if let Some(fetched) = fetched {
            backlog.replace(fetched?);
        }
        backlog.listen();
        self.give(backlog).await
    }

    /// Gives what is in the backlog to the agents.
    async fn give(&self, backlog: &mut Backlog) -> StoreResult<usize> {
        if backlog.tasks.is_empty() || self.registry.room() == 0 {
            return Ok(0);
        }
        let (queue, agents) = (backlog.queue(), self.registry.views());
        let grants = {
            let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            plan(&queue, &agents, &turns, self.options.limits)
        };
        for grant in &grants {
            backlog.tasks.remove(&grant.task.id);
        }
        self.claim_all(&grants).await
    }

    /// Claims all in one transaction, then hands over what was won.
    async fn claim_all(&self, grants: &[Grant<'_>]) -> StoreResult<usize> {
        let planned = Instant::now();
        if grants.is_empty() {
            return Ok(0);
        }
        let claims: Vec<_> = grants
            .iter()
            .map(|grant| Claim {
                note: grant.note.clone(),
                ..Claim::new(grant.task, &grant.agent)
            })
            .collect();
        let won = self.store.claim_all(&claims, self.options.lease).await?;
        let (mut assigned, mut first_error) = (0, None);
        for (grant, won) in grants.iter().zip(won) {
            let Cas::Applied(assignment) = won else {
                continue;
            };
            match self.hand_over(grant, assignment, planned).await {
                Ok(true) => assigned += 1,
                Ok(false) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(assigned), Err)
    }

    /// Gives an assignment to the agent's session; true when it is there. When the stream is gone
    /// meanwhile, the attempt ends at once instead of waiting for its lease.
    async fn hand_over(
        &self,
        grant: &Grant<'_>,
        assignment: Assignment,
        planned: Instant,
    ) -> StoreResult<bool> {
        let (task, agent, work) = (grant.task, &grant.agent, assignment.work);
        let waited = task.waited + planned.elapsed();
        self.metrics.queue_wait.observe(waited.as_secs_f64());
        self.turns
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .serve(&task.repository);
        tracing::info!(task.id = %work.task, attempt = %work.attempt, agent.id = %agent, "assigned");
        let handover = Handover {
            topic: topic_of(task),
            assignment,
            waited: task.waited,
            planned,
        };
        if self.registry.assign(agent, handover) {
            return Ok(true);
        }
        let why = "the agent was gone before the assignment could be sent";
        match self.store.lose(work, why).await? {
            Cas::Applied(_) | Cas::Stale => Ok(false),
        }
    }
}
