//! Tokens for agents: for one repository, for a short time, for the holder of a live attempt.

use async_trait::async_trait;
use patchfleet_domain::{RepositoryName, Timestamp};
use secrecy::SecretString;
use url::Url;

/// What a token is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CredentialScope {
    /// Clone and fetch.
    Read,
    /// Push the branch and open the pull request.
    Publish,
}

/// What is asked for, and from where.
#[derive(Debug, Clone, Copy)]
pub struct Requested<'a> {
    /// The repository of the live attempt.
    pub repository: &'a RepositoryName,
    /// What the token is for.
    pub scope: CredentialScope,
    /// The agent's connection comes from this very host. Not known is not local.
    pub is_local: bool,
}

/// A token that was issued. Never printed.
#[derive(Debug, Clone)]
pub struct IssuedToken {
    /// The token.
    pub token: SecretString,
    /// When it stops working.
    pub expires_at: Timestamp,
    /// Root of the REST API that it is for.
    pub api_url: Url,
}

/// Where tokens come from: a GitHub App's installation, or a token of one's own.
#[async_trait]
pub trait Credentials: Send + Sync + std::fmt::Debug {
    /// A token for that repository alone, as far as the source can narrow it. The error is told
    /// to the agent, so it holds no secret.
    async fn token(&self, requested: Requested<'_>) -> Result<IssuedToken, String>;
}
