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

/// How long an attempt waits for rate limits and passing refusals in all. The longest of GitHub's last for an hour.
const PATIENCE: Duration = Duration::from_mins(90);
/// How often GitHub is asked again that does not know the branch which was just pushed; two minutes in all.
const MOST_UNKNOWN: u32 = 7;
/// First wait after a refusal that may be taken back; it doubles.
const FIRST_REFUSED: Duration = Duration::from_secs(5);
const MOST_REFUSED: Duration = Duration::from_mins(10);

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
            let detail = match &error {
                GitHubError::RateLimited { .. } => {
                    format!("waiting for GitHub's rate limit, which is over at {until}")
                }
                _ => format!("{error}; tried again at {until}"),
            };
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

/// How long an attempt goes on waiting for rate limits and for refusals that may be taken back: the work
/// is done, and one that were given up would be paid for twice.
struct Patience {
    left: Duration,
    /// How often the branch was not known.
    unknown: u32,
    /// The next wait after a refusal.
    refused: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            left: PATIENCE,
            unknown: 0,
            refused: FIRST_REFUSED,
        }
    }
}

impl Patience {
    /// How long GitHub is to be left alone after this answer; nothing when waiting is no use.
    fn wait_after(&mut self, error: &GitHubError) -> Option<Duration> {
        let wait = match error {
            GitHubError::RateLimited { retry_after } => *retry_after,
            _ if error.is_head_unknown() && self.unknown < MOST_UNKNOWN => {
                self.unknown += 1;
                Duration::from_secs(1 << self.unknown.min(5))
            }
            _ if error.may_be_taken_back() => {
                let wait = self.refused;
                self.refused = (wait * 2).min(MOST_REFUSED);
                wait
            }
            _ => return None,
        };
        self.left = self.left.checked_sub(wait)?;
        Some(wait)
    }
}

/// GitHub said no for good, or is away for now.
fn refused(error: &GitHubError) -> Failure {
    let transient = error.is_transient() || error.is_head_unknown();
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

    #[test]
    fn a_refusal_that_may_be_taken_back_is_waited_for_and_a_missing_right_is_not() {
        let refused = |message: &str| GitHubError::Forbidden {
            message: message.to_owned(),
        };
        let mut patience = Patience::default();
        let suspended = refused("This installation has been suspended");
        let waits: Vec<_> = std::iter::from_fn(|| patience.wait_after(&suspended)).collect();
        let seconds: Vec<_> = waits.iter().take(9).map(Duration::as_secs).collect();
        assert_eq!(seconds, [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        let all: Duration = waits.iter().sum();
        assert!(all > Duration::from_hours(1) && all <= PATIENCE, "{all:?}");
        let missing = refused("Resource not accessible by integration");
        assert_eq!(Patience::default().wait_after(&missing), None);
    }

    #[test]
    fn a_branch_that_was_just_pushed_may_be_unknown_for_a_while() {
        let unknown = GitHubError::Invalid {
            message: "Validation Failed".to_owned(),
            errors: vec![
                r#"{"resource":"PullRequest","code":"invalid","field":"head"}"#.to_owned(),
            ],
        };
        let mut patience = Patience::default();
        let waits: Vec<_> = std::iter::from_fn(|| patience.wait_after(&unknown)).collect();
        let seconds: Vec<_> = waits.iter().map(Duration::as_secs).collect();
        assert_eq!(seconds, [2, 4, 8, 16, 32, 32, 32]);
        let failure = super::refused(&unknown);
        assert!(failure.retryable);
        let base = GitHubError::Invalid {
            message: "Validation Failed".to_owned(),
            errors: vec![
                r#"{"resource":"PullRequest","code":"invalid","field":"base"}"#.to_owned(),
            ],
        };
        assert_eq!(Patience::default().wait_after(&base), None);
    }
}
