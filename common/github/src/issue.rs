//! Issues, to read.

use patchfleet_domain::{IssueNumber, RepositoryName, Timestamp};
use serde::Deserialize;

use crate::ask::Ask;
use crate::client::GitHub;
use crate::label::{Label, names};
use crate::{GitHubError, GitHubResult};

/// Open or closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OpenState {
    /// Still to be done.
    Open,
    /// Done, refused or merged.
    Closed,
}

/// An issue or, as GitHub has it, a pull request's issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Unique over all of GitHub.
    pub id: u64,
    /// Its number in the repository.
    pub number: IssueNumber,
    /// Its title.
    pub title: String,
    /// Its text; empty when it has none.
    pub body: String,
    /// Its labels' names.
    pub labels: Vec<String>,
    /// Logins of those it is assigned to.
    pub assignees: Vec<String>,
    /// Login of who wrote it; `ghost` when the account is gone.
    pub user: String,
    /// Open or closed.
    pub state: OpenState,
    /// It is a pull request.
    pub is_pull_request: bool,
    /// When it was opened.
    pub created_at: Timestamp,
    /// When anything about it last changed.
    pub updated_at: Timestamp,
    /// Login of who closed it; lists don't tell.
    pub closed_by: Option<String>,
    /// When it was closed, if it is.
    pub closed_at: Option<Timestamp>,
    /// It was closed without having been done: as not planned, as a duplicate, or as a pull request that
    /// was not merged.
    pub is_given_up: bool,
}

/// Something that was done to an issue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IssueEvent {
    /// Unique over all of GitHub.
    pub id: u64,
    /// What was done: `labeled`, `assigned`, `closed` and many more.
    pub event: String,
    /// Login of who did it; `ghost` when the account is gone.
    pub actor: String,
    /// The label that it is about.
    pub label: Option<String>,
    /// Login of the account that it is about.
    pub assignee: Option<String>,
    /// When.
    pub created_at: Timestamp,
}

/// Which issues of a repository to list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenIssues<'a> {
    /// Those with a label.
    Labelled(&'a str),
    /// Those that are assigned to a login.
    AssignedTo(&'a str),
}

#[derive(Debug, Deserialize)]
pub(crate) struct Account {
    pub(crate) login: String,
}

/// Login of an account that may be gone.
pub(crate) fn login(account: Option<Account>) -> String {
    account.map_or_else(|| "ghost".to_owned(), |account| account.login)
}

#[derive(Debug, Deserialize)]
struct Answer {
    id: u64,
    number: IssueNumber,
    title: String,
    body: Option<String>,
    labels: Vec<Label>,
    #[serde(default)]
    assignees: Vec<Option<Account>>,
    user: Option<Account>,
    state: OpenState,
    pull_request: Option<PullRequestPart>,
    #[serde(default)]
    state_reason: Option<String>,
    created_at: Timestamp,
    updated_at: Timestamp,
    closed_by: Option<Account>,
    closed_at: Option<Timestamp>,
    #[serde(default)]
    repository_url: String,
}

#[derive(Debug, Deserialize)]
struct PullRequestPart {
    #[serde(default)]
    merged_at: Option<Timestamp>,
}

impl Answer {
    /// True when it is of that repository, as far as the answer shows.
    fn is_in(&self, repository: &RepositoryName) -> bool {
        let mut parts = self.repository_url.rsplit('/');
        match (parts.next(), parts.next()) {
            (Some(name), Some(owner)) => repository
                .as_str()
                .eq_ignore_ascii_case(&format!("{owner}/{name}")),
            _ => true,
        }
    }

    fn is_given_up(&self) -> bool {
        let reason = self.state_reason.as_deref();
        let unwanted = matches!(reason, Some("not_planned" | "duplicate"));
        let unmerged = |part: &PullRequestPart| part.merged_at.is_none();
        self.state == OpenState::Closed
            && (unwanted || self.pull_request.as_ref().is_some_and(unmerged))
    }
}

#[derive(Debug, Deserialize)]
struct EventAnswer {
    id: u64,
    event: String,
    actor: Option<Account>,
    label: Option<Label>,
    assignee: Option<Account>,
    /// Who assigned; `actor` may be who was assigned.
    assigner: Option<Account>,
    created_at: Timestamp,
}

impl From<Answer> for Issue {
    fn from(answer: Answer) -> Self {
        let is_given_up = answer.is_given_up();
        let assignees = answer.assignees.into_iter().flatten();
        Self {
            id: answer.id,
            number: answer.number,
            title: answer.title,
            body: answer.body.unwrap_or_default(),
            labels: names(answer.labels),
            assignees: assignees.map(|account| account.login).collect(),
            user: login(answer.user),
            state: answer.state,
            is_pull_request: answer.pull_request.is_some(),
            created_at: answer.created_at,
            updated_at: answer.updated_at,
            closed_by: answer.closed_by.map(|account| account.login),
            closed_at: answer.closed_at,
            is_given_up,
        }
    }
}

impl From<EventAnswer> for IssueEvent {
    fn from(answer: EventAnswer) -> Self {
        Self {
            id: answer.id,
            event: answer.event,
            actor: login(answer.assigner.or(answer.actor)),
            label: answer.label.and_then(|label| names(vec![label]).pop()),
            assignee: answer.assignee.map(|account| account.login),
            created_at: answer.created_at,
        }
    }
}

impl GitHub {
    /// An issue.
    ///
    /// # Errors
    /// [`GitHubError::NotFound`] when there is none, or when it was moved to another repository: GitHub
    /// leads there, where it has another number. What else GitHub answers.
    pub async fn issue(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
    ) -> GitHubResult<Issue> {
        let number = issue.to_string();
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "issues",
            &number,
        ];
        let answer: Answer = self.ask(repository, &Ask::get(&path)).await?;
        if answer.number != issue {
            return Err(GitHubError::NotFound);
        }
        if !answer.is_in(repository) {
            // Moved to another repository under the same number, or its repository has another name.
            let present = self.repository(repository).await?;
            if !answer.is_in(&present.name) {
                return Err(GitHubError::NotFound);
            }
        }
        Ok(answer.into())
    }

    /// Issues that are open, and pull requests among them.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn open_issues(
        &self,
        repository: &RepositoryName,
        which: OpenIssues<'_>,
    ) -> GitHubResult<Vec<Issue>> {
        let path = ["repos", repository.owner(), repository.name(), "issues"];
        let only = match which {
            OpenIssues::Labelled(label) => ("labels", label),
            OpenIssues::AssignedTo(login) => ("assignee", login),
        };
        let query = [("state", "open"), only];
        let answers: Vec<Answer> = self.ask_all(repository, &path, &query).await?;
        Ok(answers.into_iter().map(Issue::from).collect())
    }

    /// What was done to an issue, oldest first.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn issue_events(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
    ) -> GitHubResult<Vec<IssueEvent>> {
        let (owner, name, number) = (repository.owner(), repository.name(), issue.to_string());
        let path = ["repos", owner, name, "issues", &number, "events"];
        let answers: Vec<EventAnswer> = self.ask_all(repository, &path, &[]).await?;
        Ok(answers.into_iter().map(IssueEvent::from).collect())
    }
}
