//! Who the client is.

use serde::Deserialize;

use crate::GitHubResult;
use crate::ask::Ask;
use crate::client::GitHub;
use crate::credentials::Credentials;

/// The sort of account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityKind {
    /// The account behind a token; a person may use it as well.
    Account,
    /// The bot of a GitHub App; nobody but this client acts as it.
    App,
}

/// The account that the client acts as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// Its login; for an App `slug[bot]`.
    pub login: String,
    /// The sort of account.
    pub kind: IdentityKind,
}

#[derive(Debug, Deserialize)]
struct User {
    login: String,
}

#[derive(Debug, Deserialize)]
struct App {
    slug: String,
}

impl Identity {
    /// True when the login is this account's; GitHub does not mind case.
    pub fn is(&self, login: &str) -> bool {
        self.login.eq_ignore_ascii_case(login)
    }
}

impl GitHub {
    /// The account that the client acts as; asked once. Installation tokens have none.
    ///
    /// # Errors
    /// What GitHub answers.
    pub async fn identity(&self) -> GitHubResult<Identity> {
        let found = self.shared.identity.get_or_try_init(|| self.ask_identity());
        Ok(found.await?.clone())
    }

    async fn ask_identity(&self) -> GitHubResult<Identity> {
        match self.shared.credentials {
            Credentials::Token(_) => {
                let user: User = self
                    .ask_as_self(&Ask::get(&["user"]).authoritative())
                    .await?;
                Ok(Identity {
                    login: user.login,
                    kind: IdentityKind::Account,
                })
            }
            Credentials::App { .. } => {
                let app: App = self
                    .ask_as_self(&Ask::get(&["app"]).authoritative())
                    .await?;
                Ok(Identity {
                    login: format!("{}[bot]", app.slug),
                    kind: IdentityKind::App,
                })
            }
        }
    }
}
