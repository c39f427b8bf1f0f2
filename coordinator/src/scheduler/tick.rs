//! The loop that turns plans into claims.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchfleet_domain::TaskId;
use patchfleet_telemetry::Metrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::{AgentView, Grant, Limits, plan, topic_of};
use super::turns::Turns;
use crate::dispatch::{Handover, Registry};
use crate::store::{Assignment, Cas, Claim, QueuedTask, Store, StoreResult};
use crate::wake::next_change;

/// Tasks that are fetched at once; more only when there are more lanes.
const WINDOW: usize = 1024;
/// Fewest of each lane, and most in all.
const FEWEST: usize = 4;
const MOST: u32 = 16_384;
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

/// What came of a look at the queue.
#[derive(Debug, Default)]
struct Look {
    assigned: usize,
    /// When to look again, if that is sooner than by the clock.
    again: Option<Instant>,
}

/// What was fetched of the queue and not given away yet. A task may have gone meanwhile, which its
/// claim finds out.
#[derive(Debug)]
struct Backlog {
    tasks: Vec<QueuedTask>,
    fetched: Instant,
    took: Duration,
    lanes: usize,
}

impl Backlog {
    /// When the queue is to be looked at again: at once when nothing is left; otherwise not so
    /// often that looking takes more than a fifth of the time.
    fn stale_at(&self) -> Instant {
        if self.tasks.is_empty() {
            return self.fetched;
        }
        self.fetched + FRESH.max(self.took * 4)
    }

    async fn fetch(&mut self, store: &dyn Store) -> StoreResult<()> {
        let started = Instant::now();
        let each = (WINDOW / self.lanes.max(1)).max(FEWEST);
        let each = u32::try_from(each).unwrap_or(u32::MAX);
        self.tasks = store.queued(each, MOST).await?;
        let lanes: BTreeSet<_> = self.tasks.iter().map(topic_of).collect();
        self.lanes = lanes.len();
        (self.fetched, self.took) = (started, started.elapsed());
        Ok(())
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
        Self {
            store,
            registry,
            metrics,
            options,
            turns: Mutex::default(),
            backlog: tokio::sync::Mutex::new(Backlog {
                tasks: Vec::new(),
                fetched: Instant::now(),
                took: Duration::ZERO,
                lanes: 0,
            }),
        }
    }

    /// Ticks whenever the store or an agent has news, and by the clock, until the shutdown.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut stored = Some(self.store.changed());
        let mut room = self.registry.changed();
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                () = next_change(&mut stored) => {}
                _ = room.changed() => {}
                () = tokio::time::sleep_until(next) => {}
            }
            // A claim under way is finished: cancelled halfway, its task would wait for the lease.
            next = Instant::now() + self.options.interval;
            match self.look().await {
                Ok(Look { again, .. }) => next = again.map_or(next, |again| again.min(next)),
                Err(error) => {
                    tracing::warn!(%error, "tasks could not be assigned; trying again");
                }
            }
        }
    }

    /// Assigns what can be assigned now; says how many tasks that were.
    ///
    /// # Errors
    /// When the store can't be asked. What was claimed before stays claimed.
    pub async fn tick(&self) -> StoreResult<usize> {
        Ok(self.look().await?.assigned)
    }

    async fn look(&self) -> StoreResult<Look> {
        let mut backlog = self.backlog.lock().await;
        if self.registry.room() == 0 {
            return Ok(Look::default());
        }
        let fresh = Instant::now() < backlog.stale_at();
        if !fresh {
            backlog.fetch(self.store.as_ref()).await?;
        }
        if backlog.tasks.is_empty() {
            return Ok(Look::default());
        }
        let agents = self.registry.views();
        let assigned = self.give(&mut backlog, &agents).await?;
        // What came after a fetch is not in it: it is not to wait for the next news.
        let again = fresh.then(|| backlog.stale_at());
        Ok(Look { assigned, again })
    }

    /// Gives what is in the backlog to the agents.
    async fn give(&self, backlog: &mut Backlog, agents: &[AgentView]) -> StoreResult<usize> {
        let (tasks, fetched) = (std::mem::take(&mut backlog.tasks), backlog.fetched);
        let grants = {
            let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            plan(&tasks, agents, &turns, self.options.limits)
        };
        let assigned = self.claim_all(&grants, fetched).await?;
        let given: BTreeSet<TaskId> = grants.iter().map(|grant| grant.task.id).collect();
        drop(grants);
        backlog.tasks = tasks;
        backlog.tasks.retain(|task| !given.contains(&task.id));
        Ok(assigned)
    }

    /// Claims all in one transaction, then hands over what was won.
    async fn claim_all(&self, grants: &[Grant<'_>], fetched: Instant) -> StoreResult<usize> {
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
            match self.hand_over(grant, assignment, fetched).await {
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
        fetched: Instant,
    ) -> StoreResult<bool> {
        let (task, agent, work) = (grant.task, &grant.agent, assignment.work);
        let waited = task.waited + fetched.elapsed();
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
            fetched,
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
