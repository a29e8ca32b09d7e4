//! Where a request comes from, as coarsely as limits and audits need it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The prefix of a client's address: /24 of IPv4, /48 of IPv6, the size of one subscriber's or one office's network.
/// `unknown` where the platform names no address, as on a developer's machine.
#[must_use]
pub fn ip_prefix(address: Option<&str>) -> String {
    match address.and_then(|text| text.trim().parse::<IpAddr>().ok()).map(|address| address.to_canonical()) {
        Some(IpAddr::V4(address)) => {
            let [a, b, c, _] = address.octets();
            format!("{}/24", Ipv4Addr::new(a, b, c, 0))
        }
        Some(IpAddr::V6(address)) => {
            let [a, b, c, ..] = address.segments();
            format!("{}/48", Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0))
        }
        None => "unknown".to_owned(),
    }
}

/// The pattern (SQLite's `GLOB`) of the prefixes in the network around one: /16 of IPv4, /32 of IPv6, the size of what a
/// provider gives to one customer who asks for many prefixes.
#[must_use]
pub fn network_around(prefix: &str) -> String {
    let divider = if prefix.contains(':') { ':' } else { '.' };
    let mut parts = prefix.split(divider);
    match (parts.next(), parts.next()) {
        (Some(first), Some(second)) => format!("{first}{divider}{second}{divider}*"),
        (Some(_), None) | (None, _) => prefix.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_one_provider_are_around_each_other() {
        assert_eq!(network_around("203.0.113.0/24"), "203.0.*");
        assert_eq!(network_around("2001:db8:1::/48"), "2001:db8:*");
        assert_eq!(network_around("2001:db8::/48"), "2001:db8:*");
        assert_eq!(network_around("unknown"), "unknown");
    }

    #[test]
    fn addresses_of_one_network_are_one() {
        for (address, want) in [
            ("203.0.113.7", "203.0.113.0/24"),
            ("203.0.113.200", "203.0.113.0/24"),
            ("::ffff:203.0.113.7", "203.0.113.0/24"),
            ("2001:db8:1:2::3", "2001:db8:1::/48"),
            ("2001:DB8:1:ffff::", "2001:db8:1::/48"),
            ("203.0.113", "unknown"),
            ("", "unknown"),
        ] {
            assert_eq!(ip_prefix(Some(address)), want, "{address}");
        }
        assert_eq!(ip_prefix(None), "unknown");
    }
}
