//! Which IP addresses the gateway connects to for clients that name them.
//!
//! The gateway stands inside a network that its clients may not see. An address that a client names must not lead
//! there, unless the operator says so for this address. Looked at is the address that is dialled, after the name was
//! resolved, because a name can resolve to anything, and to something else the next time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

/// What an address is in its network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Anybody's.
    Public,
    /// The gateway's own machine or network: only if the operator says so.
    Inside,
    /// Nothing that a connection can be made to: never.
    Nowhere,
}

/// Of IANA's registry of special-purpose addresses.
const INSIDE_V4: [(Ipv4Addr, u8); 7] = [
    // Private.
    (Ipv4Addr::new(10, 0, 0, 0), 8),
    (Ipv4Addr::new(172, 16, 0, 0), 12),
    (Ipv4Addr::new(192, 168, 0, 0), 16),
    // Between a provider and its customers.
    (Ipv4Addr::new(100, 64, 0, 0), 10),
    (Ipv4Addr::new(127, 0, 0, 0), 8),
    // Link-local, with the metadata services of clouds.
    (Ipv4Addr::new(169, 254, 0, 0), 16),
    (Ipv4Addr::new(192, 0, 0, 0), 24),
];

const NOWHERE_V4: [(Ipv4Addr, u8); 7] = [
    // Some systems connect to themselves.
    (Ipv4Addr::new(0, 0, 0, 0), 8),
    // Documentation and measurements.
    (Ipv4Addr::new(192, 0, 2, 0), 24),
    (Ipv4Addr::new(198, 51, 100, 0), 24),
    (Ipv4Addr::new(203, 0, 113, 0), 24),
    (Ipv4Addr::new(198, 18, 0, 0), 15),
    // Multicast; reserved, and broadcast.
    (Ipv4Addr::new(224, 0, 0, 0), 4),
    (Ipv4Addr::new(240, 0, 0, 0), 4),
];

const INSIDE_V6: [(Ipv6Addr, u8); 9] = [
    (Ipv6Addr::LOCALHOST, 128),
    // Unique local, link-local, and site-local of old.
    (Ipv6Addr::new(0xfc00, 0, 0, 0, 0, 0, 0, 0), 7),
    (Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
    (Ipv6Addr::new(0xfec0, 0, 0, 0, 0, 0, 0, 0), 10),
    // What leads to an IPv4 address in it: NAT64, 6to4, Teredo, ISATAP's ancestor.
    (Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 96),
    (Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0, 0, 0, 0, 0xffff, 0, 0, 0), 96),
];

/// What is assigned to anybody at all; whatever else is not in a list above is nowhere.
const GLOBAL_V6: (Ipv6Addr, u8) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);
const DOCUMENTATION_V6: [(Ipv6Addr, u8); 2] = [
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// What this address is.
pub(crate) fn reach(address: IpAddr) -> Reach {
    match address {
        IpAddr::V4(address) => reach_v4(address),
        IpAddr::V6(address) => reach_v6(address),
    }
}

fn reach_v4(address: Ipv4Addr) -> Reach {
    let within = |(net, length): &(Ipv4Addr, u8)| {
        Ipv4Net::new(*net, *length).is_ok_and(|net| net.contains(&address))
    };
    match () {
        () if NOWHERE_V4.iter().any(within) => Reach::Nowhere,
        () if INSIDE_V4.iter().any(within) => Reach::Inside,
        () => Reach::Public,
    }
}

fn reach_v6(address: Ipv6Addr) -> Reach {
    // The same host as the IPv4 address, but a form that nobody needs: never what everybody may reach.
    if let Some(mapped) = address.to_ipv4_mapped() {
        return match reach_v4(mapped) {
            Reach::Nowhere => Reach::Nowhere,
            Reach::Inside | Reach::Public => Reach::Inside,
        };
    }
    let within = |(net, length): &(Ipv6Addr, u8)| {
        Ipv6Net::new(*net, *length).is_ok_and(|net| net.contains(&address))
    };
    match () {
        () if INSIDE_V6.iter().any(within) => Reach::Inside,
        () if DOCUMENTATION_V6.iter().any(within) => Reach::Nowhere,
        () if within(&GLOBAL_V6) => Reach::Public,
        () => Reach::Nowhere,
    }
}

#[cfg(test)]
mod tests {
    use super::Reach::{self, Inside, Nowhere, Public};
    use super::reach;

    #[test]
    fn each_special_purpose_range_is_known_up_to_its_edges() {
        let rows: &[(&str, Reach)] = &[
            ("0.0.0.0", Nowhere),
            ("0.255.255.255", Nowhere),
            ("1.0.0.0", Public),
            ("8.8.8.8", Public),
            ("9.255.255.255", Public),
            ("10.0.0.0", Inside),
            ("10.255.255.255", Inside),
            ("11.0.0.0", Public),
            ("100.63.255.255", Public),
            ("100.64.0.0", Inside),
            ("100.127.255.255", Inside),
            ("100.128.0.0", Public),
            ("126.255.255.255", Public),
            ("127.0.0.1", Inside),
            ("127.255.255.255", Inside),
            ("128.0.0.0", Public),
            ("169.253.255.255", Public),
            ("169.254.0.0", Inside),
            ("169.254.169.254", Inside),
            ("169.255.0.0", Public),
            ("172.15.255.255", Public),
            ("172.16.0.0", Inside),
            ("172.31.255.255", Inside),
            ("172.32.0.0", Public),
            ("192.0.0.8", Inside),
            ("192.0.2.1", Nowhere),
            ("192.167.255.255", Public),
            ("192.168.0.0", Inside),
            ("192.168.255.255", Inside),
            ("192.169.0.0", Public),
            ("198.18.0.1", Nowhere),
            ("198.51.100.7", Nowhere),
            ("203.0.113.7", Nowhere),
            ("223.255.255.255", Public),
            ("224.0.0.1", Nowhere),
            ("240.0.0.1", Nowhere),
            ("255.255.255.255", Nowhere),
            ("::", Nowhere),
            ("::1", Inside),
            ("::7f00:1", Nowhere),
            ("::ffff:127.0.0.1", Inside),
            ("::ffff:10.0.0.1", Inside),
            ("::ffff:8.8.8.8", Inside),
            ("::ffff:0.0.0.0", Nowhere),
            ("::ffff:0:8.8.8.8", Inside),
            ("64:ff9b::7f00:1", Inside),
            ("64:ff9b::808:808", Inside),
            ("64:ff9b:1::a00:1", Inside),
            ("100::1", Nowhere),
            ("2001::1", Inside),
            ("2001:db8::1", Nowhere),
            ("2002:7f00:1::", Inside),
            ("2002:808:808::1", Inside),
            ("2606:4700::1111", Public),
            ("3fff::1", Nowhere),
            ("5f00::1", Nowhere),
            ("fbff::1", Nowhere),
            ("fc00::1", Inside),
            ("fd12:3456::1", Inside),
            ("fe80::1", Inside),
            ("fec0::1", Inside),
            ("ff02::1", Nowhere),
        ];
        for (address, expected) in rows {
            assert_eq!(reach(address.parse().unwrap()), *expected, "{address}");
        }
    }
}
