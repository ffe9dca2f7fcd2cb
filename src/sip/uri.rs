//! SIP, SIPS, tel and other URIs (RFC 3261 §19.1, RFC 3966). A view: nothing is unescaped until names are compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub use crate::base::Host;
use crate::base::Transport;

use super::scan::{host_end, port, uri_end};

/// The scheme of a URI.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// `sip:`
    Sip,
    /// `sips:`
    Sips,
    /// `tel:`
    Tel,
    /// Any other.
    Other,
}

/// A URI taken apart.
#[derive(Clone, Copy, Debug)]
pub struct Uri<'a> {
    /// The whole text.
    pub text: &'a [u8],
    /// The scheme, compared without case.
    pub scheme: Scheme,
    /// User part as written, with a password if there is one; the number of a tel URI.
    pub user: Option<&'a [u8]>,
    /// The host; an empty name when the scheme is neither `sip` nor `sips`.
    pub host: Host<'a>,
    /// `host[:port]` as written.
    pub authority: &'a [u8],
    /// The port if one is written.
    pub port: Option<u16>,
    /// Parameters from the first semicolon behind the host, without headers.
    pub params: &'a [u8],
    /// Headers behind the question mark.
    pub headers: &'a [u8],
}

impl<'a> Uri<'a> {
    /// Reads a URI. Of an unknown scheme only the scheme is told. `None` when it is none: no scheme, white space or
    /// brackets inside, an unusable host or port.
    pub fn parse(text: &'a [u8]) -> Option<Uri<'a>> {
        if uri_end(text, 0) != text.len() {
            return None;
        }
        Self::parse_clean(text)
    }

    /// As [`Uri::parse`], for a text that is known to have no octet that a URI cannot have.
    pub(super) fn parse_clean(text: &'a [u8]) -> Option<Uri<'a>> {
        let (scheme, rest) = scheme(text)?;
        match scheme {
            Scheme::Sip | Scheme::Sips => sip(text, scheme, rest),
            Scheme::Tel => tel(text, rest),
            Scheme::Other => {
                let empty = &text[text.len()..];
                let host = Host::Name(empty);
                Some(Uri {
                    text,
                    scheme,
                    user: None,
                    host,
                    authority: empty,
                    port: None,
                    params: empty,
                    headers: empty,
                })
            }
        }
    }

    /// The value of a parameter; empty for a flag. Names are compared without case and unescaped once
    /// (RFC 3261 §19.1.4).
    pub fn param(&self, name: &[u8]) -> Option<&'a [u8]> {
        self.params.split(|&octet| octet == b';').skip(1).find_map(|param| {
            let equals = memchr::memchr(b'=', param);
            let (key, value) = match equals {
                Some(at) => (&param[..at], &param[at + 1..]),
                None => (param, &param[param.len()..]),
            };
            same_unescaped(key, name).then_some(value)
        })
    }

    /// The transport that the URI asks for, if it is one that Tandem speaks: TLS for SIPS, whatever its parameter says
    /// (RFC 3261 §26.2.2), else that of the `transport` parameter.
    pub fn transport(&self) -> Option<Transport> {
        match self.scheme {
            Scheme::Sips => Some(Transport::Tls),
            _ => Transport::parse(self.param(b"transport")?),
        }
    }

    /// Whether the URI has the `lr` parameter: a loose router (RFC 3261 §19.1.1).
    pub fn is_loose(&self) -> bool {
        self.param(b"lr").is_some()
    }

    /// The port to send to: the one written, else 5061 for SIPS and for TLS, 5060 for the rest (RFC 3261 §19.1.2).
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| self.transport().map_or(5060, Transport::default_port))
    }
}

fn scheme(text: &[u8]) -> Option<(Scheme, &[u8])> {
    if let Some(rest) = text.strip_prefix(b"sip:") {
        return Some((Scheme::Sip, rest));
    }
    let colon = memchr::memchr(b':', text)?;
    let (name, rest) = (&text[..colon], &text[colon + 1..]);
    // RFC 3986 §3.1: ALPHA *( ALPHA / DIGIT / "+" / "-" / "." )
    let wellformed = name.first()?.is_ascii_alphabetic()
        && name.iter().all(|o| o.is_ascii_alphanumeric() || matches!(o, b'+' | b'-' | b'.'));
    let scheme = match name {
        _ if !wellformed || rest.is_empty() => return None,
        _ if name.eq_ignore_ascii_case(b"sip") => Scheme::Sip,
        _ if name.eq_ignore_ascii_case(b"sips") => Scheme::Sips,
        _ if name.eq_ignore_ascii_case(b"tel") => Scheme::Tel,
        _ => Scheme::Other,
    };
    Some((scheme, rest))
}

fn sip<'a>(text: &'a [u8], scheme: Scheme, rest: &'a [u8]) -> Option<Uri<'a>> {
    // Behind the user part a bare @ is legal nowhere, so the first one ends it, whatever ; ? / stand before it.
    let (user, rest) = match memchr::memchr(b'@', rest) {
        Some(0) => return None,
        Some(at) => (Some(&rest[..at]), &rest[at + 1..]),
        None => (None, rest),
    };
    let place = Place::read(rest, 0)?;
    let (authority, tail) = rest.split_at(place.end);
    let (params, headers) = match memchr::memchr(b'?', tail) {
        Some(at) => (&tail[..at], &tail[at + 1..]),
        None => (tail, &tail[tail.len()..]),
    };
    if !params.is_empty() && params[0] != b';' {
        return None;
    }
    let host = parse_host(&rest[..place.host_end])?;
    Some(Uri { text, scheme, user, host, authority, port: place.port, params, headers })
}

fn tel<'a>(text: &'a [u8], rest: &'a [u8]) -> Option<Uri<'a>> {
    let number = memchr::memchr(b';', rest).unwrap_or(rest.len());
    let (user, params) = rest.split_at(number);
    let empty = &text[text.len()..];
    let host = Host::Name(empty);
    (!user.is_empty()).then_some(Uri {
        text,
        scheme: Scheme::Tel,
        user: Some(user),
        host,
        authority: empty,
        port: None,
        params,
        headers: empty,
    })
}

/// Where host and port of a `hostport` stand.
pub(super) struct Place {
    pub(super) host_end: usize,
    pub(super) port: Option<u16>,
    /// One past the port, or past the host if there is none.
    pub(super) end: usize,
}

impl Place {
    /// Reads the extent of `host[:port]` at `at` without white space. `None`: no host, or no usable port.
    pub(super) fn read(text: &[u8], at: usize) -> Option<Place> {
        let host_end = Self::host(text, at)?;
        if text.get(host_end) != Some(&b':') {
            return Some(Place { host_end, port: None, end: host_end });
        }
        let digits = host_end + 1;
        let end = digits + text[digits..].iter().take_while(|o| o.is_ascii_digit()).count();
        Some(Place { host_end, port: Some(port(&text[digits..end])?), end })
    }

    /// One past the host at `at`: a name, an IPv4 address, or an IPv6 reference in brackets.
    pub(super) fn host(text: &[u8], at: usize) -> Option<usize> {
        let end = match text.get(at)? {
            b'[' => at + memchr::memchr(b']', &text[at..])? + 1,
            _ => host_end(text, at),
        };
        (end > at).then_some(end)
    }
}

/// Reads a host as written in a URI or Via, an IPv6 address in brackets.
pub fn parse_host(text: &[u8]) -> Option<Host<'_>> {
    match text {
        [] => None,
        [b'[', inner @ .., b']'] => ipv6(inner).map(|ip| Host::Ip(IpAddr::V6(ip))),
        // A host name never ends with a digit label (RFC 3261 §25.1 toplabel): all else is not worth a try.
        [.., last] if last.is_ascii_digit() => match ipv4(text) {
            Some(ip) => Some(Host::Ip(IpAddr::V4(ip))),
            None => Some(Host::Name(text)),
        },
        _ => Some(Host::Name(text)),
    }
}

/// An IP address without or with brackets, as `received` is written (RFC 5118 §4.5).
pub(super) fn parse_ip(text: &[u8]) -> Option<IpAddr> {
    match text {
        [b'[', inner @ .., b']'] => ipv6(inner).map(IpAddr::V6),
        _ => ipv4(text).map(IpAddr::V4).or_else(|| ipv6(text).map(IpAddr::V6)),
    }
}

/// Four decimal numbers without leading zeros, in one pass: every Via and URI of every message has one.
fn ipv4(text: &[u8]) -> Option<Ipv4Addr> {
    if text.len() > 15 || !text.first()?.is_ascii_digit() {
        return None;
    }
    let (mut address, mut dots, mut octet, mut digits) = (0u32, 0, 0u32, 0);
    for &letter in text {
        match letter {
            b'0'..=b'9' if digits == 0 || (octet != 0 && digits < 3) => {
                octet = octet * 10 + u32::from(letter - b'0');
                digits += 1;
            }
            b'.' if digits != 0 && octet <= 255 => {
                address = address << 8 | octet;
                (dots, octet, digits) = (dots + 1, 0, 0);
            }
            _ => return None,
        }
    }
    (dots == 3 && digits != 0 && octet <= 255).then(|| Ipv4Addr::from(address << 8 | octet))
}

fn ipv6(text: &[u8]) -> Option<Ipv6Addr> {
    let text = std::str::from_utf8(text).ok()?;
    if let Ok(ip) = text.parse() {
        return Some(ip);
    }
    // RFC 5118 §4.10: the grammar of RFC 3261 lets three colons stand for two.
    let at = text.find(":::")?;
    let mut repaired = [0u8; 46];
    let length = text.len() - 1;
    let target = repaired.get_mut(..length)?;
    target[..at].copy_from_slice(&text.as_bytes()[..at]);
    target[at..].copy_from_slice(&text.as_bytes()[at + 1..]);
    std::str::from_utf8(target).ok()?.parse().ok()
}

/// Whether `text`, unescaped once, equals `name` without case.
fn same_unescaped(text: &[u8], name: &[u8]) -> bool {
    let mut rest = text;
    for &wanted in name {
        let octet = match rest {
            [b'%', high, low, tail @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest = tail;
                hex(*high) << 4 | hex(*low)
            }
            [octet, tail @ ..] => {
                rest = tail;
                *octet
            }
            [] => return false,
        };
        if !octet.eq_ignore_ascii_case(&wanted) {
            return false;
        }
    }
    rest.is_empty()
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv4_literal_has_four_numbers_without_leading_zeros() {
        for text in ["0.0.0.0", "255.255.255.255", "192.0.2.1", "10.0.0.10"] {
            assert_eq!(ipv4(text.as_bytes()), text.parse().ok(), "{text}");
        }
        for text in [
            "",
            ".",
            "1.2.3",
            "1.2.3.",
            "1.2.3.4.",
            "1.2.3.4.5",
            "1..2.3",
            "256.1.1.1",
            "1.2.3.256",
            "01.2.3.4",
            "1.2.3.00",
            "1.2.3.4444",
            "a.2.3.4",
            "1.2.3.-4",
            "999999999999999",
        ] {
            assert_eq!(ipv4(text.as_bytes()), None, "{text}");
        }
    }
}
