//! A repository's account data.

use patchfleet_domain::RepositoryName;
use serde::Deserialize;

use crate::GitHubResult;
use crate::ask::Ask;
use crate::client::GitHub;

/// A repository, as far as it is of interest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Repository {
    /// The branch that pull requests go into.
    pub default_branch: String,
    /// Where git clones from.
    pub clone_url: String,
    /// Not for everybody's eyes.
    pub private: bool,
}

impl GitHub {
    /// A repository.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn repository(&self, repository: &RepositoryName) -> GitHubResult<Repository> {
        let path = ["repos", repository.owner(), repository.name()];
        self.ask(repository, &Ask::get(&path)).await
    }
}
