//! Agents: what they are, what they can do and when they accept a task.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::{AgentId, InvalidId};
use crate::state::words;

/// A specialty, such as `backend`. A word of configuration, not of code; [`AgentType::general`]
/// is the one that has a meaning of its own: it matches every task.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AgentType(String);

impl AgentType {
    /// The type that matches every task.
    pub fn general() -> Self {
        Self("general".to_owned())
    }

    /// True for the type that matches every task.
    pub fn is_general(&self) -> bool {
        self.0 == "general"
    }

    /// The word.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AgentType {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        let allowed =
            |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '_';
        if !text.is_empty() && text.len() <= 32 && text.chars().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(InvalidId {
                what: "agent type",
                text: text.to_owned(),
                expected: "1 to 32 lower-case letters, digits, `-` or `_`",
            })
        }
    }
}

impl TryFrom<String> for AgentType {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<AgentType> for String {
    fn from(value: AgentType) -> Self {
        value.0
    }
}

impl fmt::Display for AgentType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Something an agent is good at, such as `postgresql`; compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "String", into = "String")]
pub struct Capability(String);

impl Capability {
    /// The word, in lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<String> for Capability {
    fn from(text: String) -> Self {
        Self(text.trim().to_lowercase())
    }
}

impl From<&str> for Capability {
    fn from(text: &str) -> Self {
        Self(text.trim().to_lowercase())
    }
}

impl From<Capability> for String {
    fn from(value: Capability) -> Self {
        value.0
    }
}

words! {
    /// How sensitive a task is, and how far an agent is trusted. Ordered.
    SecurityLevel: "security level" {
        /// Anyone may see it.
        Public = "public",
        /// For the organization.
        Internal = "internal",
        /// For cleared agents only.
        Restricted = "restricted",
    }
}

words! {
    /// What an agent says of itself, or the coordinator of it.
    AgentState: "agent state" {
        /// No stream.
        Offline = "offline",
        /// Nothing to do.
        Idle = "idle",
        /// At least one task.
        Busy = "busy",
        /// The host is under pressure.
        Overloaded = "overloaded",
        /// Finishes what it has, takes nothing new.
        Maintenance = "maintenance",
        /// Something is wrong with it.
        Error = "error",
    }
}

/// An agent as its registration and last heartbeat describe it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Agent {
    /// Its name.
    pub id: AgentId,
    /// Its specialty.
    pub agent_type: AgentType,
    /// What it is good at.
    pub capabilities: BTreeSet<Capability>,
    /// How sensitive a task it may see.
    pub clearance: SecurityLevel,
    /// How many tasks it runs at once.
    pub slots: u32,
    /// How many of them are free.
    pub free_slots: u32,
    /// What it says of itself.
    pub state: AgentState,
    /// Why it takes nothing, in a state in which it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The host's load, 0.0 (nothing) to 1.0 (full).
    pub load: f32,
    /// Repositories of which it has a mirror.
    pub warm_repositories: BTreeSet<crate::RepositoryName>,
    /// The program's version.
    pub version: String,
}

/// What a task asks of an agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Requirement {
    /// The specialty.
    pub agent_type: AgentType,
    /// What the agent should be good at; any one of them will do.
    pub capabilities: BTreeSet<Capability>,
    /// How sensitive the task is.
    pub security_level: SecurityLevel,
}

impl AgentState {
    /// True in the states in which an agent takes tasks, if it has a free slot.
    pub const fn takes_tasks(self) -> bool {
        matches!(self, Self::Idle | Self::Busy)
    }
}

impl Agent {
    /// True when the agent has room now: `idle` or `busy`, with a free slot.
    pub const fn has_room(&self) -> bool {
        self.state.takes_tasks() && self.free_slots > 0
    }

    /// True when the agent could do such a task at all, whether it has room or not: its clearance
    /// suffices and it is general, of the wanted type, or shares a capability.
    pub fn matches(&self, wanted: &Requirement) -> bool {
        let able = self.agent_type.is_general()
            || self.agent_type == wanted.agent_type
            || !self.capabilities.is_disjoint(&wanted.capabilities);
        able && self.clearance >= wanted.security_level
    }

    /// The acceptance rule: room, clearance and ability.
    pub fn accepts(&self, wanted: &Requirement) -> bool {
        self.has_room() && self.matches(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agent() -> Agent {
        Agent {
            id: "backend-1".parse().unwrap(),
            agent_type: "backend".parse().unwrap(),
            capabilities: ["python".into()].into(),
            clearance: SecurityLevel::Internal,
            slots: 2,
            free_slots: 1,
            state: AgentState::Busy,
            reason: None,
            load: 0.1,
            warm_repositories: BTreeSet::new(),
            version: "1".to_owned(),
        }
    }

    fn wanted(agent_type: &str, capability: &str, level: SecurityLevel) -> Requirement {
        Requirement {
            agent_type: agent_type.parse().unwrap(),
            capabilities: [capability.into()].into(),
            security_level: level,
        }
    }

    #[test]
    fn accepts_by_type_capability_or_being_general() {
        let internal = SecurityLevel::Internal;
        assert!(agent().accepts(&wanted("backend", "rust", internal)));
        assert!(agent().accepts(&wanted("testing", "Python", internal)));
        assert!(!agent().accepts(&wanted("testing", "jest", internal)));
        let general = Agent {
            agent_type: AgentType::general(),
            ..agent()
        };
        assert!(general.accepts(&wanted("testing", "jest", internal)));
    }

    #[test]
    fn clearance_room_and_state_are_needed() {
        let task = wanted("backend", "python", SecurityLevel::Restricted);
        assert!(!agent().accepts(&task));
        let task = wanted("backend", "python", SecurityLevel::Public);
        assert!(
            !Agent {
                free_slots: 0,
                ..agent()
            }
            .accepts(&task)
        );
        for &state in AgentState::ALL {
            let expected = matches!(state, AgentState::Idle | AgentState::Busy);
            assert_eq!(
                Agent { state, ..agent() }.accepts(&task),
                expected,
                "{state}"
            );
        }
    }
}
