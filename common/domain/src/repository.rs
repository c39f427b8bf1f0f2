//! Names that GitHub gives: a repository's full name and an issue's number.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::id::InvalidId;

/// A repository's full name, `owner/name`, as GitHub spells it. Compares without regard to
/// case, as GitHub does, because it is kept in lower case.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RepositoryName(String);

impl RepositoryName {
    /// `owner/name`.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The part before the slash.
    pub fn owner(&self) -> &str {
        self.0.split_once('/').map_or("", |(owner, _)| owner)
    }

    /// The part after the slash.
    pub fn name(&self) -> &str {
        self.0.split_once('/').map_or("", |(_, name)| name)
    }
}

fn is_segment(text: &str) -> bool {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    !text.is_empty()
        && text.len() <= 100
        && text.chars().all(allowed)
        && text != "."
        && text != ".."
}

impl FromStr for RepositoryName {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('/') {
            Some((owner, name)) if is_segment(owner) && is_segment(name) => {
                Ok(Self(text.to_ascii_lowercase()))
            }
            _ => Err(InvalidId {
                what: "repository name",
                text: text.to_owned(),
                expected: "owner/name",
            }),
        }
    }
}

impl TryFrom<String> for RepositoryName {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Self, InvalidId> {
        text.parse()
    }
}

impl From<RepositoryName> for String {
    fn from(name: RepositoryName) -> Self {
        name.0
    }
}

impl fmt::Display for RepositoryName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// True when GitHub takes two names of labels for the same: it does not mind case.
pub fn is_same_label(one: &str, other: &str) -> bool {
    one == other || one.to_lowercase() == other.to_lowercase()
}

/// An issue's or pull request's number within its repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IssueNumber(pub u64);

impl fmt::Display for IssueNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_compare_as_github_compares_them() {
        let name: RepositoryName = "Acme/Orders".parse().unwrap();
        assert_eq!(name, "acme/orders".parse().unwrap());
        assert_eq!((name.owner(), name.name()), ("acme", "orders"));
        for bad in ["acme", "acme/", "/x", "a/b/c", "../x", "a/..", "a b/c"] {
            assert!(
                bad.parse::<RepositoryName>().is_err(),
                "{bad:?} was accepted"
            );
        }
    }
}
