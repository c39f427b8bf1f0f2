//! GitHub for one task: tokens by way of the coordinator, pull requests by the one client.

use async_trait::async_trait;
use patchfleet_domain::RepositoryName;
use patchfleet_domain::outcome::{Failure, FailureKind, PullRequestRef};
use patchfleet_github::{Credentials, GitHub, GitHubError, GitHubOptions, NewPullRequest};
use patchfleet_proto::v1::CredentialScope;
use secrecy::SecretString;

use crate::nodes::{PullRequestDraft, PullRequests};
use crate::session::reporter::Reporter;

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
        GitHub::new(GitHubOptions {
            api_url,
            credentials,
        })
        .map_err(|error| internal(&error.to_string()))
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
        let ensured = self
            .client()
            .await?
            .ensure_pull_request(&self.repository, &new, &mark)
            .await;
        let pull = ensured.map_err(|error| refused(&error))?;
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
