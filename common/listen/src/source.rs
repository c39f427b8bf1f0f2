//! Addresses of clients, and which of them are taken for one client.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// The network address that a connection comes from; limits are counted by it. What a header says
/// of others is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Source(Option<IpAddr>);

impl Source {
    /// The source of a connection whose address is not known; all of these are one.
    pub const UNKNOWN: Self = Self(None);

    /// True of connections from the same host.
    pub fn is_loopback(self) -> bool {
        self.0.is_some_and(|ip| ip.is_loopback())
    }
}

impl From<SocketAddr> for Source {
    /// A host with IPv6 has a whole /64, so that is one source.
    fn from(peer: SocketAddr) -> Self {
        Self(Some(match peer.ip().to_canonical() {
            IpAddr::V6(ip) if !ip.is_loopback() => {
                let network = ip.to_bits() >> 64 << 64;
                IpAddr::V6(Ipv6Addr::from_bits(network))
            }
            ip => ip,
        }))
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(ip) => ip.fmt(f),
            None => f.write_str("unknown"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(ip: &str) -> Source {
        SocketAddr::new(ip.parse().unwrap(), 40_000).into()
    }

    #[test]
    fn a_host_is_one_source_by_whichever_of_its_addresses_it_comes() {
        assert_eq!(source("2001:db8:0:1::1"), source("2001:db8:0:1::2"));
        assert_ne!(source("2001:db8:0:1::1"), source("2001:db8:0:2::1"));
        assert_eq!(source("::ffff:192.0.2.3"), source("192.0.2.3"));
        assert_ne!(source("192.0.2.3"), source("192.0.2.4"));
        assert!(source("::1").is_loopback() && source("::ffff:127.0.0.1").is_loopback());
        assert!(!Source::UNKNOWN.is_loopback());
    }
}
