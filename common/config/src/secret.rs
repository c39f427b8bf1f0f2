//! Secrets in configuration: written out, or better, by reference to a file or a variable.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};
use serde::Deserialize;

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

/// A secret that is not where the configuration says.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file can't be read.
    #[error("can't read the secret from {path}: {reason}")]
    File {
        /// Which.
        path: String,
        /// Why.
        reason: String,
    },
    /// The variable is not set.
    #[error("the environment variable {0}, which should hold a secret, is not set")]
    Env(String),
    /// There is nothing in it.
    #[error("the secret {0} is empty")]
    Empty(String),
}

impl Secret {
    /// Fetches the secret, and registers it: from now on it is masked in whatever this process
    /// logs or reports.
    ///
    /// # Errors
    /// When the file or the variable can't be read, or nothing is in it.
    pub fn reveal(&self) -> Result<SecretString, SecretError> {
        let secret = self.fetch()?;
        patchfleet_guard::register_secret(secret.expose_secret());
        Ok(secret)
    }

    fn fetch(&self) -> Result<SecretString, SecretError> {
        let (value, place) = match self {
            Self::Inline(value) => return Ok(value.clone()),
            Self::File(reference) => {
                let path = reference.file.display().to_string();
                let text = std::fs::read_to_string(&reference.file).map_err(|error| {
                    SecretError::File {
                        path: path.clone(),
                        reason: error.to_string(),
                    }
                })?;
                (text.trim_end_matches(['\r', '\n']).to_owned(), path)
            }
            Self::Env(reference) => {
                let name = &reference.env;
                (
                    std::env::var(name).map_err(|_| SecretError::Env(name.clone()))?,
                    name.clone(),
                )
            }
        };
        if value.is_empty() {
            Err(SecretError::Empty(place))
        } else {
            Ok(value.into())
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
            assert_eq!(secret.reveal().unwrap().expose_secret(), "s3cret");
            assert!(!format!("{secret:?}").contains("s3cret"));
        }
    }

    #[test]
    fn a_secret_that_was_revealed_is_masked_from_then_on() {
        let secret = Secret::from(SecretString::from("of no known form"));
        secret.reveal().unwrap();
        let told = patchfleet_guard::redact("it is of no known form, is it?");
        assert_eq!(told, "it is [redacted], is it?");
    }

    #[test]
    fn a_missing_secret_says_where_it_was_looked_for() {
        let secret = Secret::File(FileReference {
            file: "/nowhere/key".into(),
        });
        let error = secret.reveal().unwrap_err().to_string();
        assert!(
            error.starts_with("can't read the secret from /nowhere/key: No such file"),
            "{error}"
        );
    }
}
