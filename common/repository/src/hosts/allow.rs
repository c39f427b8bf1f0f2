//! The hosts that a sandbox may reach, compared label by label.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer};

use super::ecosystems::Ecosystem;
use super::name::{HostName, NameError};

/// Something that a list of allowed hosts can be made of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Entry {
    /// The registries of an ecosystem, such as `rust`.
    Ecosystem(Ecosystem),
    /// One host: `example.org`.
    Host(HostName),
    /// All hosts below a domain, and not the domain itself: `*.example.org`.
    Below(HostName),
}

/// An entry that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// A scheme, a path or a port is in it.
    #[error(
        "`{0}` is more than a host; write it alone, as in `example.org`, without scheme, port or path"
    )]
    NotOnlyHost(String),
    /// A star somewhere else than as the whole first label.
    #[error(
        "`{0}` has a `*` where it can't be; it can only stand as the whole first label, as in `*.example.org`"
    )]
    Star(String),
    /// A star over a whole top-level domain.
    #[error("`{0}` would allow a whole top-level domain; write at least two labels after `*.`")]
    TooWide(String),
    /// A single word that names no ecosystem.
    #[error("`{name}` is neither a host nor an ecosystem; ecosystems are: {known}", known = Ecosystem::names())]
    Unknown {
        /// The entry of the allow-list, as written.
        name: String,
    },
    /// Not a host name.
    #[error("`{text}` is not a host: {error}")]
    NotHost {
        /// The entry of the allow-list, as written.
        text: String,
        /// Why it names no host.
        error: NameError,
    },
}

impl FromStr for Entry {
    type Err = EntryError;

    fn from_str(text: &str) -> Result<Self, EntryError> {
        if let Some(ecosystem) = Ecosystem::named(text) {
            return Ok(Self::Ecosystem(ecosystem));
        }
        if text.contains(['/', ':', '?', '#', '@']) {
            return Err(EntryError::NotOnlyHost(text.to_owned()));
        }
        let (is_below, name) = match text.strip_prefix("*.") {
            Some(name) => (true, name),
            None => (false, text),
        };
        if name.contains('*') {
            return Err(EntryError::Star(text.to_owned()));
        }
        match HostName::parse(name) {
            Ok(name) if is_below => Ok(Self::Below(name)),
            Ok(name) => Ok(Self::Host(name)),
            Err(NameError::OneLabel) if is_below => Err(EntryError::TooWide(text.to_owned())),
            Err(NameError::OneLabel) => Err(EntryError::Unknown {
                name: text.to_owned(),
            }),
            Err(error) => Err(EntryError::NotHost {
                text: text.to_owned(),
                error,
            }),
        }
    }
}

impl<'de> Deserialize<'de> for Entry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ecosystem(ecosystem) => f.write_str(ecosystem.name),
            Self::Host(name) => name.fmt(f),
            Self::Below(name) => write!(f, "*.{name}"),
        }
    }
}

/// The hosts that may be reached; none, when empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AllowList {
    hosts: BTreeSet<HostName>,
    below: BTreeSet<String>,
}

impl AllowList {
    /// The hosts of these entries together.
    pub fn new<'a>(entries: impl IntoIterator<Item = &'a Entry>) -> Self {
        let mut list = Self::default();
        for entry in entries {
            match entry {
                Entry::Host(name) => {
                    list.hosts.insert(name.clone());
                }
                Entry::Below(name) => {
                    list.below.insert(name.as_str().to_owned());
                }
                Entry::Ecosystem(ecosystem) => list.hosts.extend(ecosystem.hosts()),
            }
        }
        list
    }

    /// Whether a host is on the list.
    pub fn contains(&self, host: &HostName) -> bool {
        self.hosts.contains(host) || host.parents().any(|domain| self.below.contains(domain))
    }

    /// Whether everything that an entry allows is allowed by this list too.
    pub fn covers(&self, entry: &Entry) -> bool {
        match entry {
            Entry::Host(name) => self.contains(name),
            Entry::Below(name) => {
                self.below.contains(name.as_str())
                    || name.parents().any(|domain| self.below.contains(domain))
            }
            Entry::Ecosystem(ecosystem) => ecosystem.hosts().iter().all(|it| self.contains(it)),
        }
    }

    /// The entries as written, for messages and for `sandbox explain`.
    pub fn patterns(&self) -> impl Iterator<Item = String> {
        let hosts = self.hosts.iter().map(ToString::to_string);
        hosts.chain(self.below.iter().map(|domain| format!("*.{domain}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(entries: &[&str]) -> AllowList {
        let entries: Vec<Entry> = entries.iter().map(|it| it.parse().unwrap()).collect();
        AllowList::new(&entries)
    }

    fn allows(list: &AllowList, host: &str) -> bool {
        HostName::parse(host).is_ok_and(|host| list.contains(&host))
    }

    #[test]
    fn hosts_match_whole_labels_only() {
        let list = list(&["example.org", "*.cdn.example.net"]);
        for host in [
            "example.org",
            "EXAMPLE.ORG.",
            "a.cdn.example.net",
            "a.b.cdn.example.net",
        ] {
            assert!(allows(&list, host), "{host} is refused");
        }
        for host in [
            "evilexample.org",
            "www.example.org",
            "example.org.evil.test",
            "cdn.example.net",
            "evilcdn.example.net",
            "example.net",
            "org",
        ] {
            assert!(!allows(&list, host), "{host} is allowed");
        }
        assert!(!allows(&AllowList::default(), "example.org"));
    }

    #[test]
    fn an_entry_is_an_ecosystem_a_host_or_all_below_a_domain() {
        for text in ["rust", "example.org", "*.example.org"] {
            assert_eq!(text.parse::<Entry>().unwrap().to_string(), text);
        }
        let cases = [
            ("https://example.org", "is more than a host"),
            ("example.org:443", "is more than a host"),
            ("example.org/path", "is more than a host"),
            ("*", "where it can't be"),
            ("a*.example.org", "where it can't be"),
            ("*.*.example.org", "where it can't be"),
            ("*.org", "a whole top-level domain"),
            ("*.", "the host name is empty"),
            ("rusty", "ecosystems are: dart, "),
            ("localhost", "neither a host nor an ecosystem"),
            ("10.0.0.1", "an IP address is not a host name"),
            ("*.0.0.1", "an IP address is not a host name"),
            ("a_b.example.org", "can't have the character '_'"),
            ("", "the host name is empty"),
        ];
        for (text, message) in cases {
            let error = text.parse::<Entry>().unwrap_err().to_string();
            assert!(error.contains(message), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_list_covers_what_it_would_allow_itself() {
        let list = list(&["rust", "example.org", "*.example.net"]);
        for text in [
            "rust",
            "index.crates.io",
            "example.org",
            "a.example.net",
            "*.example.net",
            "*.a.example.net",
        ] {
            assert!(list.covers(&text.parse().unwrap()), "{text}");
        }
        for text in ["node", "*.example.org", "example.net", "*.net.example"] {
            assert!(!list.covers(&text.parse().unwrap()), "{text}");
        }
    }
}
