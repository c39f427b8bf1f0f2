//! The loop that turns plans into claims.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use patchfleet_domain::AgentId;
use patchfleet_telemetry::Metrics;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

use super::plan::{Grant, Limits, plan, topic_of};
use super::turns::Turns;
use crate::dispatch::{Handover, Registry};
use crate::store::{Cas, Store, StoreResult};
use crate::wake::next_change;

/// Tasks looked at first.
const NEAR: u32 = 256;
/// Most tasks looked at, when agents have room left for which the first ones do not fit.
const FAR: u32 = 4096;
/// Claims under way at once.
const CLAIMS: usize = 8;

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
        let agents = self.registry.views();
        let open = agents.iter().filter(|view| view.agent.has_room());
        let room: usize = open.map(|view| view.agent.free_slots as usize).sum();
        if room == 0 {
            return Ok(0);
        }
        let mut window = NEAR;
        loop {
            let fetched = Instant::now();
            let queue = self.store.queued(window).await?;
            let grants = {
                let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
                plan(&queue, &agents, &turns, self.options.limits)
            };
            let all_seen = queue.len() < window as usize || window >= reach;
            if grants.len() >= room || all_seen {
                return self.claim_all(grants, fetched).await;
            }
            window *= 4;
        }
    }

    async fn claim_all(&self, grants: Vec<Grant<'_>>, fetched: Instant) -> StoreResult<usize> {
        let claims: Vec<_> = grants
            .into_iter()
            .map(|grant| self.claim(grant, fetched))
            .collect();
        let mut claims = futures::stream::iter(claims).buffered(CLAIMS);
        let (mut assigned, mut first_error) = (0, None);
        while let Some(claimed) = claims.next().await {
            match claimed {
                Ok(true) => assigned += 1,
                Ok(false) => {}
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        first_error.map_or(Ok(assigned), Err)
    }

    /// True when the task is with the agent now.
    async fn claim(&self, grant: Grant<'_>, fetched: Instant) -> StoreResult<bool> {
        let Grant { task, agent, note } = grant;
        let lease = self.options.lease;
        let Cas::Applied(assignment) = self.store.claim(task, &agent, lease).await? else {
            return Ok(false);
        };
        let waited = task.waited + fetched.elapsed();
        self.metrics.queue_wait.observe(waited.as_secs_f64());
        self.turns
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .serve(&task.repository);
        let work = assignment.work;
        tracing::info!(task.id = %work.task, attempt = %work.attempt, agent.id = %agent, "assigned");
        if let Some(note) = note {
            // A lost note is no reason to lose the claim.
            match self.store.note(work, &note).await {
                Ok(Cas::Applied(()) | Cas::Stale) => {}
                Err(error) => tracing::warn!(%error, %work, "the history lacks a note"),
            }
        }
        let handover = Handover {
            topic: topic_of(task),
            assignment,
            waited: task.waited,
            fetched,
        };
        self.hand_over(&agent, handover).await
    }

    /// Gives the assignment to the agent's session; when the stream is gone meanwhile, the
    /// attempt ends at once instead of waiting for its lease.
    async fn hand_over(&self, agent: &AgentId, handover: Handover) -> StoreResult<bool> {
        let work = handover.assignment.work;
        if self.registry.assign(agent, handover) {
            return Ok(true);
        }
        let why = "the agent was gone before the assignment could be sent";
        match self.store.lose(work, why).await? {
            Cas::Applied(_) | Cas::Stale => Ok(false),
        }
    }
}
