//! A range of IP addresses: `192.0.2.0/24`, `2001:db8::/32`, or one address.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address and how many of its leading bits count. The others are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    first: IpAddr,
    length: u8,
}

impl Prefix {
    /// Reads `IP/LENGTH` or `IP`; says why not, and what to write.
    pub(super) fn read(text: &str) -> Result<Self, (&'static str, String)> {
        let forms = || String::from("write a network such as \"192.0.2.0/24\" or \"2001:db8::/32\", or one address");
        let (ip, length) = text.split_once('/').map_or((text, None), |(ip, length)| (ip, Some(length)));
        let ip: IpAddr = ip.parse().map_err(|_| ("is no network and no address", forms()))?;
        if ip.to_canonical() != ip {
            return Err(("is IPv4 written as IPv6", format!("write it as {}", ip.to_canonical())));
        }
        let whole = if ip.is_ipv4() { 32 } else { 128 };
        let length = match length {
            None => whole,
            Some(text) => match text.parse::<u8>() {
                Ok(length) if length <= whole && text.bytes().all(|b| b.is_ascii_digit()) => length,
                _ => return Err(("has an impossible length", format!("write 0 to {whole} after the slash"))),
            },
        };
        let prefix = Self { first: masked(ip, length), length };
        if prefix.first != ip {
            let suggestion = format!("write \"{prefix}\" for the network, \"{ip}\" for the host");
            return Err(("is a host inside of a network", suggestion));
        }
        Ok(prefix)
    }

    /// The lowest address.
    pub fn first(&self) -> IpAddr {
        self.first
    }

    /// The highest address.
    pub fn last(&self) -> IpAddr {
        match self.first {
            IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() | rest_v4(self.length)).into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() | rest_v6(self.length)).into(),
        }
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.length)
    }
}

fn masked(ip: IpAddr, length: u8) -> IpAddr {
    match ip {
        IpAddr::V4(ip) => Ipv4Addr::from_bits(ip.to_bits() & !rest_v4(length)).into(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !rest_v6(length)).into(),
    }
}

/// The bits behind the first `length` ones.
fn rest_v4(length: u8) -> u32 {
    u32::MAX.checked_shr(length.into()).unwrap_or(0)
}

fn rest_v6(length: u8) -> u128 {
    u128::MAX.checked_shr(length.into()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_is_a_range() {
        let range = |text: &str| {
            let prefix = Prefix::read(text).unwrap();
            format!("{prefix} {} {}", prefix.first(), prefix.last())
        };
        assert_eq!(range("192.0.2.0/24"), "192.0.2.0/24 192.0.2.0 192.0.2.255");
        assert_eq!(range("192.0.2.7"), "192.0.2.7/32 192.0.2.7 192.0.2.7");
        assert_eq!(range("0.0.0.0/0"), "0.0.0.0/0 0.0.0.0 255.255.255.255");
        assert_eq!(range("10.0.0.0/9"), "10.0.0.0/9 10.0.0.0 10.127.255.255");
        assert_eq!(range("2001:db8::/33"), "2001:db8::/33 2001:db8:: 2001:db8:7fff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(range("::/0"), "::/0 :: ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff");
        assert_eq!(range("2001:db8::1/128"), "2001:db8::1/128 2001:db8::1 2001:db8::1");
    }

    #[test]
    fn what_is_no_prefix_is_refused_with_what_to_write() {
        let refused = |text: &str| Prefix::read(text).unwrap_err();
        for text in ["", "any", "192.0.2", "192.0.2.0:5060", "[2001:db8::1]", "/24", "192.0.2.0 /24"] {
            assert_eq!(refused(text).0, "is no network and no address", "{text}");
        }
        for text in ["192.0.2.0/33", "192.0.2.0/", "192.0.2.0/+8", "192.0.2.0/-1", "2001:db8::/129", "192.0.2.0/24/8"] {
            assert_eq!(refused(text).0, "has an impossible length", "{text}");
        }
        let (why, cure) = refused("192.0.2.5/24");
        assert_eq!(why, "is a host inside of a network");
        assert_eq!(cure, "write \"192.0.2.0/24\" for the network, \"192.0.2.5\" for the host");
        assert_eq!(refused("::ffff:192.0.2.1").1, "write it as 192.0.2.1");
    }
}
