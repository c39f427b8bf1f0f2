//! Comments on issues and pull requests.

use chrono::SecondsFormat;
use patchfleet_domain::{IssueNumber, RepositoryName, Timestamp};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::GitHubResult;
use crate::ask::Ask;
use crate::client::GitHub;
use crate::issue::{Account, login};

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Comment {
    /// Its id.
    pub id: u64,
    /// Login of who wrote it.
    pub user: String,
    /// Its text, Markdown.
    pub body: String,
}

#[derive(Debug, Deserialize)]
struct Answer {
    id: u64,
    user: Option<Account>,
    body: Option<String>,
}

impl From<Answer> for Comment {
    fn from(answer: Answer) -> Self {
        Self {
            id: answer.id,
            user: login(answer.user),
            body: answer.body.unwrap_or_default(),
        }
    }
}

impl GitHub {
    /// The comments on an issue that were written or changed since, oldest first; all of them when
    /// no moment is given.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn comments(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
        since: Option<Timestamp>,
    ) -> GitHubResult<Vec<Comment>> {
        let number = issue.to_string();
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "issues",
            &number,
            "comments",
        ];
        let since = since.map(|at| at.to_rfc3339_opts(SecondsFormat::Secs, true));
        let query = since.as_deref().map(|since| ("since", since));
        let answers: Vec<Answer> = self.ask_all(repository, &path, query.as_slice()).await?;
        Ok(answers.into_iter().map(Comment::from).collect())
    }

    /// Comments and returns the comment's id. After [`crate::GitHubError::Unavailable`] the
    /// comment may be there: look before calling again.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn create_comment(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
        body: &str,
    ) -> GitHubResult<u64> {
        let number = issue.to_string();
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "issues",
            &number,
            "comments",
        ];
        let ask = Ask::post(&path, json!({ "body": body })).never_again();
        Ok(self.ask::<Answer>(repository, &ask).await?.id)
    }

    /// Changes a comment's text.
    ///
    /// # Errors
    /// [`crate::GitHubError::NotFound`] when somebody deleted it.
    pub async fn update_comment(
        &self,
        repository: &RepositoryName,
        comment: u64,
        body: &str,
    ) -> GitHubResult<()> {
        let id = comment.to_string();
        let (owner, name) = (repository.owner(), repository.name());
        let path = ["repos", owner, name, "issues", "comments", &id];
        let ask = Ask::patch(&path, json!({ "body": body }));
        self.ask::<IgnoredAny>(repository, &ask).await.map(drop)
    }
}
