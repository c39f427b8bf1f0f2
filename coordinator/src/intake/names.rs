//! Repositories that have another name or owner by now. GitHub's id of a repository stays; whatever is
//! stored of it follows the name, and so does an event that comes late and under an old one.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use patchfleet_domain::RepositoryName;
use patchfleet_github::GitHubError;

use super::IntakeError;
use super::decide::Deciding;
use crate::store::SeenRepository;
use crate::webhook::event::{Event, Repository};

/// The names that this process knows of repositories, by GitHub's ids; of each the present one last.
#[derive(Debug, Default)]
pub(super) struct Names(Mutex<HashMap<u64, Vec<RepositoryName>>>);

impl Names {
    fn get(&self, id: u64) -> Option<Vec<RepositoryName>> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(&id).cloned()
    }

    fn set(&self, id: u64, names: &[RepositoryName]) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.insert(id, names.to_vec());
    }
}

impl Deciding<'_> {
    /// The event under the name that its repository has now; nothing when the configuration does not
    /// list that repository under any of its names.
    pub(super) async fn under_its_name(&self, event: &Event) -> Result<Option<Event>, IntakeError> {
        let Some(repository) = event.repository() else {
            return Ok(Some(event.clone()));
        };
        let was = match event {
            Event::RepositoryMoved(moved) => Some(&moved.was),
            _ => None,
        };
        let may_have_moved =
            repository.id.is_some() && !matches!(event, Event::RepositoryDeleted(_));
        let names = if may_have_moved {
            self.names(repository, was).await?
        } else {
            vec![repository.name.clone()]
        };
        if !self.is_listed(&names) {
            return Ok(None);
        }
        let present = names.into_iter().next_back();
        let present = present.unwrap_or_else(|| repository.name.clone());
        Ok(Some(event.clone().in_repository(present)))
    }

    fn is_listed<'a>(&self, names: impl IntoIterator<Item = &'a RepositoryName>) -> bool {
        let listed = self.intake.policy.repositories.as_ref();
        listed.is_none_or(|listed| names.into_iter().any(|name| listed.contains(name)))
    }

    /// All names that are known of a repository, the present one last.
    async fn names(
        &self,
        shown: &Repository,
        was: Option<&RepositoryName>,
    ) -> Result<Vec<RepositoryName>, IntakeError> {
        let intake = self.intake;
        let Some(id) = shown.id else {
            return Ok(vec![shown.name.clone()]);
        };
        let is_it = |names: &Vec<RepositoryName>| names.last() == Some(&shown.name);
        if let Some(names) = intake.names.get(id).filter(is_it).filter(|_| was.is_none()) {
            return Ok(names);
        }
        let stored = self.store(intake.store.repository_names(id)).await?;
        if is_it(&stored) {
            intake.names.set(id, &stored);
            return Ok(stored);
        }
        if stored.is_empty() && !self.is_listed(was.into_iter().chain([&shown.name])) {
            // Of a repository that nobody wants nothing is kept.
            return Ok(vec![shown.name.clone()]);
        }
        let present = if stored.is_empty() && was.is_none() {
            Some((shown.name.clone(), shown.clone_url.clone()))
        } else {
            self.present_name(shown).await?
        };
        let Some((name, clone_url)) = present else {
            // What GitHub does not show under this name is as it was.
            let known = if stored.is_empty() {
                vec![shown.name.clone()]
            } else {
                stored
            };
            return Ok(known);
        };
        let seen = SeenRepository {
            id: Some(id),
            name,
            was: was.cloned(),
            clone_url,
        };
        let names = self.store(intake.store.repository_seen(&seen)).await?;
        if names.len() > 1 {
            let (was, now) = (&names[..names.len() - 1], &seen.name);
            tracing::info!(?was, %now, "a repository has another name; its tasks follow");
        }
        intake.names.set(id, &names);
        Ok(names)
    }

    /// The name that the repository has now, and where git clones it from. A delivery may be older than
    /// the last change; nothing when there is no such repository, or another one of that name.
    async fn present_name(
        &self,
        shown: &Repository,
    ) -> Result<Option<(RepositoryName, String)>, IntakeError> {
        let asking = self.intake.github.repository(&shown.name);
        match self.github(asking).await {
            Ok(found) if shown.id.is_none_or(|id| id == found.id) => {
                Ok(Some((found.name, found.clone_url)))
            }
            Ok(_) | Err(GitHubError::NotFound) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}
