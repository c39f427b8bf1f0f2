//! Where a store is kept.

use std::path::PathBuf;

use secrecy::{ExposeSecret as _, SecretString};

use super::{SqlStore, StoreResult};

/// Where a store is kept. What it prints holds no secret.
#[derive(Debug, Clone)]
pub enum Address {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A PostgreSQL database, `postgres://…`.
    Postgres(SecretString),
}

/// An address that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write `sqlite:PATH` or `postgres://…`")]
pub struct InvalidAddress;

impl Address {
    /// Reads `sqlite:PATH` or `postgres://…`.
    ///
    /// # Errors
    /// When it is neither; the error does not repeat it, as it may hold a password.
    pub fn parse(text: &SecretString) -> Result<Self, InvalidAddress> {
        let url = text.expose_secret();
        match (url.strip_prefix("sqlite:"), url.split_once("://")) {
            (Some(path), _) => {
                let path = path.strip_prefix("//").unwrap_or(path);
                Ok(Self::Sqlite(path.into()))
            }
            (None, Some(("postgres" | "postgresql", _))) => Ok(Self::Postgres(text.clone())),
            _ => Err(InvalidAddress),
        }
    }

    /// Opens the store there and brings its schema up to date.
    ///
    /// # Errors
    /// As [`SqlStore::sqlite`] and [`SqlStore::postgres`].
    pub async fn open(&self, max_connections: u32) -> StoreResult<SqlStore> {
        match self {
            Self::Sqlite(path) => SqlStore::sqlite(path).await,
            Self::Postgres(url) => SqlStore::postgres(url.expose_secret(), max_connections).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_file_or_a_server() {
        let parse = |text: &str| Address::parse(&text.into());
        for (text, path) in [
            ("sqlite:tasks.db", "tasks.db"),
            ("sqlite:///var/lib/tasks.db", "/var/lib/tasks.db"),
            ("sqlite:/var/lib/tasks.db", "/var/lib/tasks.db"),
        ] {
            let Ok(Address::Sqlite(file)) = parse(text) else {
                panic!("{text} is a file");
            };
            assert_eq!(file.to_str(), Some(path));
        }
        let secret = parse("postgres://me:secret@host/tasks").unwrap();
        assert!(!format!("{secret:?}").contains("secret@"));
        for wrong in ["mysql://host/tasks", "tasks.db", ""] {
            assert_eq!(parse(wrong).unwrap_err(), InvalidAddress);
        }
    }
}
