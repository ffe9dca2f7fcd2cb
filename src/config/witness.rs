//! `cluster.witness`: who decides which node of a pair goes on when they do not hear each other.

use std::fmt;
use std::net::Ipv6Addr;

use super::entry::Refused;

/// Where a witness is, and what it speaks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Witness {
    /// `udp:HOST:PORT`: `tandem witness`.
    Own(Host),
    /// `etcd:http://HOST:PORT`: the JSON gateway of etcd, version 3, without TLS.
    Etcd(Host),
}

/// A host with a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    /// A name or an address, an IPv6 address without its brackets.
    pub name: String,
    /// The port.
    pub port: u16,
}

const FORM: &str = "write \"udp:HOST:9802\" for `tandem witness`, or \"etcd:http://HOST:2379\"";

/// Reads `cluster.witness`.
pub(super) fn witness(text: &str) -> Result<Witness, Refused> {
    if text.starts_with("etcd:https:") {
        const CURE: &str = "let this host's own etcd gateway (`etcd grpc-proxy`) or a TLS proxy listen on loopback, and \
                            write \"etcd:http://127.0.0.1:PORT\"";
        return Err(("asks for TLS, which is not spoken to etcd", CURE));
    }
    if let Some(rest) = text.strip_prefix("udp:") {
        return host(rest).map(Witness::Own);
    }
    let rest = text.strip_prefix("etcd:http://").ok_or(("is no witness", FORM))?;
    host(rest.strip_suffix('/').unwrap_or(rest)).map(Witness::Etcd)
}

fn host(text: &str) -> Result<Host, Refused> {
    let (name, port) = text.rsplit_once(':').ok_or(("has no port", FORM))?;
    let port = port.parse().ok().filter(|port| *port > 0).ok_or(("has no port", FORM))?;
    let name = match name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(ip) if ip.parse::<Ipv6Addr>().is_ok() => ip,
        Some(_) => return Err(("has no host", FORM)),
        None => name,
    };
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._".contains(&b);
    let sound = name.parse::<Ipv6Addr>().is_ok() && text.starts_with('[') || name.bytes().all(plain);
    if name.is_empty() || name.len() > 253 || !sound {
        return Err(("has no host", FORM));
    }
    Ok(Host { name: name.into(), port })
}

/// As written after the scheme.
impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Host { name, port } = self;
        if name.contains(':') { write!(f, "[{name}]:{port}") } else { write!(f, "{name}:{port}") }
    }
}

/// As written.
impl fmt::Display for Witness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Witness::Own(host) => write!(f, "udp:{host}"),
            Witness::Etcd(host) => write!(f, "etcd:http://{host}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        for text in
            ["udp:192.0.2.5:9802", "udp:[2001:db8::5]:9802", "udp:witness.example.net:1", "etcd:http://e-1:2379"]
        {
            assert_eq!(witness(text).unwrap().to_string(), text);
        }
        assert_eq!(witness("etcd:http://e:2379/").unwrap().to_string(), "etcd:http://e:2379");
    }

    #[test]
    fn what_is_no_witness_is_refused_with_a_cure() {
        for (text, cause) in [
            ("192.0.2.5:9802", "is no witness"),
            ("udp:192.0.2.5", "has no port"),
            ("udp:192.0.2.5:0", "has no port"),
            ("udp:2001:db8::5:9802", "has no host"),
            ("udp:[e]:9802", "has no host"),
            ("udp::9802", "has no host"),
            ("etcd:http://e/x:2379", "has no host"),
            ("etcd:https://e:2379", "asks for TLS, which is not spoken to etcd"),
        ] {
            assert_eq!(witness(text).unwrap_err().0, cause, "{text}");
        }
    }
}
