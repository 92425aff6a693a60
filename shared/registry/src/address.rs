//! What kind of place an IP address is. Pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// The kind of place that an address stands for (IANA special-purpose address registries, RFC 6890).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Anywhere on the internet.
    Public,
    /// A private network: RFC 1918, shared address space (RFC 6598), unique local (RFC 4193).
    Private,
    /// This machine.
    Loopback,
    /// Where no registry and no storage of one lives: link-local, the metadata services of clouds, multicast,
    /// unspecified, reserved and documentation ranges.
    Forbidden,
}

/// Addresses outside the link-local range at which clouds answer with credentials or take commands: Azure's
/// wire server, Alibaba's and Oracle's metadata, AWS's metadata over IPv6.
const METADATA_V4: [Ipv4Addr; 3] =
    [Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(192, 0, 0, 192)];
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl Place {
    /// The place of `address`. An IPv4 address inside an IPv6 one counts as itself.
    pub(crate) fn of(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::of_v4(v4),
            IpAddr::V6(v6) => Self::of_v6(v6),
        }
    }

    fn of_v4(address: Ipv4Addr) -> Self {
        let [a, b, c, _] = address.octets();
        if METADATA_V4.contains(&address) || address.is_link_local() || address.is_multicast() {
            return Self::Forbidden;
        }
        match (a, b, c) {
            (127, ..) => Self::Loopback,
            (10, ..) | (172, 16..=31, _) | (192, 168, _) | (100, 64..=127, _) => Self::Private,
            (0 | 240..=255, ..)
            | (192, 0, 0 | 2)
            | (198, 18..=19, _)
            | (198, 51, 100)
            | (203, 0, 113)
            | (192, 88, 99) => Self::Forbidden,
            _ => Self::Public,
        }
    }

    fn of_v6(address: Ipv6Addr) -> Self {
        if address.is_loopback() {
            return Self::Loopback;
        }
        if address == METADATA_V6 {
            return Self::Forbidden;
        }
        if let Some(inner) = embedded_v4(address) {
            return Self::of_v4(inner);
        }
        match address.segments() {
            [0xfc00..=0xfdff, ..] => Self::Private,
            // Teredo and ORCHID (2001::/23) and documentation are inside global unicast, and lead nowhere good.
            [0x2001, 0..=0x01ff, ..] | [0x2001, 0xdb8, ..] | [0x3fff, 0..=0x0fff, ..] => Self::Forbidden,
            [0x2000..=0x3fff, ..] => Self::Public,
            _ => Self::Forbidden,
        }
    }
}

/// The IPv4 address that an IPv6 address stands for: mapped (`::ffff:0:0/96`), compatible (`::/96`), NAT64
/// (`64:ff9b::/96`) and 6to4 (`2002::/16`).
fn embedded_v4(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let from = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        Some(Ipv4Addr::new(a, b, c, d))
    };
    match address.segments() {
        [0, 0, 0, 0, 0, 0xffff, high, low] | [0x64, 0xff9b, 0, 0, 0, 0, high, low] => from(high, low),
        [0, 0, 0, 0, 0, 0, high, low] if high != 0 => from(high, low),
        [0x2002, high, low, ..] => from(high, low),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_special_range_has_its_place() {
        for (address, place) in [
            ("8.8.8.8", Place::Public),
            ("20.38.97.4", Place::Public),
            ("2606:4700::1111", Place::Public),
            ("127.0.0.1", Place::Loopback),
            ("127.8.9.10", Place::Loopback),
            ("::1", Place::Loopback),
            ("::ffff:127.0.0.1", Place::Loopback),
            ("10.1.2.3", Place::Private),
            ("172.16.0.1", Place::Private),
            ("172.31.255.255", Place::Private),
            ("172.32.0.1", Place::Public),
            ("192.168.1.1", Place::Private),
            ("100.64.0.1", Place::Private),
            ("fd12:3456::1", Place::Private),
            ("::ffff:10.0.0.1", Place::Private),
            ("64:ff9b::a00:1", Place::Private),
            ("2002:a00:1::", Place::Private),
            ("169.254.169.254", Place::Forbidden),
            ("::ffff:169.254.169.254", Place::Forbidden),
            ("64:ff9b::a9fe:a9fe", Place::Forbidden),
            ("168.63.129.16", Place::Forbidden),
            ("100.100.100.200", Place::Forbidden),
            ("fd00:ec2::254", Place::Forbidden),
            ("fe80::1", Place::Forbidden),
            ("0.0.0.0", Place::Forbidden),
            ("::", Place::Forbidden),
            ("224.0.0.1", Place::Forbidden),
            ("255.255.255.255", Place::Forbidden),
            ("ff02::1", Place::Forbidden),
            ("192.0.2.1", Place::Forbidden),
            ("2001:db8::1", Place::Forbidden),
            ("2001::1", Place::Forbidden),
        ] {
            assert_eq!(Place::of(address.parse().unwrap()), place, "{address}");
        }
    }
}
