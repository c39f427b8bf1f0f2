//! Labels on issues.

use patchfleet_domain::{IssueNumber, RepositoryName};
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;

use crate::ask::Ask;
use crate::client::GitHub;
use crate::{GitHubError, GitHubResult};

#[derive(Debug, Deserialize)]
pub(crate) struct Label {
    name: String,
}

pub(crate) fn names(labels: Vec<Label>) -> Vec<String> {
    labels.into_iter().map(|label| label.name).collect()
}

impl GitHub {
    /// The names of the labels on an issue.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn labels(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
    ) -> GitHubResult<Vec<String>> {
        let number = issue.to_string();
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "issues",
            &number,
            "labels",
        ];
        Ok(names(self.ask_all(repository, &path, &[]).await?))
    }

    /// Puts labels on an issue and returns the names of all that are there then; those that are there
    /// stay, unknown ones are created.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn add_labels(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
        labels: &[&str],
    ) -> GitHubResult<Vec<String>> {
        let number = issue.to_string();
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "issues",
            &number,
            "labels",
        ];
        let ask = Ask::post(&path, json!({ "labels": labels }));
        Ok(names(self.ask(repository, &ask).await?))
    }

    /// Takes a label off an issue; one that is not there is no error.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn remove_label(
        &self,
        repository: &RepositoryName,
        issue: IssueNumber,
        label: &str,
    ) -> GitHubResult<()> {
        let number = issue.to_string();
        let (owner, name) = (repository.owner(), repository.name());
        let path = ["repos", owner, name, "issues", &number, "labels", label];
        match self
            .ask::<IgnoredAny>(repository, &Ask::delete(&path))
            .await
        {
            Ok(_) | Err(GitHubError::NotFound) => Ok(()),
            Err(error) => Err(error),
        }
    }
}
