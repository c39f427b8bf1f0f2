//! Tokens for others, as small as GitHub makes them.

use patchfleet_domain::{RepositoryName, Timestamp};
use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::ask::Ask;
use crate::client::GitHub;
use crate::credentials::Credentials;
use crate::{GitHubError, GitHubResult};

/// What a token is to allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenAccess {
    /// Clone and fetch.
    Read,
    /// Also push, and open pull requests.
    Write,
}

impl TokenAccess {
    fn permissions(self) -> Value {
        match self {
            Self::Read => json!({ "contents": "read" }),
            Self::Write => json!({ "contents": "write", "pull_requests": "write" }),
        }
    }
}

/// A token for one repository.
#[derive(Debug, Clone)]
pub struct ShortLivedToken {
    /// The token.
    pub token: SecretString,
    /// When it ends; `None` for a personal token, of which GitHub does not tell.
    pub expires_at: Option<Timestamp>,
}

#[derive(Debug, Deserialize)]
struct Answer {
    token: SecretString,
    expires_at: Timestamp,
}

impl GitHub {
    /// True when the client acts with a personal token, which can be narrowed neither to a
    /// repository nor to reading.
    pub fn is_personal(&self) -> bool {
        matches!(self.shared.credentials, Credentials::Token(_))
    }

    /// A token for one repository, with the rights of that access and no other. A personal token
    /// can't be narrowed: it is handed on as it is.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn token(
        &self,
        repository: &RepositoryName,
        access: TokenAccess,
    ) -> GitHubResult<ShortLivedToken> {
        if let Credentials::Token(token) = &self.shared.credentials {
            return Ok(ShortLivedToken {
                token: token.clone(),
                expires_at: None,
            });
        }
        let installation = self.installation_of(repository).await?.to_string();
        let path = ["app", "installations", &installation, "access_tokens"];
        let ask = |name: &str| {
            let wanted = json!({
                "repositories": [name],
                "permissions": access.permissions(),
            });
            Ask::post(&path, wanted)
        };
        let answer: Answer = match self.ask_as_self(&ask(repository.name())).await {
            Err(error @ GitHubError::Invalid { .. }) => {
                // Here GitHub knows a repository by its present name alone.
                let present = self.repository(repository).await?;
                if present.name.name() == repository.name() {
                    return Err(error);
                }
                self.ask_as_self(&ask(present.name.name())).await?
            }
            answer => answer?,
        };
        patchfleet_guard::register_temporary_secret(answer.token.expose_secret());
        Ok(ShortLivedToken {
            token: answer.token,
            expires_at: Some(answer.expires_at),
        })
    }
}
