//! The hosts that one resource is known by. Looking one up allocates nothing.

use std::net::{IpAddr, SocketAddr};

use crate::base::{Host, limits};

/// Octets of the longest DNS name (RFC 1035 §2.3.4). A longer one is not remembered.
const NAME: usize = 255;

/// Where a resource answers: its configured addresses with their ports, and hosts that it named itself, at any port.
#[derive(Debug, Default)]
pub struct Hosts {
    configured: Vec<SocketAddr>,
    /// The AOR's host, when it is a name.
    name: Option<(Box<[u8]>, u16)>,
    /// Oldest first, at most [`limits::LEARNT_HOSTS`].
    learnt: Vec<Learnt>,
}

#[derive(Debug)]
enum Learnt {
    Ip(IpAddr),
    Name(Box<[u8]>),
}

impl Hosts {
    /// Replaces the configured addresses: `authority` is the AOR's `host:port`, `addresses` what it stands for and the
    /// aliases. Learnt hosts stay: dialogs use them.
    pub fn configure(&mut self, authority: &str, addresses: impl Iterator<Item = SocketAddr>) {
        self.configured.clear();
        self.configured.extend(addresses.map(|a| SocketAddr::new(a.ip().to_canonical(), a.port())));
        self.name = name_of(authority);
    }

    /// Whether the resource answers there. Port 0 asks for the host at any port: the source port of a stream says
    /// nothing.
    pub fn know(&self, host: &Host<'_>, port: u16) -> bool {
        self.is_configured(host, port) || self.learnt.iter().any(|l| l.is(host))
    }

    fn is_configured(&self, host: &Host<'_>, port: u16) -> bool {
        let at_port = |own: u16| port == 0 || own == port;
        match host {
            Host::Ip(ip) => {
                let ip = ip.to_canonical();
                self.configured.iter().any(|a| a.ip() == ip && at_port(a.port()))
            }
            Host::Name(name) => {
                self.name.as_ref().is_some_and(|(own, p)| own.eq_ignore_ascii_case(name) && at_port(*p))
            }
        }
    }

    /// Hosts that were learnt.
    pub fn learnt(&self) -> impl Iterator<Item = Host<'_>> {
        self.learnt.iter().map(|host| match host {
            Learnt::Ip(ip) => Host::Ip(*ip),
            Learnt::Name(name) => Host::Name(name),
        })
    }

    /// Remembers a host that was named with this port; the one that was named longest ago makes room. Whether it is new.
    pub fn learn(&mut self, host: &Host<'_>, port: u16) -> bool {
        if self.is_configured(host, port) {
            return false;
        }
        if let Some(at) = self.learnt.iter().position(|l| l.is(host)) {
            self.learnt[at..].rotate_left(1);
            return false;
        }
        let host = match host {
            Host::Ip(ip) => Learnt::Ip(ip.to_canonical()),
            Host::Name(name) if (1..=NAME).contains(&name.len()) => Learnt::Name((*name).into()),
            Host::Name(_) => return false,
        };
        if self.learnt.len() == limits::LEARNT_HOSTS {
            self.learnt.remove(0);
        }
        self.learnt.push(host);
        true
    }
}

impl Learnt {
    fn is(&self, host: &Host<'_>) -> bool {
        match (self, host) {
            (Learnt::Ip(own), Host::Ip(ip)) => *own == ip.to_canonical(),
            // RFC 3261 §19.1.4: host names are compared without case.
            (Learnt::Name(own), Host::Name(name)) => own.eq_ignore_ascii_case(name),
            _ => false,
        }
    }
}

fn name_of(authority: &str) -> Option<(Box<[u8]>, u16)> {
    if authority.parse::<SocketAddr>().is_ok() || authority.parse::<IpAddr>().is_ok() || authority.starts_with('[') {
        return None;
    }
    let (host, port) = authority.rsplit_once(':').unwrap_or((authority, "5060"));
    Some((host.as_bytes().into(), port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> Host<'static> {
        Host::Ip(text.parse().unwrap())
    }

    #[test]
    fn ports_matter_for_configured_hosts_only() {
        let mut hosts = Hosts::default();
        let addresses = ["192.0.2.1:5070", "192.0.2.2:5071"].map(|a| a.parse().unwrap());
        hosts.configure("Mcp1.example.com:5070", addresses.into_iter());
        assert!(hosts.know(&ip("192.0.2.1"), 5070));
        assert!(hosts.know(&ip("::ffff:192.0.2.2"), 5071));
        assert!(!hosts.know(&ip("192.0.2.2"), 5070));
        assert!(hosts.know(&ip("192.0.2.2"), 0));
        assert!(hosts.know(&Host::Name(b"mcp1.EXAMPLE.com"), 5070));
        assert!(!hosts.know(&Host::Name(b"mcp1.example.com"), 5071));
        hosts.learn(&ip("192.0.2.2"), 5060);
        hosts.learn(&Host::Name(b"media.Example.com"), 5060);
        assert!(hosts.know(&ip("192.0.2.2"), 9));
        assert!(hosts.know(&Host::Name(b"MEDIA.example.com"), 1));
        assert!(!hosts.know(&Host::Name(b"media.example.co"), 1));
    }

    #[test]
    fn learnt_hosts_are_bounded_and_the_oldest_goes() {
        let mut hosts = Hosts::default();
        let name = |n: usize| format!("h{n}.example.com");
        for n in 0..limits::LEARNT_HOSTS {
            hosts.learn(&Host::Name(name(n).as_bytes()), 5060);
        }
        hosts.learn(&Host::Name(name(0).to_uppercase().as_bytes()), 5060);
        hosts.learn(&Host::Name(b"one-more"), 5060);
        assert_eq!(hosts.learnt.len(), limits::LEARNT_HOSTS);
        assert!(hosts.know(&Host::Name(name(0).as_bytes()), 5060), "named again lately");
        assert!(!hosts.know(&Host::Name(name(1).as_bytes()), 5060));
        hosts.learn(&Host::Name(&[b'x'; NAME + 1]), 5060);
        hosts.learn(&Host::Name(b""), 5060);
        assert!(hosts.know(&Host::Name(name(2).as_bytes()), 5060), "an impossible name displaces nothing");
    }
}
