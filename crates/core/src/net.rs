//! Which addresses of the Internet a request to a tenant's host may go to: only those that every router forwards. A host's
//! name may point anywhere, also into the network of whoever runs the service (server-side request forgery).

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use ipnet::{Ipv4Net, Ipv6Net};

const fn v4(a: u8, b: u8, c: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), prefix)
}

const fn v6(a: u16, b: u16, prefix: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), prefix)
}

/// Blocks of IPv4 that are not global: IANA's IPv4 Special-Purpose Address Registry, with 6to4's relays, multicast and what
/// is reserved.
const SPECIAL_V4: [Ipv4Net; 15] = [
    // This network; RFC 791.
    v4(0, 0, 0, 8),
    // Private; RFC 1918.
    v4(10, 0, 0, 8),
    // Between a provider and its customers (CGNAT); RFC 6598.
    v4(100, 64, 0, 10),
    // Loopback; RFC 1122.
    v4(127, 0, 0, 8),
    // Link-local, and clouds' metadata; RFC 3927.
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    // IETF protocols; RFC 6890.
    v4(192, 0, 0, 24),
    // Documentation; RFC 5737.
    v4(192, 0, 2, 24),
    // Relays of 6to4; RFC 7526.
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    // Benchmarks; RFC 2544.
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    // Multicast; RFC 5771.
    v4(224, 0, 0, 4),
    // Reserved, and broadcast; RFC 1112.
    v4(240, 0, 0, 4),
];

/// All global unicast addresses of IPv6 that IANA assigns; RFC 4291, section 2.4. Outside are loopback, `::`, addresses that
/// hold one of IPv4 (`::/96`, `::ffff:0:0/96`, `64:ff9b::/96`, `64:ff9b:1::/48`), `100::/64`, `5f00::/16`, unique local,
/// link-local, site-local and multicast ones.
const UNICAST_V6: Ipv6Net = v6(0x2000, 0, 3);

/// Blocks within it that are not global: IANA's IPv6 Special-Purpose Address Registry.
const SPECIAL_V6: [Ipv6Net; 4] = [
    // IETF protocols, Teredo among them; RFC 2928.
    v6(0x2001, 0, 23),
    // Documentation; RFC 3849.
    v6(0x2001, 0xdb8, 32),
    // 6to4, which holds an address of IPv4; RFC 3056.
    v6(0x2002, 0, 16),
    // Documentation; RFC 9637.
    v6(0x3fff, 0, 20),
];

/// Whether an address is global: of neither a private, local, shared, reserved nor documented network, nor a form of IPv6
/// that holds an address of IPv4.
#[must_use]
pub fn is_global(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => !SPECIAL_V4.iter().any(|block| block.contains(&address)),
        IpAddr::V6(address) => {
            UNICAST_V6.contains(&address) && !SPECIAL_V6.iter().any(|block| block.contains(&address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ipnet::IpNet;

    /// Each block that is not global, and whether the address before it and the one after it are global. `None`: there is no
    /// such address.
    const BLOCKS: [(&str, Option<bool>, Option<bool>); 36] = [
        ("0.0.0.0/8", None, Some(true)),
        ("10.0.0.0/8", Some(true), Some(true)),
        ("100.64.0.0/10", Some(true), Some(true)),
        ("127.0.0.0/8", Some(true), Some(true)),
        ("169.254.0.0/16", Some(true), Some(true)),
        ("172.16.0.0/12", Some(true), Some(true)),
        ("192.0.0.0/24", Some(true), Some(true)),
        ("192.0.2.0/24", Some(true), Some(true)),
        ("192.88.99.0/24", Some(true), Some(true)),
        ("192.168.0.0/16", Some(true), Some(true)),
        ("198.18.0.0/15", Some(true), Some(true)),
        ("198.51.100.0/24", Some(true), Some(true)),
        ("203.0.113.0/24", Some(true), Some(true)),
        ("224.0.0.0/4", Some(true), Some(false)),
        ("240.0.0.0/4", Some(false), None),
        ("255.255.255.255/32", Some(false), None),
        ("::/128", None, Some(false)),
        ("::1/128", Some(false), Some(false)),
        ("::/96", None, Some(false)),
        ("::ffff:0:0/96", Some(false), Some(false)),
        ("64:ff9b::/96", Some(false), Some(false)),
        ("64:ff9b:1::/48", Some(false), Some(false)),
        ("100::/64", Some(false), Some(false)),
        ("::/3", None, Some(true)),
        ("2001::/32", Some(true), Some(false)),
        ("2001:20::/28", Some(false), Some(false)),
        ("2001::/23", Some(true), Some(true)),
        ("2001:db8::/32", Some(true), Some(true)),
        ("2002::/16", Some(true), Some(true)),
        ("3fff::/20", Some(true), Some(true)),
        ("4000::/2", Some(true), Some(false)),
        ("5f00::/16", Some(false), Some(false)),
        ("fc00::/7", Some(false), Some(false)),
        ("fe80::/10", Some(false), Some(false)),
        ("fec0::/10", Some(false), Some(false)),
        ("ff00::/8", Some(false), None),
    ];

    fn neighbours(block: IpNet) -> [Option<IpAddr>; 2] {
        match block {
            IpNet::V4(block) => [
                u32::from(block.network()).checked_sub(1).map(|number| Ipv4Addr::from(number).into()),
                u32::from(block.broadcast()).checked_add(1).map(|number| Ipv4Addr::from(number).into()),
            ],
            IpNet::V6(block) => [
                u128::from(block.network()).checked_sub(1).map(|number| Ipv6Addr::from(number).into()),
                u128::from(block.broadcast()).checked_add(1).map(|number| Ipv6Addr::from(number).into()),
            ],
        }
    }

    #[test]
    fn a_special_block_is_refused_from_its_first_address_to_its_last() {
        for (text, before, after) in BLOCKS {
            let block: IpNet = text.parse().expect("a block");
            assert_eq!(block, block.trunc(), "{text}");
            assert!(!is_global(block.network()) && !is_global(block.broadcast()), "{text}");
            let found = neighbours(block).map(|address| address.map(is_global));
            assert_eq!(found, [before, after], "{text}");
        }
    }

    #[test]
    fn each_row_of_the_table_is_tested() {
        let is_tested = |block: IpNet| BLOCKS.iter().any(|(text, ..)| text.parse() == Ok(block));
        assert!(SPECIAL_V4.into_iter().all(|block| is_tested(block.into())));
        assert!(SPECIAL_V6.into_iter().all(|block| is_tested(block.into())));
    }

    #[test]
    fn public_hosts_are_global() {
        for text in ["1.1.1.1", "93.184.215.14", "2606:4700:4700::1111", "2a00:1450:4001::1", "2001:4860:4860::8888"] {
            assert!(is_global(text.parse().expect("an address")), "{text}");
        }
    }
}
