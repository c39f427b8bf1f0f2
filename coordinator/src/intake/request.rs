//! The request, frozen: what the issue said at the moment of the trigger.

use patchfleet_domain::task::branch_name;
use patchfleet_domain::{AgentType, Priority, TaskId, TaskKind, TaskRequest};
use patchfleet_guard::{Stripped, strip_hidden_markdown, strip_invisible};
use patchfleet_telemetry::trace;
use tracing::Span;

use super::IntakePolicy;
use crate::store::{NewTask, SemanticKey};
use crate::webhook::event::{Issue, Repository};

/// A trigger that counts.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    pub(super) issue: &'a Issue,
    pub(super) repository: &'a Repository,
    pub(super) sender: &'a str,
    pub(super) key: SemanticKey,
}

impl Asked<'_> {
    /// The task that the trigger asks for.
    pub(super) fn task(self, policy: &IntakePolicy) -> NewTask {
        let issue = self.issue;
        let request = TaskRequest {
            title: visible(issue, plain(&issue.title)),
            body: visible(issue, strip_hidden_markdown(&issue.body)),
            labels: issue.labels.clone(),
            author: issue.author.clone(),
            triggered_by: self.sender.to_owned(),
            clone_url: self.repository.clone_url.clone(),
            default_branch: self.repository.default_branch.clone(),
            agent_type: None,
        };
        NewTask {
            id: TaskId::new(),
            kind: TaskKind::Issue,
            repository: self.repository.name.clone(),
            issue: Some(issue.number),
            key: self.key,
            branch: branch_name(issue.number, &request.title),
            priority: Priority::default(),
            request,
            max_attempts: policy.max_attempts,
            traceparent: trace::traceparent(&Span::current()),
        }
    }

    /// The task with what a command said of it.
    pub(super) fn task_with(
        self,
        policy: &IntakePolicy,
        agent: Option<AgentType>,
        priority: Option<Priority>,
    ) -> NewTask {
        let mut task = self.task(policy);
        task.request.agent_type = agent;
        task.priority = priority.unwrap_or_default();
        task
    }
}

/// A title is no Markdown: what looks like a comment in it is shown.
fn plain(title: &str) -> Stripped {
    let (text, invisible) = strip_invisible(title);
    Stripped {
        text,
        comments: 0,
        invisible,
    }
}

/// What a person sees of the text; what they don't see is not what they asked for.
fn visible(issue: &Issue, stripped: Stripped) -> String {
    if stripped.comments > 0 || stripped.invisible > 0 {
        let (comments, invisible) = (stripped.comments, stripped.invisible);
        tracing::info!(issue = %issue.number, comments, invisible, "hidden text was taken out");
    }
    stripped.text.trim().to_owned()
}
