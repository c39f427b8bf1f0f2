//! What was found out about a task before it is queued.

use serde::{Deserialize, Serialize};

use crate::agent::Requirement;
use crate::priority::Priority;
use crate::state::words;

words! {
    /// A rough size.
    Complexity: "complexity" {
        /// One place, one idea.
        Simple = "simple",
        /// A few places.
        Moderate = "moderate",
        /// Many places or unclear.
        Complex = "complex",
    }
}

words! {
    /// What becomes of a task when one that it waits for fails or is called off.
    #[derive(Default)]
    FailurePolicy: "failure policy" {
        /// It is called off too.
        #[default]
        Cancel = "cancel",
        /// It goes on as if the other were done.
        Continue = "continue",
    }
}

/// Issue in, work order out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TaskAnalysis {
    /// Which agent is wanted.
    pub requirement: Requirement,
    /// A rough size.
    pub complexity: Complexity,
    /// Tokens that a model is expected to use, both directions.
    pub estimated_tokens: u64,
    /// How soon it is wanted.
    pub priority: Priority,
    /// Files that the request names.
    pub target_files: Vec<String>,
    /// Issues that have to be done first, as the request says.
    pub depends_on: Vec<u64>,
    /// What to do when one of them fails.
    #[serde(default)]
    pub on_dependency_failure: FailurePolicy,
    /// Why, one rule a line, for people.
    pub reasons: Vec<String>,
}
