//! Tokens for agents from the coordinator's own GitHub credentials.
//!
//! An App's tokens are made for one repository and for what the agent is about to do: clones get
//! `contents: read`. A personal token is its owner's whole account, so it stays on this host
//! unless the operator says otherwise.

use async_trait::async_trait;
use patchfleet_github::{GitHub, RequestPriority, TokenAccess};
use url::Url;

use super::credentials::{CredentialScope, Credentials, IssuedToken, Requested};

/// Personal tokens say nothing of their end; an agent is to ask anew after so long.
const PERSONAL_TOKEN_LIFE: chrono::TimeDelta = chrono::TimeDelta::hours(1);

/// Why an agent on another host gets no token.
const NOT_SHARED: &str = "the coordinator acts with a personal token, which it does not give to \
    agents on other hosts: configure a GitHub App (coordinator.github.app), or set \
    coordinator.github.share_token = true to give every agent the whole token";

/// Issues tokens with the credentials of a GitHub client.
#[derive(Debug)]
pub struct GitHubTokens {
    github: GitHub,
    api_url: Url,
    share_personal: bool,
}

impl GitHubTokens {
    /// Tokens for that REST API. `share_personal` lets a personal token leave this host.
    pub fn new(github: GitHub, api_url: Url, share_personal: bool) -> Self {
        Self {
            github: github.with_priority(RequestPriority::Agent),
            api_url,
            share_personal,
        }
    }
}

#[async_trait]
impl Credentials for GitHubTokens {
    async fn token(&self, requested: Requested<'_>) -> Result<IssuedToken, String> {
        if self.github.is_personal() && !requested.is_local && !self.share_personal {
            return Err(NOT_SHARED.to_owned());
        }
        let access = match requested.scope {
            CredentialScope::Read => TokenAccess::Read,
            CredentialScope::Publish => TokenAccess::Write,
        };
        let token = self.github.token(requested.repository, access).await;
        let token = token.map_err(|error| error.to_string())?;
        Ok(IssuedToken {
            token: token.token,
            expires_at: token
                .expires_at
                .unwrap_or_else(|| chrono::Utc::now() + PERSONAL_TOKEN_LIFE),
            api_url: self.api_url.clone(),
        })
    }
}
