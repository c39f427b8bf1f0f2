//! Deliveries that can't be judged yet: what is kept of them, and what becomes of them.

use std::time::Duration;

use patchfleet_domain::{IssueNumber, RepositoryName};

use super::{Act, Delivery};

/// A delivery to be judged later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deferral {
    /// The delivery.
    pub delivery: Delivery,
    /// The issue whose deliveries are judged in the order of their coming.
    pub subject: (RepositoryName, IssueNumber),
    /// Its payload, as GitHub sent it.
    pub payload: String,
    /// How long ago it came.
    pub received: Duration,
    /// How long it is not to be judged yet.
    pub after: Duration,
    /// Why it could not be judged.
    pub error: String,
}

/// A deferred delivery that was taken to be judged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeferredDelivery {
    /// Grows over the whole store.
    pub id: i64,
    /// GitHub's id of the delivery.
    pub delivery: String,
    /// GitHub's name of the event.
    pub event: String,
    /// The repository.
    pub repository: RepositoryName,
    /// The issue.
    pub issue: IssueNumber,
    /// The payload, as GitHub sent it.
    pub payload: String,
    /// How often it was taken, with this time. It fences: whoever took it before has lost it.
    pub tries: u32,
    /// How long ago it came, by the database's clock.
    pub waiting_for: Duration,
}

/// What becomes of a deferred delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Judgement {
    /// It was judged; these acts are done in the same transaction.
    Judged(Vec<Act>),
    /// It can't be judged yet; later deliveries of its issue go on waiting.
    Again {
        /// How long to wait.
        after: Duration,
        /// Why.
        error: String,
    },
    /// It is not tried any more, unless GitHub delivers it again. Its row and the reason are kept as
    /// long as deliveries are.
    GivenUp {
        /// Why.
        error: String,
    },
}
