//! What an agent reports about its work, numbered within the attempt.

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::phase::Phase;
use crate::spending::Money;
use crate::work::Work;

/// A finished node's output: what a later attempt does not pay for again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The node.
    pub node: String,
    /// Its visit within the flow, from 1.
    pub visit: u32,
    /// The output; opaque to the coordinator.
    pub output: serde_json::Value,
}

/// What a model call used, in classes that have nothing in common but that reasoning is a part of the
/// output. An account of it is given once, whatever became of the answer.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// The call that was reserved under this name; empty when none was.
    pub call: String,
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Tokens in that no cache had.
    pub input_tokens: u64,
    /// Tokens in that came from the provider's cache.
    pub cache_read_tokens: u64,
    /// Tokens in that were written to the provider's cache.
    pub cache_write_tokens: u64,
    /// Tokens out, reasoning among them.
    pub output_tokens: u64,
    /// Of the tokens out, those that were reasoning.
    pub reasoning_tokens: u64,
    /// The answer was cut, and what the provider did not say is an estimate.
    pub estimated: bool,
    /// What it cost; `None` when nobody knows the price.
    #[serde(rename = "cost_micros", with = "micros")]
    pub cost: Option<Money>,
}

impl Usage {
    /// Tokens of all classes.
    pub const fn tokens(&self) -> u64 {
        self.input_tokens
            .saturating_add(self.cache_read_tokens)
            .saturating_add(self.cache_write_tokens)
            .saturating_add(self.output_tokens)
    }
}

/// Money as a number of millionths, which is how histories have it.
mod micros {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::Money;

    #[expect(clippy::ref_option, reason = "the signature is serde's")]
    pub(super) fn serialize<S: Serializer>(it: &Option<Money>, to: S) -> Result<S::Ok, S::Error> {
        it.map(|money| money.0).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Money>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(Money))
    }
}

/// Something an agent reports about its work. Reports of an attempt are numbered from 1; one
/// whose number is not higher than the highest one applied was applied before.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Task and attempt.
    pub work: Work,
    /// Counts the attempt's reports from 1.
    pub seq: u64,
    /// What is reported.
    pub event: WorkEvent,
}

/// What agents report.
#[derive(Debug, Clone, PartialEq)]
pub enum WorkEvent {
    /// The assignment is accepted: `assigned → in_progress`.
    Accepted,
    /// The assignment is refused: `assigned → queued`; does not count as a failure.
    Refused {
        /// Why.
        reason: String,
    },
    /// A phase began; the state follows [`Phase::task_state`].
    Progress {
        /// The phase.
        phase: Phase,
        /// A line for people.
        detail: String,
    },
    /// Output, already redacted.
    Log {
        /// Lines, in order.
        lines: Vec<String>,
        /// Lines that were dropped before these, because a channel was full.
        dropped: u64,
    },
    /// A node finished; durable before the agent goes on.
    Checkpoint(Checkpoint),
    /// A model was used.
    Usage(Usage),
    /// The attempt ended.
    Finished(Outcome),
}
