//! What was refused, for the report of a run: bounded, each kind once with its count.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// How many different refusals are kept.
const MAX_KINDS: usize = 100;
/// How much of a host is kept that is no host name.
const MAX_HOST: usize = 255;

/// The part of a run that a command belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Dependencies are installed, with network through the allow-list.
    Setup,
    /// Drafts are made and tests run, without network.
    Work,
}

/// Why something was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reason {
    /// The host is not on the allow-list.
    HostNotAllowed,
    /// What was asked for is no host name.
    InvalidHost,
    /// An address instead of a name.
    AddressLiteral,
    /// A port other than those of HTTPS and, for plain requests, HTTP.
    PortNotAllowed,
    /// A method, path or body that is not forwarded.
    RequestNotAllowed,
    /// The name leads to an address that is not of the public internet.
    AddressNotPublic,
    /// The TLS handshake names another host.
    ServerNameMismatch,
    /// The TLS handshake names no host, or hides it, or is none.
    NoServerName,
    /// The TLS handshake was not begun in time.
    HandshakeTimeout,
    /// More bytes than a phase may exchange.
    TooManyBytes,
    /// A connection that took too long.
    TimeLimit,
    /// More connections at once than a sandbox may have.
    TooManyTunnels,
    /// The host is allowed and can't be reached.
    Unreachable,
}

impl Reason {
    /// Its name, as in headers and reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::HostNotAllowed => "host_not_allowed",
            Self::InvalidHost => "invalid_host",
            Self::AddressLiteral => "address_literal",
            Self::PortNotAllowed => "port_not_allowed",
            Self::RequestNotAllowed => "request_not_allowed",
            Self::AddressNotPublic => "address_not_public",
            Self::ServerNameMismatch => "server_name_mismatch",
            Self::NoServerName => "no_server_name",
            Self::HandshakeTimeout => "handshake_timeout",
            Self::TooManyBytes => "too_many_bytes",
            Self::TimeLimit => "time_limit",
            Self::TooManyTunnels => "too_many_tunnels",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A host that was refused, once or more often.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// The host as asked for: canonical when it is a name, else with control characters escaped.
    pub host: String,
    /// The phase of the run in which it was refused.
    pub phase: Phase,
    /// Why it was refused.
    pub reason: Reason,
    /// How often it was refused for that reason.
    pub times: u64,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            host,
            phase,
            reason,
            times,
        } = self;
        write!(f, "{host} was refused in the phase `{phase}`: {reason}")?;
        match times {
            1 => Ok(()),
            times => write!(f, " ({times} times)"),
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Setup => "setup",
            Self::Work => "work",
        })
    }
}

/// The refusals of one sandbox and phase. Clones share one list.
#[derive(Debug, Clone)]
pub struct Refusals {
    phase: Phase,
    kinds: Arc<Mutex<Kinds>>,
}

#[derive(Debug, Default)]
struct Kinds {
    times: BTreeMap<(String, Reason), u64>,
    others: u64,
}

impl Refusals {
    /// An empty list.
    pub fn new(phase: Phase) -> Self {
        Self {
            phase,
            kinds: Arc::default(),
        }
    }

    /// Records a refusal; the same one again is counted only.
    pub fn record(&self, host: &str, reason: Reason) {
        let host = printable(host);
        tracing::info!(host, phase = ?self.phase, reason = reason.as_str(), "network access refused");
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let is_full = kinds.times.len() >= MAX_KINDS;
        match kinds.times.get_mut(&(host.clone(), reason)) {
            Some(times) => *times = times.saturating_add(1),
            None if is_full => kinds.others = kinds.others.saturating_add(1),
            None => {
                kinds.times.insert((host, reason), 1);
            }
        }
    }

    /// All that were recorded, by host.
    pub fn list(&self) -> Vec<Refusal> {
        let kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let refusal = |((host, reason), times): (&(String, Reason), &u64)| Refusal {
            host: host.clone(),
            phase: self.phase,
            reason: *reason,
            times: *times,
        };
        kinds.times.iter().map(refusal).collect()
    }

    /// How many more there were for which the list had no room.
    pub fn others(&self) -> u64 {
        self.kinds
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .others
    }
}

fn printable(host: &str) -> String {
    let escape = |c: char| match c {
        c if c.is_ascii_graphic() => c.to_string(),
        c => c.escape_default().to_string(),
    };
    let mut text: String = host.chars().take(MAX_HOST).map(escape).collect();
    text.truncate(MAX_HOST);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_refusal_is_counted_and_the_list_is_bounded() {
        let refusals = Refusals::new(Phase::Setup);
        for _ in 0..3 {
            refusals.clone().record("evil.test", Reason::HostNotAllowed);
        }
        refusals.record("a\0b\u{202e}\n", Reason::InvalidHost);
        let list = refusals.list();
        assert_eq!(list[0].host, "a\\u{0}b\\u{202e}\\n");
        let expected = Refusal {
            host: "evil.test".to_owned(),
            phase: Phase::Setup,
            reason: Reason::HostNotAllowed,
            times: 3,
        };
        assert_eq!(list[1..], [expected]);
        for number in 0..1000 {
            refusals.record(&format!("h{number}.test"), Reason::HostNotAllowed);
        }
        assert_eq!((refusals.list().len(), refusals.others()), (MAX_KINDS, 902));
        assert!(printable(&"\0".repeat(9999)).len() <= MAX_HOST);
    }

    #[test]
    fn a_reason_is_written_as_it_is_named() {
        let text = serde_json::to_string(&Reason::ServerNameMismatch).unwrap();
        assert_eq!(text, format!("\"{}\"", Reason::ServerNameMismatch));
    }
}
