//! Which living connection a request may take: one that this node opened, or one that its peer opened, proved who it is,
//! and offered (RFC 5923).
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use crate::base::{ConnId, Flow, Transport};
use crate::runtime::tls::Name;
use crate::sip::{Index, Via};

/// What must be equal for two requests to share a connection.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Way {
    transport: Transport,
    /// Our host: virtual servers keep their connections apart.
    local: IpAddr,
    remote: SocketAddr,
    /// Who must be there, where the next hop is a name and must prove it.
    name: Option<Name>,
}

impl Way {
    /// The way of a flow. `authority`: the next hop's name, if it has one.
    pub fn of(flow: &Flow, authority: Option<&[u8]>) -> Self {
        let name = authority.filter(|_| flow.transport == Transport::Tls).and_then(Name::of_authority);
        Self { transport: flow.transport, local: flow.local.ip(), remote: flow.remote, name }
    }
}

/// Connections that were offered, at most one target each.
#[derive(Debug, Default)]
pub struct Aliases {
    by_target: HashMap<(IpAddr, SocketAddr), ConnId>,
    targets: HashMap<ConnId, (IpAddr, SocketAddr)>,
}

impl Aliases {
    /// The peer of `conn` takes requests for `target` on it; the latest offer counts (RFC 5923 §8.2: a peer that was
    /// restarted offers again).
    pub fn offer(&mut self, conn: ConnId, local: IpAddr, target: SocketAddr) {
        if let Some(before) = self.by_target.insert((local, target), conn) {
            self.targets.remove(&before);
        }
        if let Some(before) = self.targets.insert(conn, (local, target))
            && before != (local, target)
        {
            self.by_target.remove(&before);
        }
    }

    /// The connection that was offered for requests of this flow.
    pub fn find(&self, flow: &Flow) -> Option<ConnId> {
        self.by_target.get(&(flow.local.ip(), flow.remote)).copied()
    }

    /// The connection is gone.
    pub fn remove(&mut self, conn: ConnId) {
        if let Some(target) = self.targets.remove(&conn) {
            self.by_target.remove(&target);
        }
    }
}

/// Where the sender of a request takes requests itself on this connection: its `alias` parameter says so, its sent-by
/// names the port (RFC 5923 §5). The host is the one that it has connected from.
pub fn offer(message: &[u8], source: IpAddr) -> Option<SocketAddr> {
    let mut index = Index::new();
    index.parse(message).ok()?;
    let request = Some(index.message(message)).filter(|m| m.is_request())?;
    let port = |via: Via<'_>| via.alias.then(|| via.port_or_default());
    port(request.via()).map(|port| SocketAddr::new(source, port))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::ListenerId;

    fn flow(transport: Transport, remote: &str) -> Flow {
        let local = "192.0.2.1:5061".parse().unwrap();
        Flow { transport, listener: ListenerId(0), local, remote: remote.parse().unwrap(), conn: None }
    }

    #[test]
    fn transports_and_names_keep_ways_apart() {
        let (tcp, tls) = (flow(Transport::Tcp, "192.0.2.9:5061"), flow(Transport::Tls, "192.0.2.9:5061"));
        assert_ne!(Way::of(&tcp, None), Way::of(&tls, None));
        assert_eq!(Way::of(&tcp, Some(b"a.example")), Way::of(&tcp, None));
        assert_ne!(Way::of(&tls, Some(b"a.example")), Way::of(&tls, Some(b"b.example")));
        assert_eq!(Way::of(&tls, Some(b"A.example:5061")), Way::of(&tls, Some(b"a.example.")));
    }

    #[test]
    fn the_latest_offer_counts_and_none_outlives_its_connection() {
        let (mut aliases, target) = (Aliases::default(), flow(Transport::Tls, "192.0.2.9:5061"));
        let other = flow(Transport::Tls, "192.0.2.9:5071");
        aliases.offer(ConnId(1), target.local.ip(), target.remote);
        aliases.offer(ConnId(2), target.local.ip(), target.remote);
        assert_eq!(aliases.find(&target), Some(ConnId(2)));
        aliases.remove(ConnId(1));
        assert_eq!(aliases.find(&target), Some(ConnId(2)), "the first one had lost it");
        aliases.offer(ConnId(2), other.local.ip(), other.remote);
        assert_eq!((aliases.find(&target), aliases.find(&other)), (None, Some(ConnId(2))));
        aliases.remove(ConnId(2));
        assert!(aliases.find(&other).is_none() && aliases.by_target.is_empty() && aliases.targets.is_empty());
    }

    #[test]
    fn an_offer_names_the_port_of_sent_by() {
        let source = "192.0.2.9".parse().unwrap();
        let of = |via: &str| {
            let text = format!(
                "OPTIONS sip:a@b SIP/2.0\r\nVia: SIP/2.0/TLS {via}\r\nMax-Forwards: 70\r\nFrom: <sip:a@b>;tag=1\r\n\
                 To: <sip:a@b>\r\nCall-ID: 1\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
            );
            offer(text.as_bytes(), source).map(|addr| addr.to_string())
        };
        assert_eq!(of("pbx.example.com;branch=z9hG4bK1;alias").as_deref(), Some("192.0.2.9:5061"));
        assert_eq!(of("192.0.2.77:5071;alias;branch=z9hG4bK1").as_deref(), Some("192.0.2.9:5071"));
        assert_eq!(of("192.0.2.9:5071;branch=z9hG4bK1"), None);
        assert_eq!(offer(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n", source), None);
    }
}
