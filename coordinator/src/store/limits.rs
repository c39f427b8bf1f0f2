//! How many tasks may be worked at at once, and what is paused. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;

use patchfleet_domain::{AgentType, RepositoryName, Timestamp};
use serde::{Deserialize, Serialize};

/// A part of the queue: what belongs to a repository, or wants a type of agent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The tasks of that repository.
    Repository(RepositoryName),
    /// The tasks that want that type of agent, whichever agent takes them.
    AgentType(AgentType),
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Repository(name) => write!(f, "repository {name}"),
            Self::AgentType(name) => write!(f, "agent type {name}"),
        }
    }
}

/// A part of the queue whose tasks are not given to agents until somebody resumes it. What is at
/// work goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pause {
    /// Which part.
    #[serde(flatten)]
    pub scope: Scope,
    /// Who paused it.
    pub actor: String,
    /// Why, if somebody said so.
    pub reason: Option<String>,
    /// Since when.
    pub since: Timestamp,
}

/// How many tasks may be worked at at once, as the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Caps {
    /// In each repository that is not named below; any number when absent.
    pub per_repository: Option<NonZeroU32>,
    /// In these repositories.
    pub repositories: BTreeMap<RepositoryName, NonZeroU32>,
    /// Of the tasks that want these types of agents.
    pub agent_types: BTreeMap<AgentType, NonZeroU32>,
}

impl Caps {
    /// True when nothing is limited.
    pub fn is_empty(&self) -> bool {
        self.per_repository.is_none() && self.repositories.is_empty() && self.agent_types.is_empty()
    }
}

/// What waits for one type of agent in one repository.
type Lane<'a> = (&'a RepositoryName, &'a AgentType);

/// Tasks at work in a lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AtWork {
    /// The repository.
    pub repository: RepositoryName,
    /// The type of agent that they want.
    pub agent_type: AgentType,
    /// How many.
    pub tasks: u32,
}

/// What may be given to agents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Room {
    caps: Caps,
    repositories: BTreeMap<RepositoryName, u32>,
    agent_types: BTreeMap<AgentType, u32>,
    paused: BTreeSet<Scope>,
}

impl Room {
    /// The room that is left beside what is at work.
    pub fn new(
        caps: Caps,
        at_work: impl IntoIterator<Item = AtWork>,
        paused: impl IntoIterator<Item = Scope>,
    ) -> Self {
        let mut room = Self {
            caps,
            paused: paused.into_iter().collect(),
            ..Self::default()
        };
        for lane in at_work {
            room.count((&lane.repository, &lane.agent_type), lane.tasks);
        }
        room
    }

    /// Takes room for one task; false when there is none.
    pub fn take(&mut self, lane: Lane<'_>) -> bool {
        let admits = self.admits(lane);
        if admits {
            self.count(lane, 1);
        }
        admits
    }

    /// True when there is room for a task of that lane.
    pub fn admits(&self, (repository, agent_type): Lane<'_>) -> bool {
        let caps = &self.caps;
        let of_repository = caps.repositories.get(repository);
        let of_repository = of_repository.copied().or(caps.per_repository);
        let of_type = caps.agent_types.get(agent_type).copied();
        let is_paused = self.paused.iter().any(|scope| match scope {
            Scope::Repository(name) => name == repository,
            Scope::AgentType(name) => name == agent_type,
        });
        !is_paused
            && has_room(self.repositories.get(repository), of_repository)
            && has_room(self.agent_types.get(agent_type), of_type)
    }

    /// Counts tasks that are at work.
    pub fn count(&mut self, (repository, agent_type): Lane<'_>, tasks: u32) {
        if self.caps.is_empty() {
            return;
        }
        *self.repositories.entry(repository.clone()).or_default() += tasks;
        *self.agent_types.entry(agent_type.clone()).or_default() += tasks;
    }
}

fn has_room(at_work: Option<&u32>, cap: Option<NonZeroU32>) -> bool {
    cap.is_none_or(|cap| at_work.copied().unwrap_or_default() < cap.get())
}
