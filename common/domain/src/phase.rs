//! The phases that an agent reports while it works.

use crate::state::{TaskState, words};

words! {
    /// What an agent is doing, as progress messages and timelines name it.
    Phase: "phase", unknown Unknown {
        /// Mirror and checkout.
        Workspace = "workspace",
        /// The repository is inspected.
        Analyze = "analyze",
        /// A change is drafted.
        Generate = "generate",
        /// The draft is applied.
        Apply = "apply",
        /// The tests run.
        Test = "test",
        /// The change is reviewed.
        Review = "review",
        /// Commit, push and pull request.
        Publish = "publish",
        /// The summary is written.
        Report = "report",
        /// A phase of a newer version.
        Unknown = "unknown",
    }
}

impl Phase {
    /// The state that a task in this phase is in; `None` when it stays in the one it has.
    ///
    /// `testing` lasts from the first test of a round until the round is published or drafted
    /// again, because the table of transitions leads to `review` from `testing` only.
    pub const fn task_state(self) -> Option<TaskState> {
        match self {
            Self::Workspace | Self::Analyze | Self::Generate | Self::Apply => {
                Some(TaskState::InProgress)
            }
            Self::Test | Self::Review | Self::Publish | Self::Report => Some(TaskState::Testing),
            Self::Unknown => None,
        }
    }
}
