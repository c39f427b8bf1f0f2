//! Event in, acts out: who may trigger what, and what an act is.
//!
//! Own events are dropped before anything else. Who did something is asked of GitHub for every
//! event that would count, never believed from the payload. A delivery, its acts and its semantic
//! key are one transaction of the store. One that can't be judged because GitHub can't be asked is
//! deferred, and so are later ones of its issue ([`deferred`]).
//! Absent: what becomes of a task afterwards.

mod command;
mod decide;
pub mod deferred;
mod follow_up;
mod key;
mod late;
mod names;
mod order;
mod own;
mod request;
pub mod sweep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use patchfleet_domain::{AgentType, RepositoryName};
use patchfleet_github::{GitHub, GitHubError, Permission};
use tokio::sync::Semaphore;

use self::decide::Deciding;
use self::names::Names;
pub(crate) use self::own::{LABEL_PREFIX, is_own_label};
use crate::budget::Budget;
use crate::cache::Cache;
use crate::store::{Act, Acted, Delivery, Recorded, Store, StoreError};
use crate::webhook::event::Event;

/// What becomes a task, and by whom.
#[derive(Debug, Clone)]
pub struct IntakePolicy {
    /// The label that triggers a task.
    pub label: String,
    /// What the actor has to be allowed at least.
    pub least: Permission,
    /// How many failed attempts a task may have.
    pub max_attempts: u32,
    /// Only these repositories; all that the credentials may see when absent.
    pub repositories: Option<BTreeSet<RepositoryName>>,
    /// What `--agent` may name; anything when empty.
    pub agent_types: BTreeSet<AgentType>,
    /// How long GitHub may take in all for one event. It hangs up after 10 s, so that all of these
    /// together have to be less.
    pub github_deadline: Duration,
    /// How long the database may take in all to decide about one event and to record it.
    pub store_deadline: Duration,
    /// How many events are taken in at once.
    pub at_once: usize,
    /// How long an event waits for a place.
    pub patience: Duration,
}

impl Default for IntakePolicy {
    fn default() -> Self {
        Self {
            label: "patchfleet".to_owned(),
            least: Permission::Write,
            max_attempts: 3,
            repositories: None,
            agent_types: BTreeSet::new(),
            github_deadline: Duration::from_secs(5),
            store_deadline: Duration::from_secs(3),
            at_once: 1024,
            patience: Duration::from_secs(1),
        }
    }
}

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It led to acts; what each did.
    Acted(Vec<Acted>),
    /// It is of no interest, and why.
    Ignored(&'static str),
    /// Its delivery was taken before.
    Duplicate,
    /// It is stored and judged later, and why.
    Deferred(&'static str),
}

/// Why it can't be decided now; nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// GitHub can't be asked.
    #[error("GitHub can't be asked: {0}")]
    GitHub(#[from] GitHubError),
    /// An earlier delivery of the issue is deferred.
    #[error("an earlier delivery of the issue waits to be judged")]
    Behind,
    /// The store can't be asked.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The store did not say that the delivery is recorded; it may be.
    #[error("whether the delivery is recorded is not known: {0}")]
    InDoubt(StoreError),
    /// Too many events are taken in at the moment.
    #[error("too many deliveries arrive at once")]
    Crowded,
}

/// What to do about an event.
#[derive(Debug, PartialEq)]
enum Decision {
    Act(Vec<Act>),
    /// It counts, but as things stand there is nothing to be done.
    Pass(&'static str),
    /// It does not count, whatever came before it.
    Ignore(&'static str),
    /// Its delivery was taken before.
    Known,
}

impl Decision {
    fn one(act: Act) -> Self {
        Self::Act(vec![act])
    }
}

/// Takes events in.
#[derive(Debug)]
pub struct Intake {
    store: Arc<dyn Store>,
    github: GitHub,
    policy: IntakePolicy,
    cache: Cache,
    places: Semaphore,
    names: Names,
}

impl Intake {
    /// An intake that follows the policy.
    pub fn new(store: Arc<dyn Store>, github: GitHub, policy: IntakePolicy) -> Self {
        Self {
            store,
            github,
            places: Semaphore::new(policy.at_once),
            policy,
            cache: Cache::default(),
            names: Names::default(),
        }
    }

    /// Looks there first.
    #[must_use]
    pub fn cached(self, cache: Cache) -> Self {
        Self { cache, ..self }
    }

    /// Decides about an event and stores delivery and acts together.
    ///
    /// # Errors
    /// [`IntakeError`] when it can't be decided or stored now; then nothing was stored, unless it is
    /// [`IntakeError::InDoubt`].
    pub async fn take(&self, delivery: &Delivery, event: &Event) -> Result<Taken, IntakeError> {
        self.decide_and_record(&self.deciding(), delivery, event)
            .await
    }

    /// The same for a delivery of which GitHub won't tell again: when GitHub can't be asked it is
    /// stored with its payload, and judged later.
    ///
    /// # Errors
    /// As [`Self::take`], but for what GitHub is the reason of.
    pub async fn accept(
        &self,
        delivery: &Delivery,
        event: &Event,
        payload: &str,
    ) -> Result<Taken, IntakeError> {
        let (came, deciding) = (Instant::now(), self.deciding());
        let error = match self.decide_and_record(&deciding, delivery, event).await {
            Err(error @ (IntakeError::GitHub(_) | IntakeError::Behind)) => error,
            taken => return taken,
        };
        let Some(deferral) = deferred::deferral((delivery, event, payload), came, &error) else {
            return Err(error);
        };
        let storing = self.store.defer_delivery(&deferral);
        let is_new = deciding.store(storing).await.map_err(in_doubt)?;
        self.cache.remember_delivery(&delivery.id).await;
        if !is_new {
            return Ok(Taken::Duplicate);
        }
        let (delivery, event) = (&delivery.id, &delivery.event);
        tracing::info!(delivery, event, why = %error, "a delivery is judged later");
        Ok(Taken::Deferred(match error {
            IntakeError::Behind => "an earlier delivery of the issue waits to be judged",
            _ => "GitHub can't be asked now whether this counts; it is judged later",
        }))
    }

    async fn decide_and_record(
        &self,
        deciding: &Deciding<'_>,
        delivery: &Delivery,
        event: &Event,
    ) -> Result<Taken, IntakeError> {
        let place = tokio::time::timeout(self.policy.patience, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(IntakeError::Crowded);
        };
        let decision = deciding.decide(Some(&delivery.id), event).await?;
        let acts = match &decision {
            Decision::Act(acts) => acts.as_slice(),
            Decision::Pass(_) | Decision::Ignore(_) => &[],
            Decision::Known => return Ok(Taken::Duplicate),
        };
        let delivery = Delivery {
            issue: match decision {
                Decision::Ignore(_) | Decision::Known => None,
                Decision::Act(_) | Decision::Pass(_) => event.subject().map(|(_, issue)| issue),
            },
            ..delivery.clone()
        };
        let recording = self.store.record_delivery(&delivery, acts);
        let recorded = deciding.store(recording).await.map_err(in_doubt)?;
        if recorded == Recorded::Behind {
            return Err(IntakeError::Behind);
        }
        self.cache.remember_delivery(&delivery.id).await;
        let taken = match (recorded, decision) {
            (Recorded::New(acted), Decision::Act(_)) => Taken::Acted(acted),
            (Recorded::New(_), Decision::Ignore(why) | Decision::Pass(why)) => Taken::Ignored(why),
            _ => Taken::Duplicate,
        };
        tracing::info!(
            delivery = delivery.id,
            event = delivery.event,
            ?taken,
            "took a delivery"
        );
        Ok(taken)
    }

    /// A decision, with all the time there is for one.
    fn deciding(&self) -> Deciding<'_> {
        Deciding {
            intake: self,
            github: Budget::new(self.policy.github_deadline),
            store: Budget::new(self.policy.store_deadline),
        }
    }
}

/// A transaction that was broken off may have been committed.
fn in_doubt(error: StoreError) -> IntakeError {
    match error {
        StoreError::Unavailable(_) => IntakeError::InDoubt(error),
        other => IntakeError::Store(other),
    }
}
