//! The loop that turns plans into claims.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use patchfleet_telemetry::Metrics;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::backlog::{Backlog, Fetched, fetch};
use super::plan::{Grant, Limits, plan, topic_of};
use super::turns::Turns;
use crate::dispatch::{Handover, Registry};
use crate::store::{Assignment, Cas, Claim, Store, StoreResult};
use crate::wake::next_change;

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

impl Scheduler {
    /// A scheduler for the agents of that registry.
    pub fn new(
        store: Arc<dyn Store>,
        registry: Registry,
        metrics: Metrics,
        options: SchedulerOptions,
    ) -> Self {
        let backlog = Backlog::new(store.newly_queued());
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
                fetching.push(fetch(
                    self.store.as_ref(),
                    backlog.next_look(&self.registry.types()),
                ));
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
        let fetched = fetch(
            self.store.as_ref(),
            backlog.next_look(&self.registry.types()),
        )
        .await;
        self.look(&mut backlog, Some(fetched)).await
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
        if backlog.is_empty() || self.registry.room() == 0 {
            return Ok(0);
        }
        let (queue, agents) = (backlog.queue(), self.registry.open());
        let grants = {
            let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
            plan(
                (&queue, &mut backlog.room),
                &agents,
                &turns,
                self.options.limits,
            )
        };
        for grant in &grants {
            backlog.remove(grant.task.id);
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
