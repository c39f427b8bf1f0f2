//! A repository's account data.

use patchfleet_domain::{RepositoryName, Timestamp};
use serde::Deserialize;

use crate::GitHubResult;
use crate::ask::Ask;
use crate::client::GitHub;

/// A repository, as far as it is of interest.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Repository {
    /// Unique over all of GitHub; it stays when the name changes.
    pub id: u64,
    /// Its full name now; asked for by an old name, GitHub answers with the present one.
    #[serde(rename = "full_name")]
    pub name: RepositoryName,
    /// The branch that pull requests go into.
    pub default_branch: String,
    /// Where git clones from.
    pub clone_url: String,
    /// Not for everybody's eyes.
    pub private: bool,
}

/// A repository as lists show it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedRepository {
    /// Its full name.
    pub name: RepositoryName,
    /// How many issues and pull requests are open.
    pub open_issues: u64,
}

#[derive(Debug, Deserialize)]
struct Listed {
    full_name: RepositoryName,
    #[serde(default)]
    archived: bool,
    #[serde(default)]
    disabled: bool,
    open_issues_count: u64,
    permissions: Option<Permissions>,
}

#[derive(Debug, Deserialize)]
struct Permissions {
    push: bool,
}

#[derive(Debug, Deserialize)]
struct OfInstallation {
    repositories: Vec<Listed>,
}

#[derive(Debug, Deserialize)]
struct Installation {
    id: u64,
    suspended_at: Option<Timestamp>,
}

impl Listed {
    /// One that can be worked in.
    fn usable(self) -> Option<ListedRepository> {
        let usable = !self.archived && !self.disabled;
        usable.then_some(ListedRepository {
            name: self.full_name,
            open_issues: self.open_issues_count,
        })
    }
}

impl GitHub {
    /// The repositories that an App is installed on, or that a token may push to; none that is
    /// archived. An installation that can't be asked is left out.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn repositories(&self) -> GitHubResult<Vec<ListedRepository>> {
        if self.is_personal() {
            let all: Vec<Listed> = self
                .all_as(&self.own(), &["user", "repos"], |it| it)
                .await?;
            let mine = |one: &Listed| one.permissions.as_ref().is_some_and(|it| it.push);
            let mine = all.into_iter().filter(mine);
            return Ok(mine.filter_map(Listed::usable).collect());
        }
        let path = ["app", "installations"];
        let installations: Vec<Installation> = self.all_as(&self.own(), &path, |it| it).await?;
        let mut repositories = Vec::new();
        for installation in installations {
            if installation.suspended_at.is_some() {
                continue;
            }
            match self.repositories_of(installation.id).await {
                Ok(found) => repositories.extend(found),
                Err(error) => {
                    tracing::warn!(installation = installation.id, %error, "its repositories can't be listed");
                }
            }
        }
        Ok(repositories)
    }

    async fn repositories_of(&self, installation: u64) -> GitHubResult<Vec<ListedRepository>> {
        let known = self.installation(installation)?;
        let path = ["installation", "repositories"];
        let items = |page: OfInstallation| page.repositories;
        let all = self.all_as(&known.caller(), &path, items).await?;
        let usable: Vec<_> = all.into_iter().filter_map(Listed::usable).collect();
        for one in &usable {
            self.shared.installations.keep(&one.name, known.clone());
        }
        Ok(usable)
    }

    /// A repository.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn repository(&self, repository: &RepositoryName) -> GitHubResult<Repository> {
        let path = ["repos", repository.owner(), repository.name()];
        self.ask(repository, &Ask::get(&path)).await
    }
}
