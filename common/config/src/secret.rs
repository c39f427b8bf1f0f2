//! Secrets in configuration: written out, or better, by reference to a file or a variable.

use std::path::{Path, PathBuf};

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

use crate::api_key::{ApiKey, ApiKeyError};

/// A secret's place. `key = "…"`, `key = { file = "/run/secrets/key" }` or
/// `key = { env = "KEY" }`. Never printed.
#[derive(Debug, Clone, Deserialize)]
#[serde(
    untagged,
    expecting = "expected a text, `{ file = \"PATH\" }` or `{ env = \"NAME\" }`"
)]
pub enum Secret {
    /// Written out in the configuration.
    Inline(SecretString),
    /// The content of a file, without the line's end.
    File(FileReference),
    /// The value of an environment variable.
    Env(EnvReference),
}

/// A file that holds a secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FileReference {
    /// Its path.
    file: PathBuf,
}

/// A variable that holds a secret.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvReference {
    /// Its name.
    env: String,
}

/// A secret that can't be used; says which field wanted it.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("{field}: can't read the secret from {path}: {reason}")]
    File {
        /// Who wanted it.
        field: String,
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The variable is not set.
    #[error(
        "{field}: the environment variable {variable}, which should hold the secret, is not set"
    )]
    Env {
        /// Who wanted it.
        field: String,
        /// Which.
        variable: String,
    },
    /// There is nothing in it.
    #[error("{field}: {place} is empty")]
    Empty {
        /// Who wanted it.
        field: String,
        /// Where it was looked for.
        place: String,
    },
    /// It can't be the key of an interface.
    #[error("{field}: {reason}")]
    Key {
        /// Who wanted it.
        field: String,
        /// Why not.
        reason: ApiKeyError,
    },
}

impl Secret {
    /// Fetches the secret for a field of the configuration, and registers it: from now on it is
    /// masked in whatever this process logs or reports. It is never empty.
    ///
    /// # Errors
    /// When the file or the variable can't be read, or nothing is in it.
    pub fn reveal(&self, field: &str) -> Result<SecretString, SecretError> {
        let secret = self.fetch(field)?;
        patchfleet_guard::register_secret(secret.expose_secret());
        Ok(secret)
    }

    fn fetch(&self, field: &str) -> Result<SecretString, SecretError> {
        let (value, place) = match self {
            Self::Inline(value) => (value.clone(), "the secret".to_owned()),
            Self::File(reference) => {
                let path = reference.file.display().to_string();
                let text = std::fs::read_to_string(&reference.file);
                let text = text.map_err(|error| SecretError::File {
                    field: field.to_owned(),
                    path: path.clone(),
                    reason: error.to_string(),
                })?;
                let text = text.trim_end_matches(['\r', '\n']).to_owned();
                (text.into(), format!("the secret in {path}"))
            }
            Self::Env(reference) => {
                let variable = reference.env.clone();
                let value = std::env::var(&variable).map_err(|_| SecretError::Env {
                    field: field.to_owned(),
                    variable: variable.clone(),
                })?;
                let place = format!("the environment variable {variable}");
                (value.into(), place)
            }
        };
        if value.expose_secret().trim().is_empty() {
            let field = field.to_owned();
            return Err(SecretError::Empty { field, place });
        }
        Ok(value)
    }

    /// Fetches the secret as the key of an interface.
    ///
    /// # Errors
    /// When it can't be fetched, or no caller could send it.
    pub fn api_key(&self, field: &str) -> Result<ApiKey, SecretError> {
        let secret = self.reveal(field)?;
        ApiKey::new(&secret).map_err(|reason| SecretError::Key {
            field: field.to_owned(),
            reason,
        })
    }
}

impl Secret {
    /// The environment variable that holds it, where one does.
    pub fn variable(&self) -> Option<&str> {
        match self {
            Self::Env(reference) => Some(&reference.env),
            Self::Inline(_) | Self::File(_) => None,
        }
    }

    /// The file that holds it, where one does.
    pub fn file(&self) -> Option<&Path> {
        match self {
            Self::File(reference) => Some(&reference.file),
            Self::Inline(_) | Self::Env(_) => None,
        }
    }
}

impl From<SecretString> for Secret {
    fn from(value: SecretString) -> Self {
        Self::Inline(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_comes_from_its_place_and_is_never_printed() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "s3cret\n").unwrap();
        let toml = format!("a = 's3cret'\nb = {{ file = '{}' }}", file.path().display());
        let secrets: std::collections::BTreeMap<String, Secret> = toml::from_str(&toml).unwrap();
        for secret in secrets.values() {
            assert_eq!(secret.reveal("a.key").unwrap().expose_secret(), "s3cret");
            assert!(!format!("{secret:?}").contains("s3cret"));
        }
    }

    #[test]
    fn a_secret_that_was_revealed_is_masked_from_then_on() {
        let secret = Secret::from(SecretString::from("of no known form"));
        secret.reveal("a.key").unwrap();
        let told = patchfleet_guard::redact("it is of no known form, is it?");
        assert_eq!(told, "it is [redacted], is it?");
    }

    #[test]
    fn a_missing_secret_says_where_it_was_looked_for() {
        let secret = Secret::File(FileReference {
            file: "/nowhere/key".into(),
        });
        let error = secret.reveal("a.key").unwrap_err().to_string();
        assert!(
            error.starts_with("a.key: can't read the secret from /nowhere/key: No such file"),
            "{error}"
        );
    }

    #[test]
    fn an_empty_secret_is_refused_wherever_it_stands() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), " \n").unwrap();
        let places = [
            Secret::Inline(String::new().into()),
            Secret::Inline(" ".to_owned().into()),
            Secret::File(FileReference {
                file: file.path().to_owned(),
            }),
        ];
        for secret in places {
            let error = secret
                .reveal("coordinator.api.key")
                .unwrap_err()
                .to_string();
            assert!(error.starts_with("coordinator.api.key: "), "{error}");
            assert!(error.ends_with(" is empty"), "{error}");
            assert!(secret.api_key("coordinator.api.key").is_err());
        }
    }
}
