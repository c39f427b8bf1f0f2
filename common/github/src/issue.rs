//! Issues, to read.

use patchfleet_domain::{IssueNumber, RepositoryName};
use serde::Deserialize;

use crate::GitHubResult;
use crate::ask::Ask;
use crate::client::GitHub;
use crate::label::{Label, names};

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
    /// Its title.
    pub title: String,
    /// Its text; empty when it has none.
    pub body: String,
    /// Its labels' names.
    pub labels: Vec<String>,
    /// Login of who wrote it; `ghost` when the account is gone.
    pub user: String,
    /// Open or closed.
    pub state: OpenState,
    /// It is a pull request.
    pub is_pull_request: bool,
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
    title: String,
    body: Option<String>,
    labels: Vec<Label>,
    user: Option<Account>,
    state: OpenState,
    pull_request: Option<serde_json::Value>,
}

impl GitHub {
    /// An issue.
    ///
    /// # Errors
    /// What GitHub answers.
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
        Ok(Issue {
            title: answer.title,
            body: answer.body.unwrap_or_default(),
            labels: names(answer.labels),
            user: login(answer.user),
            state: answer.state,
            is_pull_request: answer.pull_request.is_some(),
        })
    }
}
