//! GitHub for one task: tokens by way of the coordinator, pull requests by the one client.

use async_trait::async_trait;
use chrono::Utc;
use patchfleet_domain::outcome::{Failure, FailureKind, PullRequestRef};
use patchfleet_domain::{AttemptNumber, Phase, RepositoryName};
use patchfleet_github::{
    Credentials, GitHub, GitHubError, GitHubOptions, NewPullRequest, RequestPriority,
};
use patchfleet_proto::v1::CredentialScope;
use secrecy::SecretString;

use crate::nodes::{PullRequestDraft, PullRequests};
use crate::patience::Patience;
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
        client_for(&token.api_url, token.secret)
    }
}

fn client_for(api_url: &str, token: SecretString) -> Result<GitHub, Failure> {
    let address = api_url.parse();
    let options = GitHubOptions {
        api_url: address
            .map_err(|error| no_client(&format!("`{api_url}` is no address: {error}")))?,
        credentials: Credentials::Token(token),
    };
    let client = GitHub::new(options).map_err(|error| no_client(&error.to_string()))?;
    Ok(client.with_priority(RequestPriority::Agent))
}

/// This host can't ask GitHub at all: its proxies, its certificates, or the address that it was given.
fn no_client(message: &str) -> Failure {
    Failure {
        kind: FailureKind::HostFault,
        message: format!("GitHub can't be asked from this host: {message}"),
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
        let work = self.reporter.work();
        let mark = format!("<!-- patchfleet:task:{} -->", work.task);
        // Nothing of this task's can be there, and no open one of the branch.
        let mut is_first = draft.is_new_branch && work.attempt == AttemptNumber(1);
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
            let ensured = if std::mem::take(&mut is_first) {
                let ensuring = client.ensure_first_pull_request(&self.repository, &new, &mark);
                ensuring.await
            } else {
                let ensuring = client.ensure_pull_request(&self.repository, &new, &mark);
                ensuring.await
            };
            let error = match ensured {
                Ok(pull) => break pull,
                Err(error) => error,
            };
            let Some(wait) = patience.after(&error) else {
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
    fn a_branch_that_stays_unknown_fails_for_now() {
        let unknown = GitHubError::Invalid {
            message: "Validation Failed".to_owned(),
            errors: vec![
                r#"{"resource":"PullRequest","code":"invalid","field":"head"}"#.to_owned(),
            ],
        };
        let failure = refused(&unknown);
        assert_eq!(failure.kind, FailureKind::RemoteUnavailable);
        assert!(failure.retryable);
    }

    #[tokio::test]
    async fn a_host_that_can_not_ask_github_is_at_fault_itself() {
        for address in ["", "api.github.test", "ftp://api.github.test"] {
            let failure = client_for(address, "secret".to_owned().into()).unwrap_err();
            assert_eq!(failure.kind, FailureKind::HostFault, "{address:?}");
            assert!(failure.message.contains(address), "{failure:?}");
        }
        assert!(client_for("https://api.github.test", "secret".to_owned().into()).is_ok());
    }
}
