//! Follow-ups: what people add to a task after it was asked for.

use serde::{Deserialize, Serialize};

/// A comment by somebody who may steer tasks, written after the task was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FollowUp {
    /// GitHub's id of the comment, by which it counts once.
    pub comment: u64,
    /// Login of who wrote it.
    pub author: String,
    /// What it says, as Markdown.
    pub text: String,
}
