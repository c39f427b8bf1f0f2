//! What waits for agents, what they were given, and what became of that.

use std::sync::Arc;
use std::time::Duration;

use patchfleet_domain::agent::Requirement;
use patchfleet_domain::outcome::Failure;
use patchfleet_domain::report::Checkpoint;
use patchfleet_domain::{
    AgentId, AgentType, AttemptNumber, FollowUp, Priority, RepositoryName, Returned, Returns,
    SessionId, Task, TaskId, TaskState, Timestamp, Work,
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A task that waits for an agent, as the planner needs it.
#[derive(Debug, Clone, PartialEq)]
pub struct QueuedTask {
    /// The task.
    pub id: TaskId,
    /// Its newest attempt so far; compared when it is claimed.
    pub attempt: AttemptNumber,
    /// How soon it is wanted.
    pub priority: Priority,
    /// Its repository.
    pub repository: RepositoryName,
    /// What it asks of an agent.
    pub requirement: Arc<Requirement>,
    /// How long it has been queued.
    pub waited: Duration,
    /// The agents that gave it back since it last made progress.
    pub rests: Vec<Rest>,
}

/// An agent that gave a task back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rest {
    /// The agent.
    pub agent: AgentId,
    /// How long the task is not offered to it yet; after that, only when nobody else takes it.
    pub left: Duration,
}

/// Those of the agents that gave a task back.
pub(super) fn rests(returns: &Returns, now: Timestamp) -> Vec<Rest> {
    let rest = |it: &Returned| Rest {
        agent: it.agent.clone(),
        left: (it.rests_until - now).to_std().unwrap_or_default(),
    };
    returns.by.iter().map(rest).collect()
}

/// A decision who gets a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The task.
    pub task: TaskId,
    /// Its newest attempt when that was decided.
    pub attempt: AttemptNumber,
    /// Who gets it.
    pub agent: AgentId,
    /// What the task's history should say about the choice.
    pub note: Option<String>,
}

impl Claim {
    /// That task for that agent, without a word about it.
    pub fn new(task: &QueuedTask, agent: &AgentId) -> Self {
        Self {
            task: task.id,
            attempt: task.attempt,
            agent: agent.clone(),
            note: None,
        }
    }
}

/// How much of the queue to show. A lane is what waits for one type of agent in one repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Look {
    /// The types whose lanes are wanted; of the others only the first task is shown, which may suit
    /// somebody for its capabilities. All types when absent.
    pub types: Option<Vec<AgentType>>,
    /// Tasks of each lane at most.
    pub each: u32,
    /// Tasks in all at most.
    pub most: u32,
}

impl Look {
    /// All lanes alike.
    pub const fn all(each: u32, most: u32) -> Self {
        Self {
            types: None,
            each,
            most,
        }
    }
}

/// A claimed task with all that an agent needs.
#[derive(Debug, Clone, PartialEq)]
pub struct Assignment {
    /// Task and attempt.
    pub work: Work,
    /// The task, in state `assigned`.
    pub task: Task,
    /// When the lease ends.
    pub lease_until: Timestamp,
    /// What earlier attempts finished, in order of completion.
    pub checkpoints: Vec<Checkpoint>,
}

/// A lease that ran out, or whose holder is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LostAttempt {
    /// Task and attempt.
    pub work: Work,
    /// Who had it.
    pub agent: AgentId,
    /// Where the task went: `queued`, or `failed` when attempts are spent.
    pub now: TaskState,
}

/// A live attempt of an agent that gave a sign of life.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Renewal {
    /// Who has it.
    pub agent: AgentId,
    /// Task and attempt.
    pub work: Work,
    /// The agent accepted it, so that its lease was renewed.
    pub is_accepted: bool,
}

/// An attempt that ended without its agent, which is to stop.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenAway {
    /// Task and attempt.
    pub work: Work,
    /// Who had it.
    pub agent: AgentId,
    /// A person called the task off; otherwise the attempt was given up.
    pub called_off: bool,
}

/// An attempt's two clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// How long it lives without a sign of life of its agent.
    pub lease: Duration,
    /// How long it may take altogether: an agent that lives may still hang.
    pub deadline: Duration,
}

/// A session of an agent that registers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewPresence {
    /// The session.
    pub session: SessionId,
    /// The agent's process.
    pub instance: Uuid,
    /// How long it counts as present without another sign of life.
    pub present: Duration,
}

/// An attempt that holds a lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveAttempt {
    /// Task and attempt.
    pub work: Work,
    /// The state of the task: `assigned`, `in_progress` or `testing`; none when this version does
    /// not know it.
    pub state: Option<TaskState>,
}

/// A follow-up of a task that has a live attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveFollowUp {
    /// The task and its live attempt.
    pub work: Work,
    /// The agent that has the attempt.
    pub agent: AgentId,
    /// The comment that is to be sent to it.
    pub follow_up: FollowUp,
}

/// An attempt, for histories.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AttemptRecord {
    /// Its number.
    pub number: AttemptNumber,
    /// Who had it.
    pub agent: AgentId,
    /// When it was assigned.
    pub assigned_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// How it ended: an outcome's word, `refused`, `lost`, `cancelled`.
    pub outcome: Option<String>,
    /// How it failed, if it did.
    pub failure: Option<Failure>,
    /// The tests, as the outcome told them.
    pub tests_before: Option<patchfleet_domain::TestVerdict>,
    /// The tests after the change.
    pub tests_after: Option<patchfleet_domain::TestVerdict>,
}
