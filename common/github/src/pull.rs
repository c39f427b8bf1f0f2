//! Pull requests, one call each. That none is ever doubled is `ensure`'s.

use std::collections::BTreeSet;

use patchfleet_domain::RepositoryName;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::ask::Ask;
use crate::client::GitHub;
use crate::issue::OpenState;
use crate::{GitHubError, GitHubResult};

/// A pull request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PullRequest {
    /// Its number.
    pub number: u64,
    /// Where people see it.
    pub url: String,
    /// Its title.
    pub title: String,
    /// Its text; empty when it has none.
    pub body: String,
    /// Open or closed.
    pub state: OpenState,
    /// Not ready for review.
    pub draft: bool,
    /// Merged.
    pub merged: bool,
    /// The branch with the change.
    pub head: String,
    /// The commit at its head.
    pub head_sha: String,
    /// The branch it goes into.
    pub base: String,
}

/// A pull request to be opened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct NewPullRequest {
    /// Its title.
    pub title: String,
    /// Its text, Markdown.
    pub body: String,
    /// The branch with the change, in the same repository.
    pub head: String,
    /// The branch it goes into.
    pub base: String,
    /// Not ready for review.
    pub draft: bool,
}

/// What to change of a pull request; what is `None` stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PullRequestEdit {
    /// The title.
    pub title: Option<String>,
    /// The text.
    pub body: Option<String>,
    /// Open or closed.
    pub state: Option<OpenState>,
}

#[derive(Debug, Deserialize)]
struct Head {
    r#ref: String,
    sha: String,
    /// Absent when the fork is gone.
    repo: Option<HeadRepository>,
}

#[derive(Debug, Deserialize)]
struct HeadRepository {
    id: u64,
}

#[derive(Debug, Deserialize)]
struct Base {
    r#ref: String,
    repo: HeadRepository,
}

#[derive(Debug, Deserialize)]
struct Answer {
    number: u64,
    html_url: String,
    title: String,
    body: Option<String>,
    state: OpenState,
    #[serde(default)]
    draft: bool,
    merged_at: Option<String>,
    head: Head,
    base: Base,
}

impl Answer {
    /// GitHub ignores a filter that it does not understand, so look again. By ids: the repository may
    /// have another name by now.
    fn is_from(&self, branch: &str) -> bool {
        let here = |repo: &HeadRepository| repo.id == self.base.repo.id;
        self.head.repo.as_ref().is_none_or(here) && self.head.r#ref == branch
    }
}

impl From<Answer> for PullRequest {
    fn from(answer: Answer) -> Self {
        Self {
            number: answer.number,
            url: answer.html_url,
            title: answer.title,
            body: answer.body.unwrap_or_default(),
            state: answer.state,
            draft: answer.draft,
            merged: answer.merged_at.is_some(),
            head: answer.head.r#ref,
            head_sha: answer.head.sha,
            base: answer.base.r#ref,
        }
    }
}

impl GitHub {
    /// A pull request.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn pull_request(
        &self,
        repository: &RepositoryName,
        number: u64,
    ) -> GitHubResult<PullRequest> {
        let number = number.to_string();
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "pulls",
            &number,
        ];
        let answer: Answer = self.ask(repository, &Ask::get(&path)).await?;
        Ok(answer.into())
    }

    /// The numbers of all open pull requests.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn open_pull_requests(
        &self,
        repository: &RepositoryName,
    ) -> GitHubResult<BTreeSet<u64>> {
        let path = ["repos", repository.owner(), repository.name(), "pulls"];
        let query = [("state", "open")];
        let answers: Vec<Answer> = self.ask_all(repository, &path, &query).await?;
        Ok(answers.into_iter().map(|answer| answer.number).collect())
    }

    /// The newest pull requests of a branch, newest first, at most 100. Several tasks of one issue
    /// may have used the branch.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn pull_requests_of(
        &self,
        repository: &RepositoryName,
        branch: &str,
    ) -> GitHubResult<Vec<PullRequest>> {
        let (owner, name) = (repository.owner(), repository.name());
        let head = format!("{owner}:{branch}");
        let query = [
            ("head", head.as_str()),
            ("state", "all"),
            ("per_page", "100"),
        ];
        let ask = Ask::get(&["repos", owner, name, "pulls"]).query(&query);
        let answers: Vec<Answer> = self.ask(repository, &ask).await?;
        let of_branch = answers.into_iter();
        let of_branch = of_branch.filter(|answer| answer.is_from(branch));
        Ok(of_branch.map(PullRequest::from).collect())
    }

    /// Opens a pull request. After [`GitHubError::Unavailable`] it may be there: look before
    /// calling again, or use [`GitHub::ensure_pull_request`].
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn create_pull_request(
        &self,
        repository: &RepositoryName,
        new: &NewPullRequest,
    ) -> GitHubResult<PullRequest> {
        let body = serde_json::to_value(new)
            .map_err(|error| GitHubError::unexpected(error.to_string()))?;
        let path = ["repos", repository.owner(), repository.name(), "pulls"];
        let ask = Ask::post(&path, body).never_again();
        let answer: Answer = self.ask(repository, &ask).await?;
        Ok(answer.into())
    }

    /// Changes a pull request.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn update_pull_request(
        &self,
        repository: &RepositoryName,
        number: u64,
        edit: &PullRequestEdit,
    ) -> GitHubResult<PullRequest> {
        let mut body = json!({});
        if let Some(title) = &edit.title {
            body["title"] = json!(title);
        }
        if let Some(text) = &edit.body {
            body["body"] = json!(text);
        }
        if let Some(state) = edit.state {
            body["state"] = json!(match state {
                OpenState::Open => "open",
                OpenState::Closed => "closed",
            });
        }
        let number = number.to_string();
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "pulls",
            &number,
        ];
        let answer: Answer = self.ask(repository, &Ask::patch(&path, body)).await?;
        Ok(answer.into())
    }
}
