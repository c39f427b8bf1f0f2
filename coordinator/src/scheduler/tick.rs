//! The loop that turns plans into claims.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use patchfleet_telemetry::Metrics;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::plan::{Grant, Limits, plan, topic_of};
use super::turns::Turns;
use crate::dispatch::{Handover, Registry};
use crate::store::{Assignment, Cas, Claim, Store, StoreResult};
use crate::wake::next_change;

/// Tasks looked at first.
const NEAR: u32 = 256;
/// Most tasks looked at, when agents have room left for which the first ones do not fit.
const FAR: u32 = 4096;

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
        }
    }

    /// Ticks whenever the store or an agent has news, and by the clock, until the shutdown.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut stored = Some(self.store.changed());
        let mut room = self.registry.changed();
        let mut ticks = tokio::time::interval(self.options.interval);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let reach = tokio::select! {
                () = shutdown.cancelled() => return,
                () = next_change(&mut stored) => NEAR,
                _ = room.changed() => NEAR,
                _ = ticks.tick() => FAR,
            };
            // A claim under way is finished: cancelled halfway, its task would wait for the lease.
            if let Err(error) = self.look(reach).await {
                tracing::warn!(%error, "tasks could not be assigned; trying again");
            }
        }
    }

    /// Assigns what can be assigned now; says how many tasks that were.
    ///
    /// # Errors
    /// When the store can't be asked. What was claimed before stays claimed.
    pub async fn tick(&self) -> StoreResult<usize> {
        self.look(FAR).await
    }

    /// Looks at no more than `reach` tasks. Far looks are for the clock alone: when the first
    /// tasks fit nobody, each wake-up would read the whole queue.
    async fn look(&self, reach: u32) -> StoreResult<usize> {
        if self.registry.room() == 0 {
            return Ok(0);
        }
        let fetched = Instant::now();
        let mut queue = self.store.queued(NEAR).await?;
        if queue.is_empty() {
            return Ok(0);
        }
        let agents = self.registry.views();
        let room: usize = agents
            .iter()
            .map(|view| view.agent.free_slots as usize)
            .sum();
        let mut window = NEAR;
        loop {
            let grants = {
                let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                plan(&queue, &agents, &turns, self.options.limits)
            };
            let all_seen = queue.len() < window as usize || window >= reach;
            if grants.len() >= room || all_seen {
                return self.claim_all(grants, fetched).await;
            }
            window *= 4;
            queue = self.store.queued(window).await?;
        }
    }

    /// Claims all in one transaction, then hands over what was won.
    async fn claim_all(&self, grants: Vec<Grant<'_>>, fetched: Instant) -> StoreResult<usize> {
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
