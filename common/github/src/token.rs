//! Tokens for others, as small as GitHub makes them.

use patchfleet_domain::{RepositoryName, Timestamp};
use secrecy::SecretString;
use serde::Deserialize;
use serde_json::json;

use crate::GitHubResult;
use crate::ask::Ask;
use crate::client::GitHub;
use crate::credentials::Credentials;

/// A token to push to one repository and to open pull requests there.
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
    /// A token for one repository, with the right to push and to open pull requests and no
    /// other. A personal token can't be narrowed: it is handed on as it is.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn write_token(&self, repository: &RepositoryName) -> GitHubResult<ShortLivedToken> {
        if let Credentials::Token(token) = &self.shared.credentials {
            return Ok(ShortLivedToken {
                token: token.clone(),
                expires_at: None,
            });
        }
        let installation = self.installation_of(repository).await?.to_string();
        let path = ["app", "installations", &installation, "access_tokens"];
        let permissions = json!({ "contents": "write", "pull_requests": "write" });
        let wanted = json!({ "repositories": [repository.name()], "permissions": permissions });
        let answer: Answer = self.ask_as_self(&Ask::post(&path, wanted)).await?;
        Ok(ShortLivedToken {
            token: answer.token,
            expires_at: Some(answer.expires_at),
        })
    }
}
