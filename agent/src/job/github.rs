//! GitHub for one task: tokens by way of the coordinator, pull requests by the one client.

use std::time::Duration;

use async_trait::async_trait;
use chrono::Utc;
use patchfleet_domain::outcome::{Failure, FailureKind, PullRequestRef};
use patchfleet_domain::{Phase, RepositoryName};
use patchfleet_github::{
    Credentials, GitHub, GitHubError, GitHubOptions, NewPullRequest, RequestPriority,
};
use patchfleet_proto::v1::CredentialScope;
use secrecy::SecretString;

use crate::nodes::{PullRequestDraft, PullRequests};
use crate::session::reporter::Reporter;

/// How long an attempt waits for rate limits in all. The longest of GitHub's last for an hour.
const PATIENCE: Duration = Duration::from_mins(90);

/// One task's door to GitHub. Holds no token: each is asked for right before it is used.
pub(super) struct TaskGitHub {
    reporter: Reporter,
    repository: RepositoryName,
}

impl TaskGitHub {
    pub(super) const fn new(reporter: Reporter, repository: RepositoryName) -> Self {
        Self {
            reporter,
            repository,
        }
    }

    /// A client with a fresh token.
    async fn client(&self) -> Result<GitHub, Failure> {
        let token = self.reporter.token(CredentialScope::Publish).await?;
        let api_url = token
            .api_url
            .parse()
            .map_err(|error| internal(&format!("the API's address: {error}")))?;
        let credentials = Credentials::Token(token.secret);
        let client = GitHub::new(GitHubOptions {
            api_url,
            credentials,
        });
        let client = client.map_err(|error| internal(&error.to_string()))?;
        Ok(client.with_priority(RequestPriority::Agent))
    }
}

fn internal(message: &str) -> Failure {
    Failure {
        kind: FailureKind::Internal,
        message: message.to_owned(),
        retryable: true,
        discard_checkpoints: false,
    }
}

#[async_trait]
impl PullRequests for TaskGitHub {
    async fn credential(&self) -> Result<SecretString, Failure> {
        Ok(self.reporter.token(CredentialScope::Publish).await?.secret)
    }

    async fn ensure(&self, draft: PullRequestDraft) -> Result<PullRequestRef, Failure> {
        let mark = format!("<!-- patchfleet:task:{} -->", self.reporter.work().task);
        let new = NewPullRequest {
            title: draft.title,
            body: self.reporter.hide_paths(&draft.body),
            head: draft.head,
            base: draft.base,
            draft: draft.draft,
        };
        let mut patience = Patience::default();
        let pull = loop {
            // A token may end while a limit lasts.
            let client = self.client().await?;
            let ensured = client.ensure_pull_request(&self.repository, &new, &mark);
            let error = match ensured.await {
                Ok(pull) => break pull,
                Err(error) => error,
            };
            let Some(wait) = patience.wait_after(&error) else {
                return Err(refused(&error));
            };
            let until = (Utc::now() + wait).format("%H:%M:%S UTC");
            let detail = format!("waiting for GitHub's rate limit, which is over at {until}");
            self.reporter.progress(Phase::Publish, detail);
            tokio::time::sleep(wait).await;
        };
        Ok(PullRequestRef {
            number: pull.number,
            url: pull.url,
            head: pull.head,
            head_sha: pull.head_sha,
            base: pull.base,
            draft: pull.draft,
            merged: pull.merged,
        })
    }
}

/// How long an attempt goes on waiting for rate limits: the work is done, and one that were given up
/// would be paid for twice.
struct Patience {
    left: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { left: PATIENCE }
    }
}

impl Patience {
    /// How long GitHub is to be left alone after this answer; nothing when waiting is no use.
    fn wait_after(&mut self, error: &GitHubError) -> Option<Duration> {
        let GitHubError::RateLimited { retry_after } = error else {
            return None;
        };
        self.left = self.left.checked_sub(*retry_after)?;
        Some(*retry_after)
    }
}

/// GitHub said no for good, or is away for now.
fn refused(error: &GitHubError) -> Failure {
    let transient = error.is_transient();
    Failure {
        kind: if transient {
            FailureKind::RemoteUnavailable
        } else {
            FailureKind::PullRequestRefused
        },
        message: error.to_string(),
        retryable: transient,
        discard_checkpoints: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_waited_out_but_not_without_end() {
        let limit = |seconds| GitHubError::RateLimited {
            retry_after: Duration::from_secs(seconds),
        };
        let mut patience = Patience::default();
        for seconds in [75, 60, 3600] {
            let wait = patience.wait_after(&limit(seconds));
            assert_eq!(wait, Some(Duration::from_secs(seconds)));
        }
        assert_eq!(patience.wait_after(&limit(3600)), None);
        assert_eq!(patience.wait_after(&GitHubError::NotFound), None);
    }
}
