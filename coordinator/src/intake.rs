//! Event in, acts out: who may trigger what, and what an act is.
//!
//! Own events are dropped before anything else. Who did something is asked of GitHub for every
//! event that would count, never believed from the payload; in doubt nothing is stored. A
//! delivery, its acts and its semantic key are one transaction of the store.
//! Absent: what becomes of a task afterwards.

mod command;
mod decide;
mod key;
mod late;
mod order;
mod own;
mod request;
pub mod sweep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::{AgentType, RepositoryName};
use patchfleet_github::{GitHub, GitHubError, Permission};
use tokio::sync::Semaphore;

use self::decide::Deciding;
pub(crate) use self::own::LABEL_PREFIX;
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
}

/// Why it can't be decided now; nothing was stored.
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    /// GitHub can't be asked.
    #[error("GitHub can't be asked: {source}")]
    GitHub {
        /// Why.
        source: GitHubError,
        /// When to try again.
        retry_after: Duration,
    },
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

impl From<GitHubError> for IntakeError {
    fn from(source: GitHubError) -> Self {
        let asked = match &source {
            GitHubError::RateLimited { retry_after } => Some(*retry_after),
            GitHubError::Unavailable { retry_after, .. } => *retry_after,
            _ => None,
        };
        let retry_after = asked.unwrap_or(Duration::from_secs(30));
        Self::GitHub {
            source,
            retry_after,
        }
    }
}

/// What to do about an event.
#[derive(Debug, PartialEq)]
enum Decision {
    Act(Vec<Act>),
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
        let place = tokio::time::timeout(self.policy.patience, self.places.acquire()).await;
        let Ok(Ok(_place)) = place else {
            return Err(IntakeError::Crowded);
        };
        let deciding = self.deciding();
        let decision = deciding.decide(&delivery.id, event).await?;
        let acts = match &decision {
            Decision::Act(acts) => acts.as_slice(),
            Decision::Ignore(_) => &[],
            Decision::Known => return Ok(Taken::Duplicate),
        };
        let recording = self.store.record_delivery(delivery, acts);
        let recorded = deciding.store(recording).await.map_err(in_doubt)?;
        self.cache.remember_delivery(&delivery.id).await;
        let taken = match (recorded, decision) {
            (Recorded::Duplicate, _) | (_, Decision::Known) => Taken::Duplicate,
            (Recorded::New(_), Decision::Ignore(why)) => Taken::Ignored(why),
            (Recorded::New(acted), Decision::Act(_)) => Taken::Acted(acted),
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
