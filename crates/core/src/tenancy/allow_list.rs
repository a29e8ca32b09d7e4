//! The networks from which a key may be used.

use core::fmt;
use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The most networks of a key.
pub const NETWORKS_MAX: usize = 50;
/// The bits of an IPv6 address before the IPv4 address that it maps (`::ffff:0:0/96`).
const MAPPED_BITS: u8 = 96;

/// A network of addresses: IPv4, or IPv6 that maps no IPv4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AllowedNetwork(IpNet);

impl AllowedNetwork {
    /// Reads CIDR (`203.0.113.0/24`, `2001:db8::/32`) or one address. Bits of a host are cleared, and a network of IPv6
    /// that maps IPv4 is read as that. `None` for any other text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let network = match text.parse::<IpNet>() {
            Ok(network) => network,
            Err(_) => IpNet::from(text.parse::<IpAddr>().ok()?),
        };
        let mapped = match network {
            IpNet::V6(network) => network.addr().to_ipv4_mapped().zip(network.prefix_len().checked_sub(MAPPED_BITS)),
            IpNet::V4(_) => None,
        };
        let network = match mapped {
            Some((address, bits)) => IpNet::V4(Ipv4Net::new(address, bits).ok()?),
            None => network,
        };
        Some(Self(network.trunc()))
    }

    /// Whether an address is in the network. An IPv6 address that maps an IPv4 address counts as that.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

/// Whether every address of some networks, of which none stands for all, is in one of the others.
#[must_use]
pub fn is_within(networks: &[AllowedNetwork], others: &[AllowedNetwork]) -> bool {
    let is_in = |network: &AllowedNetwork| others.iter().any(|other| other.0.contains(&network.0));
    others.is_empty() || (!networks.is_empty() && networks.iter().all(is_in))
}

/// Whether a key may be used from an address: from everywhere where it names no network. An address that is not known is
/// in no network.
#[must_use]
pub fn is_allowed(networks: &[AllowedNetwork], from: Option<IpAddr>) -> bool {
    let is_in = |address: IpAddr| networks.iter().any(|network| network.contains(address));
    networks.is_empty() || from.is_some_and(is_in)
}

impl fmt::Display for AllowedNetwork {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

impl Serialize for AllowedNetwork {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for AllowedNetwork {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("not a network of addresses"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> AllowedNetwork {
        AllowedNetwork::parse(text).unwrap_or_else(|| panic!("{text}"))
    }

    #[test]
    fn a_network_is_written_in_one_way() {
        for (text, want) in [
            ("203.0.113.0/24", "203.0.113.0/24"),
            ("203.0.113.7/24", "203.0.113.0/24"),
            ("203.0.113.7", "203.0.113.7/32"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:DB8::1/32", "2001:db8::/32"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("::/0", "::/0"),
            ("::ffff:203.0.113.7", "203.0.113.7/32"),
            ("::ffff:203.0.113.7/120", "203.0.113.0/24"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
        ] {
            assert_eq!(network(text).to_string(), want, "{text}");
            assert_eq!(AllowedNetwork::parse(want), Some(network(text)), "{text}");
        }
        for wrong in [
            "",
            "x",
            "203.0.113",
            "203.0.113.0/33",
            "203.0.113.0/-1",
            "203.0.113.256",
            "::/129",
            "1.2.3.4/",
            " 1.2.3.4",
        ] {
            assert_eq!(AllowedNetwork::parse(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn an_address_is_in_a_network_whichever_way_it_is_written() {
        let is_in = |text: &str, address: &str| is_allowed(&[network(text)], address.parse().ok());
        for (text, inside, outside) in [
            ("203.0.113.0/24", "203.0.113.255", "203.0.114.0"),
            ("203.0.113.0/24", "::ffff:203.0.113.9", "::ffff:203.0.112.9"),
            ("::ffff:203.0.113.0/120", "203.0.113.9", "203.0.112.9"),
            ("203.0.113.7", "203.0.113.7", "203.0.113.8"),
            ("2001:db8::/32", "2001:db8:ffff::1", "2001:db9::1"),
            ("::/0", "2001:db8::1", "203.0.113.7"),
            ("0.0.0.0/0", "203.0.113.7", "2001:db8::1"),
        ] {
            assert!(is_in(text, inside) && !is_in(text, outside), "{text}");
        }
        assert!(is_allowed(&[], None), "no list allows all");
        assert!(!is_allowed(&[network("0.0.0.0/0")], None), "an address that is not known");
    }

    #[test]
    fn networks_lie_within_others_as_a_whole() {
        let list = |texts: &[&str]| texts.iter().map(|text| network(text)).collect::<Vec<_>>();
        let own = list(&["203.0.113.0/24", "2001:db8::/32"]);
        for inside in [&["203.0.113.7"][..], &["203.0.113.0/24"], &["203.0.113.128/25", "2001:db8:1::/48"]] {
            assert!(is_within(&list(inside), &own), "{inside:?}");
        }
        for outside in [&[][..], &["203.0.112.0/23"], &["203.0.113.7", "192.0.2.1"], &["0.0.0.0/0"], &["::/0"]] {
            assert!(!is_within(&list(outside), &own), "{outside:?}");
        }
        assert!(is_within(&[], &[]) && is_within(&list(&["192.0.2.1"]), &[]), "no list allows all");
    }

    proptest! {
        #[test]
        fn a_network_holds_its_own_address_and_none_of_another_half(address in any::<u32>(), bits in 1_u32..=32) {
            let address = std::net::Ipv4Addr::from(address);
            let text = format!("{address}/{bits}");
            prop_assert!(network(&text).contains(IpAddr::V4(address)));
            prop_assert!(network(&text).contains(IpAddr::V6(address.to_ipv6_mapped())));
            let other = std::net::Ipv4Addr::from(u32::from(address) ^ (1_u32 << 31 >> bits.saturating_sub(1)));
            prop_assert!(!network(&text).contains(IpAddr::V4(other)));
        }

        #[test]
        fn no_text_panics(text in ".*") {
            let _ = AllowedNetwork::parse(&text);
        }
    }
}
