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

    /// Whether both are of one transport, port and family.
    fn stands_beside(&self, other: &Identity) -> bool {
        let family = self.addr.is_ipv4() == other.addr.is_ipv4();
        self.transport == other.transport && self.addr.port() == other.addr.port() && family
    }
}

/// The identity table. Immutable once built; a new configuration builds a new one that keeps the lingering entries.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identities {
    table: Vec<Identity>,
    shared: Shared,
}

/// Addresses that all nodes of a cluster stand behind.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shared {
    /// Which; none for a node that is alone, or where each node stands for itself.
    pub ips: Vec<IpAddr>,
    /// Whether a node can send from them, and receive what is sent there (`cluster.virtual-ip-in-via`).
    pub sends: bool,
    /// Where each node has addresses of its own that move (`cluster.service-ip`), `ips` are this one's and these the peer's,
    /// in the same order.
    pub guests: Vec<IpAddr>,
    /// Whether the peer's are here now, be it in silence.
    pub stands_in: bool,
    /// Besides those of each node: addresses that are with who is active.
    pub virtual_ips: Vec<IpAddr>,
    /// Whether they are here now, be it in silence.
    pub leads: bool,
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
        Self { table, shared: Shared::default() }
    }

    /// The table of a new configuration: the entries of `self` keep their ids, so that what is under way and dialogs
    /// that carry them stay recognised; new ones follow.
    pub fn succeed(&self, next: Identities) -> Identities {
        let shared = Shared { stands_in: self.shared.stands_in, leads: self.shared.leads, ..next.shared };
        Identities::new(self.table.iter().cloned().chain(next.table)).shared_by(shared)
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

    /// With these addresses for all nodes.
    #[must_use]
    pub fn shared_by(self, shared: Shared) -> Identities {
        Identities { shared, ..self }
    }

    /// What stands in Record-Route for `id`: a dialog must find any node of the cluster, be it that the request leaves from
    /// an address of this one.
    pub fn recorded(&self, id: IdentityId) -> IdentityId {
        let own = self.get(id);
        if self.shared.ips.is_empty() || self.is_shared(own) || self.guest(own).is_some() || self.is_virtual(own) {
            return id;
        }
        self.find(|i| self.is_shared(i) && i.stands_beside(own)).unwrap_or(id)
    }

    /// From where a request leaves whose Route names `id`: from an address of this node's own where it cannot send from that.
    pub fn sender(&self, id: IdentityId) -> IdentityId {
        let named = self.get(id);
        if self.guest(named).is_some() || self.is_virtual(named) {
            return self.acting(id);
        }
        if self.shared.sends || !self.is_shared(named) {
            return id;
        }
        let own = |i: &Identity| !self.is_shared(i) && !i.addr.ip().is_loopback() && i.stands_beside(named);
        self.find(own).unwrap_or(id)
    }

    /// Whether one is the peer's and the other one this node's that corresponds to it: on every node they lead to the same.
    pub fn correspond(&self, a: IdentityId, b: IdentityId) -> bool {
        let (a, b) = (self.get(a), self.get(b));
        let pair = |a: &Identity, b: &Identity| self.guest(a).is_some_and(|n| self.shared.ips[n] == b.addr.ip());
        a.stands_beside(b) && (pair(a, b) || pair(b, a))
    }

    /// Addresses of the peer's own that move.
    pub fn guests(&self) -> &[IpAddr] {
        &self.shared.guests
    }

    /// From now on the peer's addresses are here, or they are not.
    pub fn stand_in(&mut self, here: bool) {
        self.shared.stands_in = here;
    }

    /// From now on the addresses of who is active are here, or they are not.
    pub fn lead(&mut self, here: bool) {
        self.shared.leads = here;
    }

    /// As what this node acts for `id`: one of the peer's where that is here, which writes what the peer would write; else its
    /// own that corresponds to it.
    pub fn acting(&self, id: IdentityId) -> IdentityId {
        let named = self.get(id);
        match self.guest(named) {
            Some(n) if !self.shared.stands_in => {
                self.find(|i| i.addr.ip() == self.shared.ips[n] && i.stands_beside(named)).unwrap_or(id)
            }
            None if self.is_virtual(named) && !self.shared.leads => {
                self.find(|i| self.is_shared(i) && i.stands_beside(named)).unwrap_or(id)
            }
            _ => id,
        }
    }

    /// Where this node handles what came in at `local` of another node: at the same address if it is here as well, else at
    /// the one that corresponds to it. `None`: there is none.
    pub fn place(&self, transport: Transport, local: SocketAddr) -> Option<IdentityId> {
        self.by_local(transport, local).map(|id| self.acting(id)).or_else(|| self.in_place_of(transport, local))
    }

    /// This node's place for what was handled at `local` of another node, whose address is here or about to be.
    pub fn successor(&self, transport: Transport, local: SocketAddr) -> Option<IdentityId> {
        self.by_local(transport, local).or_else(|| self.in_place_of(transport, local))
    }

    fn in_place_of(&self, transport: Transport, local: SocketAddr) -> Option<IdentityId> {
        let alike = |i: &Identity| {
            let family = i.addr.is_ipv4() == local.ip().to_canonical().is_ipv4();
            i.transport == transport
                && i.addr.port() == local.port()
                && family
                && !self.is_shared(i)
                && self.guest(i).is_none()
                && !self.is_virtual(i)
        };
        self.find(|i| alike(i) && !i.addr.ip().is_loopback())
    }

    /// Of an address of the peer: which of them it is.
    fn guest(&self, identity: &Identity) -> Option<usize> {
        self.shared.guests.iter().take(self.shared.ips.len()).position(|ip| same_ip(*ip, identity.addr.ip()))
    }

    fn is_virtual(&self, identity: &Identity) -> bool {
        self.shared.virtual_ips.iter().any(|ip| same_ip(*ip, identity.addr.ip()))
    }

    fn is_shared(&self, identity: &Identity) -> bool {
        self.shared.ips.iter().any(|ip| same_ip(*ip, identity.addr.ip()))
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

    #[test]
    fn an_address_of_the_peer_is_acted_for_where_it_is_here() {
        let id = |a: &str| Identity::new(Transport::Udp, a.parse().unwrap(), ListenerId(0));
        let [own, peer, host] = [IdentityId(0), IdentityId(1), IdentityId(2)];
        let [ips, guests] = ["192.0.2.21", "192.0.2.22"].map(|ip| vec![ip.parse().unwrap()]);
        let table = Identities::new([id("192.0.2.21:5060"), id("192.0.2.22:5060"), id("192.0.2.11:5060")]);
        let mut table = table.shared_by(Shared { ips, sends: true, guests, ..Shared::default() });
        let local = "192.0.2.22:5060".parse().unwrap();
        let places = |t: &Identities| [t.place(Transport::Udp, local), t.successor(Transport::Udp, local)];
        assert_eq!([own, peer, host].map(|id| table.acting(id)), [own, own, host]);
        assert_eq!((table.sender(peer), places(&table)), (own, [Some(own), Some(peer)]));
        table.stand_in(true);
        let next = table.succeed(Identities::default().shared_by(Shared { stands_in: false, ..table.shared.clone() }));
        assert_eq!([own, peer, host].map(|id| next.acting(id)), [own, peer, host], "a reload moves nothing");
        assert_eq!((next.sender(peer), places(&next)), (peer, [Some(peer); 2]));
        assert_eq!([own, peer, host].map(|id| next.recorded(id)), [own, peer, own]);
        assert!(next.correspond(own, peer) && next.correspond(peer, own) && !next.correspond(host, peer));
    }
}
