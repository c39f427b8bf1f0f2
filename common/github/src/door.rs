//! The door: every request leaves here, is tried again where that may help, and is counted.

use std::sync::Arc;
use std::time::Duration;

use http::request::Builder;
use octocrab::{FromResponse as _, Octocrab};
use patchfleet_domain::RepositoryName;
use patchfleet_resilience::{CallError, Failure, FailureKind};
use serde::de::DeserializeOwned;

use crate::ask::{Ask, Repeat};
use crate::client::{GitHub, Observation};
use crate::limit::remaining_of;
use crate::{GitHubError, GitHubResult};

/// How many entries a page has; GitHub's largest.
const PER_PAGE: usize = 100;

/// An error together with whether the request may be made again.
#[derive(Debug)]
struct Tried {
    error: GitHubError,
    repeat: Repeat,
}

impl Failure for Tried {
    fn kind(&self) -> FailureKind {
        match (&self.error, self.repeat) {
            (GitHubError::RateLimited { retry_after }, _) => FailureKind::Transient {
                retry_after: Some(*retry_after),
            },
            // Counts against GitHub, but a wait that nobody waits for ends the call.
            (GitHubError::Unavailable { .. }, Repeat::Never) => FailureKind::Transient {
                retry_after: Some(Duration::MAX),
            },
            (GitHubError::Unavailable { retry_after, .. }, Repeat::Safe) => {
                FailureKind::Transient {
                    retry_after: *retry_after,
                }
            }
            _ => FailureKind::Permanent,
        }
    }
}

impl GitHub {
    /// Makes a request about a repository.
    pub(crate) async fn ask<T: DeserializeOwned>(
        &self,
        repository: &RepositoryName,
        ask: &Ask,
    ) -> GitHubResult<T> {
        let client = self.client_for(repository).await?;
        let answer = self.through(&client, ask).await;
        if matches!(
            answer,
            Err(GitHubError::Unauthorized | GitHubError::NotFound)
        ) {
            // The App may have been removed and installed anew.
            self.shared.installations.forget(repository);
        }
        answer
    }

    /// Makes a request about the caller itself.
    pub(crate) async fn ask_as_self<T: DeserializeOwned>(&self, ask: &Ask) -> GitHubResult<T> {
        self.through(&self.shared.octocrab, ask).await
    }

    /// All pages of a list.
    pub(crate) async fn ask_all<T: DeserializeOwned>(
        &self,
        repository: &RepositoryName,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> GitHubResult<Vec<T>> {
        let mut all = Vec::new();
        for page in 1_u32.. {
            let page = page.to_string();
            let paging = [("per_page", "100"), ("page", page.as_str())];
            let query: Vec<_> = query.iter().copied().chain(paging).collect();
            let items: Vec<T> = self.ask(repository, &Ask::get(path).query(&query)).await?;
            let last = items.len() < PER_PAGE;
            all.extend(items);
            if last {
                break;
            }
        }
        Ok(all)
    }

    async fn through<T: DeserializeOwned>(
        &self,
        client: &Arc<Octocrab>,
        ask: &Ask,
    ) -> GitHubResult<T> {
        let once = || async {
            let answer = self.once(client, ask).await;
            answer.map_err(|error| Tried {
                error,
                repeat: ask.repeat,
            })
        };
        match self.shared.remote.call(once).await {
            Ok(answer) => Ok(answer),
            Err(CallError::Failed(tried)) => Err(tried.error),
            Err(CallError::Open { remote, retry_in }) => Err(GitHubError::Unavailable {
                message: format!(
                    "{remote} did not answer several times and is left alone for a while"
                ),
                retry_after: Some(retry_in),
            }),
        }
    }

    async fn once<T: DeserializeOwned>(&self, client: &Octocrab, ask: &Ask) -> GitHubResult<T> {
        let timeout = self.shared.timeout;
        let mut remaining = None;
        let sending = send(client, ask, &mut remaining);
        let answer = match tokio::time::timeout(timeout, sending).await {
            Ok(answer) => answer.map_err(GitHubError::from),
            Err(_) => Err(GitHubError::unavailable(format!(
                "no answer within {timeout:?}"
            ))),
        };
        let outcome = answer.as_ref().map_or_else(GitHubError::word, |_| "ok");
        self.observe(Observation { outcome, remaining });
        tracing::debug!(method = %ask.method, target = ask.target, outcome, "asked GitHub");
        answer
    }
}

/// Makes the request, and notes what GitHub says of its limit, whatever else it answers.
async fn send<T: DeserializeOwned>(
    client: &Octocrab,
    ask: &Ask,
    remaining: &mut Option<u64>,
) -> octocrab::Result<T> {
    let builder = Builder::new().method(ask.method.clone()).uri(&ask.target);
    let request = client.build_request(builder, ask.body.as_ref())?;
    let response = client.execute(request).await?;
    *remaining = remaining_of(response.headers());
    let response = octocrab::map_github_error(response).await?;
    T::from_response(response).await
}
