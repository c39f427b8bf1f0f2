//! A task: one unit of work with one owner repository.

use serde::{Deserialize, Serialize};

use crate::analysis::TaskAnalysis;
use crate::id::TaskId;
use crate::outcome::PullRequestRef;
use crate::priority::Priority;
use crate::repository::{IssueNumber, RepositoryName};
use crate::returns::Returns;
use crate::spending::Spent;
use crate::state::{TaskState, WaitReason, words};
use crate::{AttemptNumber, Timestamp};

words! {
    /// What sort of work a task is.
    TaskKind: "task kind" {
        /// An issue becomes a pull request.
        Issue = "issue",
        /// A follow-up on a pull request.
        Revision = "revision",
        /// A delegated prompt; no pull request.
        Prompt = "prompt",
        /// A step of a workflow.
        WorkflowStep = "workflow_step",
        /// A question; an answer, no patch.
        Support = "support",
    }
}

impl TaskKind {
    /// True for kinds whose result is a pull request.
    pub const fn has_pull_request(self) -> bool {
        match self {
            Self::Issue | Self::Revision => true,
            Self::Prompt | Self::WorkflowStep | Self::Support => false,
        }
    }
}

/// What is asked for, frozen at the moment of the trigger. Later edits of the issue by an
/// outsider do not change it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TaskRequest {
    /// The issue's title.
    pub title: String,
    /// The issue's text.
    pub body: String,
    /// The issue's labels.
    pub labels: Vec<String>,
    /// Who wrote the issue.
    pub author: String,
    /// Who triggered the task.
    pub triggered_by: String,
    /// Where git clones from.
    pub clone_url: String,
    /// The branch that the pull request goes into.
    pub default_branch: String,
    /// The agent type that the trigger named, if any.
    pub agent_type: Option<crate::AgentType>,
}

/// A task as the store keeps it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Task {
    /// Its id.
    pub id: TaskId,
    /// What sort of work.
    pub kind: TaskKind,
    /// Where it stands.
    pub state: TaskState,
    /// Why it waits, while `waiting`.
    pub wait_reason: Option<WaitReason>,
    /// The number of the newest attempt; 0 before the first.
    pub attempt: AttemptNumber,
    /// How many attempts were begun and did not succeed.
    pub failures: u32,
    /// How many such attempts the task may have.
    pub max_attempts: u32,
    /// How soon it is wanted.
    pub priority: Priority,
    /// The owner repository.
    pub repository: RepositoryName,
    /// The issue.
    pub issue: Option<IssueNumber>,
    /// The branch that carries the change, `patchfleet/<issue>-<slug>`.
    pub branch: String,
    /// What is asked for.
    pub request: TaskRequest,
    /// What was found out; absent before `queued`.
    pub analysis: Option<TaskAnalysis>,
    /// The pull request, once there is one.
    pub pull_request: Option<PullRequestRef>,
    /// Why it failed, for people.
    pub failure: Option<crate::outcome::Failure>,
    /// The summary of the last successful attempt, Markdown.
    pub summary: Option<String>,
    /// Assignments that came back without work since it last made progress.
    #[serde(default, skip_serializing_if = "Returns::is_empty")]
    pub returns: Returns,
    /// What models have cost it.
    #[serde(default, skip_serializing_if = "Spent::is_nothing")]
    pub spent: Spent,
    /// The W3C `traceparent` of what took it in, where that was traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
    /// When it was taken in.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

/// Branch name for an issue: `patchfleet/<issue>-<slug>`; the slug is the title in lower-case
/// words, at most 40 characters.
pub fn branch_name(issue: IssueNumber, title: &str) -> String {
    let mut slug = String::new();
    for word in title
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
    {
        if slug.len() + word.len() + 1 > 40 {
            break;
        }
        if !slug.is_empty() {
            slug.push('-');
        }
        slug.push_str(&word.to_ascii_lowercase());
    }
    if slug.is_empty() {
        slug.push_str("change");
    }
    format!("patchfleet/{issue}-{slug}")
}

/// The hidden mark of what GitHub shows of a task: its status comment and its pull request.
pub fn task_mark(task: TaskId) -> String {
    format!("<!-- patchfleet:task:{task} -->")
}

/// The issue of a branch that [`branch_name`] made.
pub fn branch_issue(branch: &str) -> Option<IssueNumber> {
    let (issue, _) = branch.strip_prefix("patchfleet/")?.split_once('-')?;
    issue.parse().ok().map(IssueNumber)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn branch_names_are_short_and_plain() {
        let name = |title: &str| branch_name(IssueNumber(12), title);
        assert_eq!(
            name("Totals are wrong: VAT & rounding!"),
            "patchfleet/12-totals-are-wrong-vat-rounding"
        );
        assert_eq!(name("日本語"), "patchfleet/12-change");
        assert_eq!(branch_issue(&name("日本語")), Some(IssueNumber(12)));
        assert_eq!(branch_issue("main"), None);
        assert_eq!(name(&"x".repeat(300)), "patchfleet/12-change");
        assert!(name(&"word ".repeat(60)).len() <= "patchfleet/12-".len() + 40);
    }
}
