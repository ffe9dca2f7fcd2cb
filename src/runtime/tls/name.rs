//! SIP domain identities (RFC 5922 §7): whole names, compared without case; never a wildcard, a suffix or a Common Name.

use std::fmt;
use std::net::IpAddr;

/// A name that a certificate must prove.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Name {
    /// A DNS name, lower case, without a dot at its end.
    Domain(Box<str>),
    /// An IP literal. RFC 5922 knows domains only; resources are often addressed by IP, so an `iPAddress` in
    /// subjectAltName proves one here.
    Address(IpAddr),
}

impl Name {
    /// The host of a URI, with or without brackets. `None`: no text, or not ASCII.
    pub fn parse(host: &str) -> Option<Self> {
        let literal = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        if let Ok(ip) = literal.parse::<IpAddr>() {
            return Some(Name::Address(ip.to_canonical()));
        }
        let name = host.strip_suffix('.').unwrap_or(host);
        (!name.is_empty() && name.is_ascii()).then(|| Name::Domain(name.to_ascii_lowercase().into()))
    }

    /// The host of `host:port` or `host` as in a URI.
    pub fn of_authority(authority: &[u8]) -> Option<Self> {
        let text = std::str::from_utf8(authority).ok()?;
        let bare = text.rsplit_once(':').filter(|(host, _)| !host.contains(':') || host.ends_with(']'));
        Self::parse(bare.map_or(text, |(host, _)| host))
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Name::Domain(name) => f.write_str(name),
            Name::Address(ip) => ip.fmt(f),
        }
    }
}

/// The domain that a `uniformResourceIdentifier` names: `sip:` without a user part (RFC 5922 §7.1); parameters and a port
/// are not compared.
#[cfg(feature = "tls")]
pub(super) fn of_uri(uri: &str) -> Option<Name> {
    let (scheme, rest) = uri.split_once(':')?;
    if !scheme.eq_ignore_ascii_case("sip") || rest.contains('@') {
        return None;
    }
    let end = rest.find([';', '?']).unwrap_or(rest.len());
    Name::of_authority(&rest.as_bytes()[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_a_domain_or_an_address() {
        let parse = |t| Name::parse(t).unwrap();
        assert_eq!(parse("SIP.Example.com."), Name::Domain("sip.example.com".into()));
        assert_eq!(parse("[2001:DB8::1]"), Name::Address("2001:db8::1".parse().unwrap()));
        assert_eq!(parse("192.0.2.1"), parse("::ffff:192.0.2.1"));
        assert_eq!((Name::parse(""), Name::parse("."), Name::parse("b\u{fc}cher.example")), (None, None, None));
        let of = |t: &str| Name::of_authority(t.as_bytes()).unwrap().to_string();
        assert_eq!(
            [of("a.example:5061"), of("a.example"), of("[2001:db8::1]:5061"), of("[2001:db8::1]")],
            ["a.example", "a.example", "2001:db8::1", "2001:db8::1"]
        );
    }

    #[cfg(feature = "tls")]
    #[test]
    fn only_a_sip_uri_without_a_user_is_a_domain() {
        assert_eq!(of_uri("SIP:Example.com;transport=tls"), Name::parse("example.com"));
        assert_eq!(of_uri("sip:example.com:5061"), Name::parse("example.com"));
        for other in ["sips:example.com", "sip:a@example.com", "https://example.com", "example.com", "sip:"] {
            assert_eq!(of_uri(other), None, "{other}");
        }
    }
}
