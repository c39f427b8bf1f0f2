//! Event in, acts out: who may trigger what, and what an act is.
//!
//! Own events are dropped before anything else. Who did something is asked of GitHub for every
//! event that would count, never believed from the payload; in doubt nothing is stored. A
//! delivery, its acts and its semantic key are one transaction of the store.
//! Absent: what becomes of a task afterwards.

mod command;
mod decide;
mod key;
mod order;
mod own;
mod request;
pub mod sweep;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::{AgentType, RepositoryName};
use patchfleet_github::{GitHub, GitHubError, Permission};

pub(crate) use self::own::LABEL_PREFIX;
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
    /// How long a decision may take. GitHub hangs up after 10 s.
    pub deadline: Duration,
}

impl Default for IntakePolicy {
    fn default() -> Self {
        Self {
            label: "patchfleet".to_owned(),
            least: Permission::Write,
            max_attempts: 3,
            repositories: None,
            agent_types: BTreeSet::new(),
            deadline: Duration::from_secs(8),
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
}

impl Intake {
    /// An intake that follows the policy.
    pub fn new(store: Arc<dyn Store>, github: GitHub, policy: IntakePolicy) -> Self {
        Self {
            store,
            github,
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
    /// [`IntakeError`] when it can't be decided or stored now; then nothing was stored.
    pub async fn take(&self, delivery: &Delivery, event: &Event) -> Result<Taken, IntakeError> {
        let decision = self.decide_in_time(&delivery.id, event).await?;
        let acts = match &decision {
            Decision::Act(acts) => acts.as_slice(),
            Decision::Ignore(_) => &[],
            Decision::Known => return Ok(Taken::Duplicate),
        };
        let recorded = self.store.record_delivery(delivery, acts).await?;
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

    /// A quick look that saves asking GitHub; whether it counts, recording it decides.
    async fn is_known(&self, delivery: &str) -> Result<bool, IntakeError> {
        if self.cache.may_know_delivery(delivery).await == Some(false) {
            return Ok(false);
        }
        Ok(self.store.delivery_seen(delivery).await?)
    }

    async fn decide_in_time(&self, delivery: &str, event: &Event) -> Result<Decision, IntakeError> {
        let deciding = self.decide(delivery, event);
        let decided = tokio::time::timeout(self.policy.deadline, deciding).await;
        decided.unwrap_or_else(|_| {
            let message = format!("no decision within {:?}", self.policy.deadline);
            let late = GitHubError::Unavailable {
                message,
                retry_after: None,
            };
            Err(late.into())
        })
    }
}
