//! The addresses that Tandem writes into Via and Record-Route: one table both stamps and recognises them.
//! An identity that left the configuration lingers: it is recognised until the last dialog that carries it has ended.
#![forbid(unsafe_code)]

use std::net::{IpAddr, SocketAddr};

use crate::base::{ListenerId, Transport};

/// Index into [`Identities`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdentityId(pub u16);

/// An address (transport, host, port) that Tandem writes into Via and Record-Route. Always an IP literal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// UDP, TCP or TLS.
    pub transport: Transport,
    /// The literal address; never a wildcard.
    pub addr: SocketAddr,
    /// The listener that receives for it and sends from it.
    pub listener: ListenerId,
    /// `host:port` as written into headers; IPv6 in brackets.
    text: Box<str>,
}

impl Identity {
    /// An identity of `listener`.
    pub fn new(transport: Transport, addr: SocketAddr, listener: ListenerId) -> Self {
        Self { transport, addr, listener, text: addr.to_string().into_boxed_str() }
    }

    /// `host:port` as written into headers; IPv6 in brackets.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// The identity table. Immutable once built; a new configuration builds a new one that keeps the lingering entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities {
    table: Vec<Identity>,
}

impl Identities {
    /// Builds the table; the first entry of two equal ones wins.
    pub fn new(entries: impl IntoIterator<Item = Identity>) -> Self {
        let mut table: Vec<Identity> = Vec::new();
        for entry in entries {
            if !table.iter().any(|i| i.transport == entry.transport && i.addr == entry.addr) {
                table.push(entry);
            }
        }
        Self { table }
    }

    /// The table of a new configuration: the entries of `self` keep their ids, so that what is under way and dialogs
    /// that carry them stay recognised; new ones follow.
    pub fn succeed(&self, next: Identities) -> Identities {
        Identities::new(self.table.iter().cloned().chain(next.table))
    }

    /// All entries, in the order of their ids.
    pub fn iter(&self) -> impl Iterator<Item = &Identity> {
        self.table.iter()
    }

    /// The entry with this id.
    pub fn get(&self, id: IdentityId) -> &Identity {
        &self.table[id.0 as usize]
    }

    /// The identity of a local address, as IP_PKTINFO or a stream tells it.
    pub fn by_local(&self, transport: Transport, local: SocketAddr) -> Option<IdentityId> {
        self.find(|i| i.transport == transport && i.addr.port() == local.port() && same_ip(i.addr.ip(), local.ip()))
    }

    /// The first identity of a listener.
    pub fn by_listener(&self, listener: ListenerId) -> Option<IdentityId> {
        self.find(|i| i.listener == listener)
    }

    /// The identity that a URI or sent-by names. Without a transport any will do: UDP first, then TCP (RFC 3263 §4.1).
    pub fn recognise(&self, transport: Option<Transport>, ip: IpAddr, port: u16) -> Option<IdentityId> {
        let fits = |i: &Identity, t: Transport| i.transport == t && i.addr.port() == port && same_ip(i.addr.ip(), ip);
        match transport {
            Some(t) => self.find(|i| fits(i, t)),
            None => {
                [Transport::Udp, Transport::Tcp, Transport::Tls].into_iter().find_map(|t| self.find(|i| fits(i, t)))
            }
        }
    }

    /// An identity of `transport` on the same host as `beside`, else any of `transport` in the same address family.
    pub fn sibling(&self, beside: IdentityId, transport: Transport) -> Option<IdentityId> {
        let host = self.get(beside).addr;
        self.find(|i| i.transport == transport && i.addr.ip() == host.ip())
            .or_else(|| self.find(|i| i.transport == transport && i.addr.is_ipv4() == host.is_ipv4()))
    }

    /// Whether this node is reached over `transport` at all.
    pub fn speaks(&self, transport: Transport) -> bool {
        self.find(|i| i.transport == transport).is_some()
    }

    fn find(&self, fits: impl Fn(&Identity) -> bool) -> Option<IdentityId> {
        self.table.iter().position(fits).map(|n| IdentityId(n as u16))
    }
}

/// A dual-stack socket reports IPv4 sources as mapped addresses; they are the same host.
fn same_ip(a: IpAddr, b: IpAddr) -> bool {
    a.to_canonical() == b.to_canonical()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Identities {
        let id = |t, a: &str, l| Identity::new(t, a.parse().unwrap(), ListenerId(l));
        Identities::new([
            id(Transport::Udp, "192.0.2.1:5060", 0),
            id(Transport::Tcp, "192.0.2.1:5060", 1),
            id(Transport::Tcp, "[2001:db8::1]:5060", 2),
            id(Transport::Udp, "192.0.2.1:5060", 3),
        ])
    }

    #[test]
    fn recognises_by_transport_and_prefers_udp_without_one() {
        let t = table();
        let ip = "192.0.2.1".parse().unwrap();
        assert_eq!(t.recognise(None, ip, 5060), Some(IdentityId(0)));
        assert_eq!(t.recognise(Some(Transport::Tcp), ip, 5060), Some(IdentityId(1)));
        assert_eq!(t.recognise(None, ip, 5061), None);
        assert_eq!(t.recognise(None, "2001:db8::1".parse().unwrap(), 5060), Some(IdentityId(2)));
    }

    #[test]
    fn duplicates_collapse_and_mapped_addresses_are_the_same_host() {
        let t = table();
        assert_eq!(t.iter().count(), 3);
        assert_eq!(t.by_local(Transport::Udp, "[::ffff:192.0.2.1]:5060".parse().unwrap()), Some(IdentityId(0)));
    }

    #[test]
    fn a_secure_identity_is_found_last_and_has_siblings_on_its_host() {
        let secure = Identity::new(Transport::Tls, "192.0.2.1:5061".parse().unwrap(), ListenerId(4));
        let t = table().succeed(Identities::new([secure]));
        let ip = "192.0.2.1".parse().unwrap();
        assert_eq!(t.recognise(None, ip, 5061), Some(IdentityId(3)));
        assert_eq!(t.recognise(Some(Transport::Tcp), ip, 5061), None, "another transport is another identity");
        assert_eq!(t.sibling(IdentityId(0), Transport::Tls), Some(IdentityId(3)));
        assert_eq!((t.speaks(Transport::Tls), table().speaks(Transport::Tls)), (true, false));
    }

    #[test]
    fn a_lost_identity_lingers() {
        let next = Identities::new([Identity::new(Transport::Udp, "192.0.2.9:5060".parse().unwrap(), ListenerId(0))]);
        let both = table().succeed(next);
        assert_eq!(both.get(IdentityId(3)).text(), "192.0.2.9:5060");
        assert!(both.by_local(Transport::Udp, "192.0.2.1:5060".parse().unwrap()).is_some());
    }
}
