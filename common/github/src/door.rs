//! The door: every request leaves here, is tried again where that may help, and is counted.

use std::time::Duration;

use bytes::Bytes;
use http::header::IF_NONE_MATCH;
use http::request::Builder;
use http::{HeaderValue, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use octocrab::{FromResponse as _, Octocrab};
use patchfleet_domain::RepositoryName;
use patchfleet_resilience::{CallError, Failure, FailureKind};
use serde::de::DeserializeOwned;

use crate::ask::{Ask, Repeat};
use crate::budget::Budget;
use crate::client::{Caller, GitHub, Observation};
use crate::kept::{Keeper, KeptAnswer, Known, Seal};
use crate::limit::cursor_of;
use crate::redirect;
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
            (GitHubError::RateLimited { retry_after }, _) => FailureKind::Limited {
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
        let caller = self.client_for(repository).await?;
        let answer = self.ask_as(&caller, ask).await;
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
        self.ask_as(&self.own(), ask).await
    }

    /// Makes a request as somebody.
    pub(crate) async fn ask_as<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        ask: &Ask,
    ) -> GitHubResult<T> {
        Ok(self.through(caller, ask).await?.0)
    }

    /// Makes a request about the caller itself; also the cursor of the next page, if there is one.
    pub(crate) async fn page_as_self<T: DeserializeOwned>(
        &self,
        ask: &Ask,
    ) -> GitHubResult<(T, Option<String>)> {
        let (page, heard) = self.through(&self.own(), ask).await?;
        Ok((page, heard.cursor))
    }

    /// All pages of a list of what somebody has, whose items are somewhere in each page.
    pub(crate) async fn all_as<P: DeserializeOwned, T>(
        &self,
        caller: &Caller,
        path: &[&str],
        items: impl Fn(P) -> Vec<T>,
    ) -> GitHubResult<Vec<T>> {
        let mut all = Vec::new();
        for page in 1_u32.. {
            let page = page.to_string();
            let ask = Ask::get(path).query(&[("per_page", "100"), ("page", page.as_str())]);
            let page: P = self.ask_as(caller, &ask.authoritative()).await?;
            let items = items(page);
            let last = items.len() < PER_PAGE;
            all.extend(items);
            if last {
                break;
            }
        }
        Ok(all)
    }

    /// All pages of a list about a repository.
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
        caller: &Caller,
        ask: &Ask,
    ) -> GitHubResult<(T, Heard)> {
        let budgets = &self.shared.budgets;
        if let Some(retry_after) = budgets.wait_of(caller.spender, self.priority) {
            // GitHub would refuse, and holds it against those who ask all the same; or what is left is
            // for those who come first.
            return Err(GitHubError::RateLimited { retry_after });
        }
        let once = || async {
            let answer = self.once(caller, ask).await;
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

    async fn once<T: DeserializeOwned>(
        &self,
        caller: &Caller,
        ask: &Ask,
    ) -> GitHubResult<(T, Heard)> {
        let timeout = self.shared.timeout;
        let mut heard = Heard::default();
        // Apart, or every future that asks GitHub would hold all of a request's state.
        let sending = Box::pin(self.send(&caller.octocrab, ask, &mut heard));
        let answer = match tokio::time::timeout(timeout, sending).await {
            Ok(answer) => answer,
            Err(_) => Err(GitHubError::unavailable(format!(
                "no answer within {timeout:?}"
            ))),
        };
        let answer = match &self.shared.proxy {
            Some(proxy) => answer.map_err(|error| error.behind(proxy, heard.status)),
            None => answer,
        };
        if let Some(budget) = heard.budget {
            self.shared.budgets.note(caller.spender, budget);
        }
        let good = if heard.known { "not_modified" } else { "ok" };
        let outcome = answer.as_ref().map_or_else(GitHubError::word, |_| good);
        let remaining = heard.budget.map(|budget| budget.remaining);
        self.observe(Observation { outcome, remaining });
        tracing::debug!(method = %ask.method, target = ask.target, outcome, "asked GitHub");
        Ok((answer?, heard))
    }

    /// Makes the request, and asks whether what is known is still so.
    async fn send<T: DeserializeOwned>(
        &self,
        client: &Octocrab,
        ask: &Ask,
        heard: &mut Heard,
    ) -> GitHubResult<T> {
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
        let tag = known.as_ref().map(|known| &known.tag);
        let response = self.follow(client, (ask, tag), heard).await?;
        if response.status() == StatusCode::NOT_MODIFIED
            && let Some(Known { answer, .. }) = known
        {
            heard.known = true;
            return Ok(answer);
        }
        let response = octocrab::map_github_error(response).await?;
        let answer = match keeper {
            Some(keeper) => T::from_response(keep(keeper, &seal, response).await?).await,
            None => T::from_response(response).await,
        };
        Ok(answer?)
    }

    /// Makes the request to where it leads: the same again at each address that GitHub names instead.
    async fn follow(
        &self,
        client: &Octocrab,
        (ask, tag): (&Ask, Option<&HeaderValue>),
        heard: &mut Heard,
    ) -> GitHubResult<Response<Content>> {
        let mut target = ask.target.clone();
        for _ in 0..=redirect::MOST {
            let mut request = Builder::new().method(ask.method.clone()).uri(&target);
            if let Some(tag) = tag {
                request = request.header(IF_NONE_MATCH, tag);
            }
            let request = client.build_request(request, ask.body.as_ref())?;
            let response = client.execute(request).await?;
            let (status, headers) = (response.status(), response.headers());
            heard.status = Some(status);
            heard.budget = Budget::of(headers);
            heard.cursor = cursor_of(headers);
            self.shared.skew.note(headers);
            match self.shared.redirects.next(&target, (status, headers))? {
                Some(next) => target = next,
                None => return Ok(response),
            }
        }
        Err(GitHubError::unexpected(format!(
            "more than {} redirections, the last one to {target}",
            redirect::MOST
        )))
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
    /// The answer's status.
    status: Option<StatusCode>,
    /// What GitHub says of its limit, whatever else it answers.
    budget: Option<Budget>,
    /// Where the next page begins.
    cursor: Option<String>,
    /// The answer was known, and still is so.
    known: bool,
}
