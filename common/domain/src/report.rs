//! What an agent reports about its work, numbered within the attempt.

use serde::{Deserialize, Serialize};

use crate::outcome::Outcome;
use crate::phase::Phase;
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

/// What a model call used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Tokens in.
    pub input_tokens: u64,
    /// Tokens out.
    pub output_tokens: u64,
    /// Millionths of a US dollar.
    pub cost_micros: u64,
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
