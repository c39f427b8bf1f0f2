//! The nodes of the coding flow, and the flow itself.
//!
//! A node reads the context and the workspace, and gives what is to be merged into the context.
//! What the next node needs stands in the context, never only on disk: a checkpoint that is
//! replayed on another host has to be enough. Errors carry a word of
//! [`FailureKind`](patchfleet_domain::FailureKind) as their code.

mod context;
mod draft;
mod ending;
mod finding;
mod inspect;
mod log;
mod patch;
mod publish;
mod review;
mod route;
mod summarize;
mod summary;
mod test;
mod traced;
mod unfinished;

pub(crate) use patch::properties as patch_properties;
use std::sync::Arc;
pub(crate) use test::properties as test_properties;

use patchfleet_domain::{AgentType, IssueNumber, RepositoryName, Work};
use patchfleet_flow::{Flow, Registry};
use patchfleet_repository::RepositoryConfig;

pub use ending::{failure, outcome, pinned_base};
pub use finding::{Finding, Source};
pub use log::{DroppedLines, TaskLog};
pub use patch::{ChangeConfig, PatchedFile, Rejection, Status};
pub(crate) use patch::{encoding, hostile, path_refusal};
pub use publish::{Publishing, PullRequestDraft, PullRequests};
pub(crate) use test::TestRun;
pub use test::{TestPart, TestPolicy, TestResults};
pub(crate) use unfinished::publish_unfinished;

use self::traced::Traced;
use crate::draft::Drafter;
use crate::follow_ups::FollowUps;
use crate::model::Budgets;
use crate::second_models::Reviewer;
use crate::second_models::Summarizer;
use crate::workspace::Workspace;

/// The flow that turns an issue into a tested pull request.
const CODING_FLOW: &str = include_str!("../flows/coding.yaml");

/// What is known of a task when its work begins. Frozen: it does not change with the issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskFacts {
    /// Task and attempt.
    pub work: Work,
    /// The owner repository.
    pub repository: RepositoryName,
    /// The issue.
    pub issue: Option<IssueNumber>,
    /// What is asked for, in a line.
    pub title: String,
    /// What is asked for, at length.
    pub body: String,
    /// The branch that the pull request goes into.
    pub default_branch: String,
    /// The branch that carries the change.
    pub branch: String,
    /// Files that the request names.
    pub target_files: Vec<String>,
}

/// All that the nodes of one attempt work with.
pub struct NodeDeps {
    /// The task.
    pub task: TaskFacts,
    /// Where it is worked on.
    pub workspace: Workspace,
    /// What this agent is for.
    pub agent_type: AgentType,
    /// How Patchfleet works on this repository; see [`Workspace::configuration`].
    pub config: RepositoryConfig,
    /// Where drafts come from.
    pub drafter: Drafter,
    /// How much they may change.
    pub change: ChangeConfig,
    /// How tests are run.
    pub tests: TestPolicy,
    /// How the result gets to GitHub.
    pub publishing: Publishing,
    /// Comments of people that come while a model works.
    pub follow_ups: FollowUps,
    /// A second model that reviews what the rules let pass.
    pub reviewer: Option<Reviewer>,
    /// A second model that puts changes into words.
    pub summarizer: Option<Summarizer>,
    /// Allows the calls of a model.
    pub budgets: Budgets,
    /// Where output goes, line by line.
    pub log: TaskLog,
}

/// The coding flow.
///
/// # Panics
/// Never: the flow is part of the program, and a test reads it.
pub fn coding_flow() -> Flow {
    Flow::parse(CODING_FLOW).expect("the embedded flow is checked by a test")
}

impl NodeDeps {
    /// What the nodes of one run share; lines of its log also go to the task's own.
    pub fn shared(self) -> Arc<Self> {
        let logs = self.workspace.logs.clone();
        let log = self.log.also_in(logs, self.task.work);
        Arc::new(Self { log, ..self })
    }
}

/// The kinds of nodes that the coding flow uses.
pub fn registry(deps: &Arc<NodeDeps>) -> Registry {
    let draft = Traced::node(draft::Draft(Arc::clone(deps)));
    let test = Traced::node(test::Test(Arc::clone(deps)));
    let publish = Traced::node(publish::Publish(Arc::clone(deps)));
    Registry::new()
        .with("inspect", Traced::node(inspect::Inspect(Arc::clone(deps))))
        .with("draft", Traced::stage("code_generation", draft))
        .with("patch", Traced::node(patch::Patch(Arc::clone(deps))))
        .with("test", Traced::stage("testing", test))
        .with("review", Traced::node(review::Review(Arc::clone(deps))))
        .with("route", Traced::node(route::Route))
        .with("publish", Traced::stage("git_operations", publish))
        .with(
            "summarize",
            Traced::node(summarize::Summarize(Arc::clone(deps))),
        )
}

#[cfg(test)]
pub(crate) mod tests;
