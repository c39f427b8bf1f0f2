//! Assignments that came back without work: who gave a task back, and why.

use serde::{Deserialize, Serialize};

use crate::Timestamp;
use crate::id::AgentId;

/// The assignments of a task that came back without work since it last made progress: refused, lost
/// before they were accepted, interrupted, or ended by a fault of the agent's host.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returns {
    /// How many in a row.
    pub count: u32,
    /// The agents that gave it back, the latest last; also the one whose attempt failed before.
    pub by: Vec<Returned>,
    /// When the task is offered to agents again by itself, while it waits for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Timestamp>,
}

/// An agent that does not take a task.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Returned {
    /// The agent.
    pub agent: AgentId,
    /// Its newest reason.
    pub reason: String,
    /// Until then the task is not offered to this agent again.
    pub rests_until: Timestamp,
}

impl Returns {
    /// True when nothing came back.
    pub const fn is_empty(&self) -> bool {
        self.count == 0 && self.by.is_empty() && self.until.is_none()
    }

    /// Adds an agent's return; its earlier one is forgotten.
    pub fn add(&mut self, returned: Returned) {
        self.count = self.count.saturating_add(1);
        self.by.retain(|it| it.agent != returned.agent);
        self.by.push(returned);
    }

    /// True when the agent gave the task back.
    pub fn are_by(&self, agent: &AgentId) -> bool {
        self.by.iter().any(|it| it.agent == *agent)
    }
}
