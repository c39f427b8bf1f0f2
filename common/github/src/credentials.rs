//! As whom the client acts.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use octocrab::auth::{AppAuth, Auth, EncodingKey};
use octocrab::models::AppId;
use secrecy::{ExposeSecret as _, SecretString};

/// How long the lines of a key are.
const LINE: usize = 64;

/// A person's token or a GitHub App.
#[derive(Clone)]
pub enum Credentials {
    /// A personal access token, or an installation token that somebody else asked for.
    Token(SecretString),
    /// A GitHub App.
    App {
        /// Its id.
        id: u64,
        /// Its private key, PEM.
        private_key: SecretString,
    },
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token"),
            Self::App { id, .. } => f
                .debug_struct("App")
                .field("id", id)
                .finish_non_exhaustive(),
        }
    }
}

/// The client can't be made of what it was given.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// The token has characters that a header can't carry.
    #[error("the GitHub token is empty or has spaces, line breaks or other odd characters in it")]
    Token,
    /// The key is no RSA key.
    #[error("the GitHub App's private key is not an RSA key in PEM: {0}")]
    PrivateKey(String),
    /// The address is of no use.
    #[error("the GitHub API address `{0}` is not an http or https address")]
    Address(String),
    /// The environment names a proxy that is none.
    #[error(transparent)]
    Proxy(#[from] patchfleet_proxy::InvalidProxy),
    /// The HTTP client can't start.
    #[error("the HTTP client can't start: {0}")]
    Client(String),
}

impl Credentials {
    /// What nobody else knows.
    pub(crate) fn secret(&self) -> &str {
        let (Self::Token(secret)
        | Self::App {
            private_key: secret,
            ..
        }) = self;
        secret.expose_secret()
    }

    pub(crate) fn auth(&self) -> Result<Auth, SetupError> {
        match self {
            Self::Token(token) => {
                let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
                let text = token.expose_secret();
                if text.is_empty() || !plain(text) {
                    return Err(SetupError::Token);
                }
                Ok(Auth::PersonalToken(token.clone()))
            }
            Self::App { id, private_key } => {
                let pem = pem(private_key.expose_secret());
                let key = EncodingKey::from_rsa_pem(pem.expose_secret().as_bytes())
                    .map_err(|error| SetupError::PrivateKey(error.to_string()))?;
                let app_id = AppId(*id);
                Ok(Auth::App(AppAuth { app_id, key }))
            }
        }
    }
}

/// A key as stores of secrets keep it, which have no room for several lines: with `\n` or blanks for line
/// ends, in quotes, or in base64.
fn pem(given: &str) -> SecretString {
    let bare = given.trim().trim_matches(['"', '\'']);
    let key = armored(bare).or_else(|| {
        let packed: String = bare.split_whitespace().collect();
        let bytes = STANDARD.decode(packed).ok()?;
        armored(&String::from_utf8(bytes).ok()?)
    });
    key.map_or_else(|| given.to_owned().into(), SecretString::from)
}

/// The key in lines of its own, whatever its line ends were.
fn armored(text: &str) -> Option<String> {
    let text = text.replace("\\r", "").replace("\\n", "\n");
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, _) = rest.split_once("-----END ")?;
    let mut key = format!("-----BEGIN {label}-----\n");
    for (at, c) in body.chars().filter(|c| !c.is_whitespace()).enumerate() {
        if at > 0 && at % LINE == 0 {
            key.push('\n');
        }
        key.push(c);
    }
    key.extend(["\n-----END ", label, "-----\n"]);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_key_is_refused_in_every_form() {
        for none in ["", "\"\"", "aGVsbG8=", "-----BEGIN RSA PRIVATE KEY-----"] {
            let app = Credentials::App {
                id: 7,
                private_key: none.to_owned().into(),
            };
            let refused = app.auth();
            assert!(matches!(refused, Err(SetupError::PrivateKey(_))), "{none}");
        }
    }

    #[test]
    fn odd_credentials_are_refused_and_never_shown() {
        let token = |text: &str| Credentials::Token(text.to_owned().into());
        for bad in ["", "a b", "a\n", "ä"] {
            let refused = token(bad).auth();
            assert!(matches!(refused, Err(SetupError::Token)), "{bad:?}");
        }
        let app = Credentials::App {
            id: 7,
            private_key: "hidden".to_owned().into(),
        };
        assert!(matches!(app.auth(), Err(SetupError::PrivateKey(_))));
        assert_eq!(
            format!("{app:?} {:?}", token("hidden")),
            "App { id: 7, .. } Token"
        );
    }
}
