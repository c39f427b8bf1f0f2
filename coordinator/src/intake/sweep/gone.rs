//! What GitHub shows under another name, or not at all any more, and pull requests that are not closed
//! for good.

use std::time::Duration;

use chrono::Utc;
use patchfleet_domain::{RepositoryName, Task};
use patchfleet_github::{GitHubError, Repository as Found};

use super::Sweeper;
use super::missed::Missed;
use crate::intake::IntakeError;
use crate::store::{Act, Delivery, SeenRepository};

/// How long a repository may be hidden before its tasks are called off: an App may be suspended and
/// come back, and nobody deletes a repository by mistake for longer.
const HIDDEN: Duration = Duration::from_hours(24);
/// For how long after its closing it is asked whether a pull request was merged after all.
const AFTER_ALL: Duration = Duration::from_hours(24);

/// Where a repository is.
#[derive(Debug)]
pub(super) enum Present {
    /// Where it was.
    Here(Found),
    /// It has another name; its tasks have followed.
    Moved,
    /// GitHub does not show it to these credentials.
    Hidden,
}

impl Sweeper {
    /// Where a repository with tasks is now.
    pub(super) async fn present(&self, name: &RepositoryName) -> Result<Present, IntakeError> {
        let store = &self.intake.store;
        let part = format!("shown {name}");
        let found = match self.github().repository(name).await {
            Ok(found) => found,
            Err(GitHubError::NotFound) => {
                self.hidden(name, &part).await?;
                return Ok(Present::Hidden);
            }
            Err(error) => return Err(error.into()),
        };
        if found.name == *name {
            store.set_swept_until(&part, Utc::now()).await?;
            return Ok(Present::Here(found));
        }
        tracing::warn!(was = %name, now = %found.name, "a repository has another name; its tasks follow");
        let seen = SeenRepository {
            id: Some(found.id),
            name: found.name,
            was: Some(name.clone()),
            clone_url: found.clone_url,
        };
        store.repository_seen(&seen).await?;
        Ok(Present::Moved)
    }

    /// Calls off the tasks of a repository that was last shown long ago.
    async fn hidden(&self, name: &RepositoryName, part: &str) -> Result<(), IntakeError> {
        let store = &self.intake.store;
        let Some(shown) = store.swept_until(part).await? else {
            // From now on it counts.
            return Ok(store.set_swept_until(part, Utc::now()).await?);
        };
        if shown + HIDDEN > Utc::now() {
            tracing::warn!(repository = %name, %shown, "GitHub does not show the repository");
            return Ok(());
        }
        let why = "GitHub has not shown the repository for a day: it was deleted, or Patchfleet has \
                   no access to it any more";
        tracing::warn!(repository = %name, why, "its tasks are called off");
        let delivery = Delivery {
            id: format!("sweep-hidden-{name}-{}", Utc::now().timestamp()),
            event: "repository".to_owned(),
            action: Some("deleted".to_owned()),
            repository: Some(name.clone()),
            issue: None,
        };
        let acts = [Act::CancelRepository {
            repository: name.clone(),
            actor: "coordinator".to_owned(),
            why: why.to_owned(),
        }];
        store.record_delivery(&delivery, &acts).await?;
        Ok(())
    }

    /// Pull requests whose closing failed their task, and that are open again or were merged since.
    pub(super) async fn reopened(
        &self,
        repository: &RepositoryName,
        closed: &[Task],
    ) -> Result<Vec<Missed>, IntakeError> {
        let closed: Vec<_> = closed
            .iter()
            .filter(|task| !self.is_recent(task.updated_at))
            .filter_map(|task| Some((task, task.pull_request.as_ref()?.number)))
            .collect();
        if closed.is_empty() {
            return Ok(Vec::new());
        }
        let open = self.github().open_pull_requests(repository).await?;
        let mut found = Vec::new();
        for (task, number) in closed {
            if open.contains(&number) {
                found.push(Missed::Reopened(Box::new(task.clone()), number));
            } else if task.updated_at + AFTER_ALL > Utc::now()
                && self.github().pull_request(repository, number).await?.merged
            {
                found.push(Missed::MergedAfterAll(Box::new(task.clone()), number));
            }
        }
        Ok(found)
    }
}
