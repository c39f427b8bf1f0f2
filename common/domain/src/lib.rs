//! What Patchfleet speaks about: ids, tasks, attempts, agents and how they may change.
//!
//! Pure: no I/O, no clock, no randomness but the making of ids. Wire and row types live
//! elsewhere and are converted at their edge.

pub mod agent;
pub mod analysis;
pub mod follow_up;
pub mod id;
pub mod outcome;
pub mod phase;
pub mod priority;
pub mod report;
pub mod repository;
pub mod returns;
pub mod spending;
pub mod state;
pub mod task;
pub mod work;

pub use agent::{Agent, AgentState, AgentType, Capability, SecurityLevel};
pub use analysis::{Complexity, FailurePolicy, TaskAnalysis};
pub use follow_up::FollowUp;
pub use id::{AgentId, SessionId, TaskId};
pub use outcome::{FailureKind, Outcome, PullRequestRef, TestVerdict};
pub use phase::Phase;
pub use priority::Priority;
pub use report::{Checkpoint, Report, Usage, WorkEvent};
pub use repository::{IssueNumber, RepositoryName, is_same_label};
pub use returns::{Returned, Returns};
pub use spending::{BudgetScope, Budgets, Exceeded, Limit, Money, Reservation, Reserved, Spent};
pub use state::{TaskState, TransitionError, WaitReason};
pub use task::{Task, TaskKind, TaskRequest};
pub use work::{AttemptNumber, Work};

/// A moment, in UTC.
pub type Timestamp = chrono::DateTime<chrono::Utc>;
