//! The key of an interface: what callers show as `Authorization: Bearer KEY`.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// The scheme before the key; its case does not matter (RFC 9110, section 11.1).
const SCHEME: &str = "Bearer";

/// The shortest key, in characters. Ten digits, guessed as often as an address may, take centuries.
const SHORTEST: usize = 8;
/// How many different characters a key has at least.
const DISTINCT: usize = 4;

/// A key that callers have to show. It is never empty, so a caller who shows nothing is never let
/// in. Only a hash is kept: comparing hashes in constant time tells nobody how long the key is or
/// how much of a guess was right.
#[derive(Clone)]
pub struct ApiKey {
    hash: [u8; 32],
}

/// Why a text can't be a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ApiKeyError {
    /// There is nothing in it.
    #[error(
        "the key is empty, which would let everybody in; write a random text of 16 characters or more"
    )]
    Empty,
    /// It is soon guessed, however few guesses an address has.
    #[error(
        "the key is too easy to guess; write a random text of 16 characters or more, such as what \
         `openssl rand -hex 16` prints; fewer than {SHORTEST}, or fewer than {DISTINCT} different \
         ones, are refused"
    )]
    Weak,
    /// No caller could send it.
    #[error(
        "the key begins or ends with a space, or contains a line end or control character, which no HTTP header can carry"
    )]
    Unsendable,
}

impl ApiKey {
    /// Makes a key of a secret.
    ///
    /// # Errors
    /// When the secret is empty or easily guessed, or can't be sent in a header.
    pub fn new(secret: &SecretString) -> Result<Self, ApiKeyError> {
        secret.expose_secret().parse()
    }

    /// Whether a request with this `Authorization` header shows the key. Without the header, or
    /// with another scheme, it does not.
    pub fn admits(&self, authorization: Option<&[u8]>) -> bool {
        let shown = authorization.and_then(bearer);
        shown.is_some_and(|shown| hash(shown).ct_eq(&self.hash).into())
    }
}

impl FromStr for ApiKey {
    type Err = ApiKeyError;

    fn from_str(text: &str) -> Result<Self, ApiKeyError> {
        if text.trim().is_empty() {
            return Err(ApiKeyError::Empty);
        }
        if text.trim() != text || text.contains(char::is_control) {
            return Err(ApiKeyError::Unsendable);
        }
        let distinct: BTreeSet<char> = text.chars().collect();
        if text.chars().count() < SHORTEST || distinct.len() < DISTINCT {
            return Err(ApiKeyError::Weak);
        }
        Ok(Self {
            hash: hash(text.as_bytes()),
        })
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

fn hash(key: &[u8]) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// What follows the scheme.
fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, key) = header.split_at_checked(SCHEME.len())?;
    let key = key.strip_prefix(b" ")?;
    scheme
        .eq_ignore_ascii_case(SCHEME.as_bytes())
        .then_some(key.trim_ascii())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Result<ApiKey, ApiKeyError> {
        ApiKey::new(&text.to_owned().into())
    }

    #[test]
    fn only_the_key_itself_is_admitted() {
        let key = key("fleet-key").unwrap();
        for right in ["Bearer fleet-key", "bearer fleet-key", "BEARER  fleet-key"] {
            assert!(key.admits(Some(right.as_bytes())), "{right:?}");
        }
        for wrong in [
            "Bearer fleet-keyx",
            "Bearer fleet-ke",
            "Bearer ",
            "Bearer",
            "Basic fleet-key",
            "fleet-key",
            "",
        ] {
            assert!(!key.admits(Some(wrong.as_bytes())), "{wrong:?}");
        }
        assert!(!key.admits(None));
    }

    #[test]
    fn a_key_is_never_empty() {
        for empty in ["", " ", "\n", " \t "] {
            assert_eq!(key(empty).unwrap_err(), ApiKeyError::Empty, "{empty:?}");
        }
    }

    #[test]
    fn a_key_is_not_soon_guessed() {
        for weak in ["k", "secret", "1234567", "aaaaaaaaaaaaaaaa", "abcabcabcabc"] {
            let refused = key(weak).unwrap_err();
            assert_eq!(refused, ApiKeyError::Weak, "{weak:?}");
        }
        for fair in [
            "1234567890",
            "2026-11-25",
            "0123456789abcdef0123456789abcdef",
        ] {
            assert!(key(fair).is_ok(), "{fair:?}");
        }
    }

    #[test]
    fn a_key_can_be_sent() {
        for bad in [" a", "a ", "a\nb", "a\u{0}"] {
            assert_eq!(key(bad).unwrap_err(), ApiKeyError::Unsendable, "{bad:?}");
        }
        assert!(!format!("{:?}", key("hush-hush").unwrap()).contains("hush"));
    }
}
