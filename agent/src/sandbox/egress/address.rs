//! Which addresses may be dialled: those of the public internet.
//!
//! No released crate has the table (the standard library's `is_global` is unstable), so it is here,
//! after IANA's registries of special-purpose addresses for IPv4 and IPv6 (RFC 6890 and updates).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(first: u16, second: u16, third: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, third, 0, 0, 0, 0, 0), prefix)
}

/// IPv4 addresses that are not of the public internet.
const SPECIAL_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),        // "this network", RFC 791
    v4(10, 0, 0, 0, 8),       // private, RFC 1918
    v4(100, 64, 0, 0, 10),    // shared by carriers (CGNAT), RFC 6598; some clouds' metadata
    v4(127, 0, 0, 0, 8),      // loopback, RFC 1122
    v4(168, 63, 129, 16, 32), // Azure's host, a public address that only reaches the platform
    v4(169, 254, 0, 0, 16),   // link local, RFC 3927; metadata of most clouds
    v4(172, 16, 0, 0, 12),    // private, RFC 1918
    v4(192, 0, 0, 0, 24),     // protocol assignments, RFC 6890; metadata of one cloud
    v4(192, 0, 2, 0, 24),     // documentation, RFC 5737
    v4(192, 31, 196, 0, 24),  // AS112, RFC 7535
    v4(192, 52, 193, 0, 24),  // AMT, RFC 7450
    v4(192, 88, 99, 0, 24),   // 6to4 relays, RFC 7526
    v4(192, 168, 0, 0, 16),   // private, RFC 1918
    v4(192, 175, 48, 0, 24),  // AS112, RFC 7534
    v4(198, 18, 0, 0, 15),    // benchmarks, RFC 2544
    v4(198, 51, 100, 0, 24),  // documentation, RFC 5737
    v4(203, 0, 113, 0, 24),   // documentation, RFC 5737
    v4(224, 0, 0, 0, 4),      // multicast, RFC 1112
    v4(240, 0, 0, 0, 4),      // reserved and broadcast, RFC 1112, RFC 919
];

/// The only IPv6 addresses that are given out for the public internet, RFC 4291.
const GLOBAL_UNICAST: Ipv6Net = v6(0x2000, 0, 0, 3);

/// What is special within it.
const SPECIAL_V6: &[Ipv6Net] = &[
    v6(0x2001, 0, 0, 23), // protocol assignments with Teredo and ORCHID, RFC 2928
    v6(0x2001, 0xdb8, 0, 32), // documentation, RFC 3849
    v6(0x2002, 0, 0, 16), // 6to4, which embeds any IPv4 address, RFC 3056
    v6(0x2620, 0x4f, 0x8000, 48), // AS112, RFC 7534
    v6(0x3fff, 0, 0, 20), // documentation, RFC 9637
];

/// Translation to IPv4 with the address in the last 32 bits, RFC 6052: what hosts without IPv4
/// have for all others.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 0, 96);

/// What no configuration opens: the host itself and its platform.
const NEVER: &[IpNet] = &[
    IpNet::V4(v4(0, 0, 0, 0, 8)),
    IpNet::V4(v4(127, 0, 0, 0, 8)),
    IpNet::V4(v4(168, 63, 129, 16, 32)),
    IpNet::V4(v4(169, 254, 0, 0, 16)),
    IpNet::V4(v4(224, 0, 0, 0, 3)),
    IpNet::V6(v6(0, 0, 0, 32)), // unspecified, loopback, mapped and compatible IPv4
    IpNet::V6(v6(0x64, 0xff9b, 0, 32)),
    IpNet::V6(v6(0x2002, 0, 0, 16)),
    IpNet::V6(v6(0xfe80, 0, 0, 10)),
    IpNet::V6(v6(0xff00, 0, 0, 8)),
    // Amazon's metadata service.
    IpNet::V6(Ipv6Net::new_assert(
        Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
        128,
    )),
];

/// Whether an address is one of the public internet.
pub fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|net| net.contains(&address)),
        IpAddr::V6(address) if NAT64.contains(&address) => is_public(embedded(address).into()),
        // IPv4-mapped addresses are outside too: a resolver has no reason to answer with one.
        IpAddr::V6(address) => {
            GLOBAL_UNICAST.contains(&address)
                && !SPECIAL_V6.iter().any(|net| net.contains(&address))
        }
    }
}

fn embedded(address: Ipv6Addr) -> Ipv4Addr {
    let [.., a, b, c, d] = address.octets();
    Ipv4Addr::new(a, b, c, d)
}

/// The addresses that may be dialled: public ones, and networks that the operator opened because
/// the installation's own mirrors of registries are there.
#[derive(Debug, Clone, Default)]
pub struct AddressRules {
    opened: Vec<IpNet>,
}

/// A network that can't be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} has addresses of the host itself, its links or its platform, which are never opened")]
pub struct NetworkError(IpNet);

impl AddressRules {
    /// Also takes addresses of these networks.
    ///
    /// # Errors
    /// When a network has loopback, link-local, multicast or metadata addresses in it.
    pub fn opening(networks: impl IntoIterator<Item = IpNet>) -> Result<Self, NetworkError> {
        let opened: Vec<IpNet> = networks.into_iter().collect();
        let overlap = |a: &IpNet, b: &IpNet| a.contains(b) || b.contains(a);
        match opened
            .iter()
            .find(|net| NEVER.iter().any(|never| overlap(net, never)))
        {
            Some(net) => Err(NetworkError(*net)),
            None => Ok(Self { opened }),
        }
    }

    /// Whether an address may be dialled.
    pub fn allow(&self, address: IpAddr) -> bool {
        is_public(address) || self.opened.iter().any(|net| net.contains(&address))
    }
}

/// True for an address of the loopback.
pub fn is_this_host(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_of_the_public_internet_are_public() {
        for address in [
            "93.184.216.34",
            "1.1.1.1",
            "100.63.255.255",
            "100.128.0.0",
            "172.32.0.1",
            "223.255.255.255",
            "2606:4700::6810:1",
            "2a04:4e42::223",
            "64:ff9b::1.1.1.1",
        ] {
            assert!(is_public(address.parse().unwrap()), "{address}");
        }
        for address in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "100.100.100.200",
            "127.0.0.1",
            "127.255.255.254",
            "168.63.129.16",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.7",
            "203.0.113.9",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:10.0.0.1",
            "::ffff:1.1.1.1",
            "::127.0.0.1",
            "64:ff9b::10.0.0.1",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:2::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "5f00::1",
            "fc00::1",
            "fd00:ec2::254",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(address.parse().unwrap()), "{address}");
        }
    }

    #[test]
    fn a_network_of_mirrors_can_be_opened_but_never_the_host_itself() {
        let rules = AddressRules::opening(["10.20.0.0/16".parse().unwrap()]).unwrap();
        assert!(rules.allow("10.20.3.4".parse().unwrap()));
        assert!(!rules.allow("10.21.0.1".parse().unwrap()));
        assert!(rules.allow("1.1.1.1".parse().unwrap()));
        for net in [
            "0.0.0.0/0",
            "127.0.0.0/8",
            "127.0.0.1/32",
            "169.254.169.254/32",
            "168.0.0.0/8",
            "::/0",
            "::1/128",
            "::ffff:0:0/96",
            "fe80::/64",
            "fd00::/8",
        ] {
            assert!(
                AddressRules::opening([net.parse().unwrap()]).is_err(),
                "{net}"
            );
        }
    }
}
