//! The door: every request leaves here, is tried again where that may help, and is counted.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::IF_NONE_MATCH;
use http::request::Builder;
use http::{Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use octocrab::{FromResponse as _, Octocrab};
use patchfleet_domain::RepositoryName;
use patchfleet_resilience::{CallError, Failure, FailureKind};
use serde::de::DeserializeOwned;

use crate::ask::{Ask, Repeat};
use crate::client::{GitHub, Observation};
use crate::kept::{Keeper, KeptAnswer, Known, Seal};
use crate::limit::remaining_of;
use crate::{GitHubError, GitHubResult};

/// What an answer consists of.
type Content = BoxBody<Bytes, octocrab::Error>;

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
        let mut heard = Heard::default();
        let sending = self.send(client, ask, &mut heard);
        let answer = match tokio::time::timeout(timeout, sending).await {
            Ok(answer) => answer.map_err(GitHubError::from),
            Err(_) => Err(GitHubError::unavailable(format!(
                "no answer within {timeout:?}"
            ))),
        };
        let Heard { remaining, known } = heard;
        let good = if known { "not_modified" } else { "ok" };
        let outcome = answer.as_ref().map_or_else(GitHubError::word, |_| good);
        self.observe(Observation { outcome, remaining });
        tracing::debug!(method = %ask.method, target = ask.target, outcome, "asked GitHub");
        answer
    }

    /// Makes the request, and asks whether what is known is still so.
    async fn send<T: DeserializeOwned>(
        &self,
        client: &Octocrab,
        ask: &Ask,
        heard: &mut Heard,
    ) -> octocrab::Result<T> {
        let keeper = self.keeper.as_deref();
        let keeper = keeper.filter(|_| ask.cacheable);
        let seal = Seal {
            secret: self.shared.credentials.secret(),
            target: &ask.target,
        };
        let known = match keeper {
            Some(keeper) => keeper.look(&ask.target).await,
            None => None,
        };
        let known = known.as_ref().and_then(|kept| Known::of(kept, &seal));
        let mut request = Builder::new().method(ask.method.clone()).uri(&ask.target);
        if let Some(Known { tag, .. }) = &known {
            request = request.header(IF_NONE_MATCH, tag);
        }
        let request = client.build_request(request, ask.body.as_ref())?;
        let response = client.execute(request).await?;
        heard.remaining = remaining_of(response.headers());
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some(Known { answer, .. }) = known
        {
            heard.known = true;
            return Ok(answer);
        }
        let response = octocrab::map_github_error(response).await?;
        match keeper {
            Some(keeper) => T::from_response(keep(keeper, &seal, response).await?).await,
            None => T::from_response(response).await,
        }
    }
}

/// Reads an answer to its end and has it kept.
async fn keep(
    keeper: &dyn Keeper,
    seal: &Seal<'_>,
    response: Response<Content>,
) -> octocrab::Result<Response<Content>> {
    let (head, body) = response.into_parts();
    let body = body.collect().await?.to_bytes();
    if let Some(answer) = KeptAnswer::of(&head.headers, &body, seal) {
        keeper.keep(seal.target, answer).await;
    }
    let body = Full::new(body).map_err(|never| match never {});
    Ok(Response::from_parts(head, body.boxed()))
}

/// What an answer says besides.
#[derive(Debug, Default)]
struct Heard {
    /// What GitHub says of its limit, whatever else it answers.
    remaining: Option<u64>,
    /// The answer was known, and still is so.
    known: bool,
}
