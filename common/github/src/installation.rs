//! An App acts through its installations: which one a repository belongs to, and its client.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use octocrab::Octocrab;
use octocrab::models::InstallationId;
use patchfleet_domain::RepositoryName;
use serde::Deserialize;

use crate::ask::Ask;
use crate::budget::Spender;
use crate::client::{Caller, GitHub};
use crate::credentials::Credentials;
use crate::{GitHubError, GitHubResult};

/// What GitHub says of an installation, as far as it is of interest.
#[derive(Debug, Deserialize)]
struct Installation {
    id: u64,
}

#[derive(Clone)]
pub(crate) struct Known {
    id: u64,
    client: Arc<Octocrab>,
}

impl Known {
    pub(crate) fn caller(&self) -> Caller {
        Caller {
            octocrab: Arc::clone(&self.client),
            spender: Spender::Installation(self.id),
        }
    }
}

/// The installations that were looked up so far.
#[derive(Default)]
pub(crate) struct Installations {
    known: Mutex<HashMap<RepositoryName, Known>>,
}

impl Installations {
    pub(crate) fn forget(&self, repository: &RepositoryName) {
        self.lock().remove(repository);
    }

    fn get(&self, repository: &RepositoryName) -> Option<Known> {
        self.lock().get(repository).cloned()
    }

    fn of_id(&self, id: u64) -> Option<Known> {
        self.lock().values().find(|one| one.id == id).cloned()
    }

    /// Keeps what was found; repositories of one installation share its token.
    pub(crate) fn keep(&self, repository: &RepositoryName, found: Known) -> Known {
        let mut known = self.lock();
        let same = known.values().find(|one| one.id == found.id).cloned();
        let kept = same.unwrap_or(found);
        known.insert(repository.clone(), kept.clone());
        kept
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<RepositoryName, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl GitHub {
    /// The client whose credentials are good for the repository.
    pub(crate) async fn client_for(&self, repository: &RepositoryName) -> GitHubResult<Caller> {
        match self.shared.credentials {
            Credentials::Token(_) => Ok(self.own()),
            Credentials::App { .. } => Ok(self.installed(repository).await?.caller()),
        }
    }

    /// The installation that the repository belongs to.
    pub(crate) async fn installation_of(&self, repository: &RepositoryName) -> GitHubResult<u64> {
        Ok(self.installed(repository).await?.id)
    }

    async fn installed(&self, repository: &RepositoryName) -> GitHubResult<Known> {
        if let Some(known) = self.shared.installations.get(repository) {
            return Ok(known);
        }
        let path = [
            "repos",
            repository.owner(),
            repository.name(),
            "installation",
        ];
        let ask = Ask::get(&path).authoritative();
        let found: Installation = self.ask_as_self(&ask).await?;
        let known = self.installation(found.id)?;
        Ok(self.shared.installations.keep(repository, known))
    }

    /// An installation by its id.
    pub(crate) fn installation(&self, id: u64) -> GitHubResult<Known> {
        if let Some(known) = self.shared.installations.of_id(id) {
            return Ok(known);
        }
        let client = self.shared.octocrab.installation(InstallationId(id));
        let client = Arc::new(client.map_err(GitHubError::from)?);
        Ok(Known { id, client })
    }
}
