//! The stream connections of callers that a takeover tears off, and telling their kernels so.
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::io;
use std::net::SocketAddr;
use std::ops::Bound;
use std::os::fd::AsFd;

use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use super::event::{Connection, Tickle};
use super::segment;
use crate::runtime::datagram::Packet;
use crate::runtime::sys::{Outbox, SLOTS};

/// Connections that are remembered.
pub const CONNECTIONS: usize = 10_000;

/// See the module.
#[derive(Default)]
pub struct Callers {
    known: BTreeSet<Connection>,
    /// The last one that was told.
    told: Option<Connection>,
    /// Raw sockets of both families, while there is somebody to tell.
    sockets: Option<(Socket, Socket)>,
    outbox: Outbox,
}

impl Callers {
    /// Changes the list; whether there was room.
    pub fn learn(&mut self, tickle: Tickle) -> bool {
        match tickle {
            Tickle::Add(connection) => {
                let room = self.known.len() < CONNECTIONS || self.known.contains(&connection);
                if room {
                    self.known.insert(connection);
                }
                return room;
            }
            Tickle::Remove(connection) => drop(self.known.remove(&connection)),
            Tickle::Clear => self.known.clear(),
        }
        true
    }

    /// Tells some of them; whether more are left. `first`: begins anew. Needs CAP_NET_RAW.
    pub fn tell(&mut self, first: bool) -> io::Result<bool> {
        if first {
            self.told = None;
        }
        let after = self.told.map_or(Bound::Unbounded, Bound::Excluded);
        let next: Vec<Connection> = self.known.range((after, Bound::Unbounded)).take(SLOTS).copied().collect();
        let Some(last) = next.last() else {
            self.sockets = None;
            return Ok(false);
        };
        self.told = Some(*last);
        if self.sockets.is_none() {
            self.sockets = Some((raw(Domain::IPV4)?, raw(Domain::IPV6)?));
        }
        let (four, six) = self.sockets.as_ref().expect("just opened");
        for (socket, v4) in [(four, true), (six, false)] {
            let family: Vec<&Connection> = next.iter().filter(|c| c.local.is_ipv4() == v4).collect();
            let segments: Vec<_> = family.iter().map(|c| segment::tickle(c.local, c.remote)).collect();
            let packets: Vec<Packet<'_>> = family
                .iter()
                .zip(&segments)
                // A raw socket has no ports; those of TCP stand in the segment.
                .map(|(c, bytes)| Packet { bytes, to: SocketAddr::new(c.remote.ip(), 0), from: Some(c.local.ip()) })
                .collect();
            let mut rest = &packets[..];
            while !rest.is_empty() {
                // One that cannot be sent must not keep the others from being told.
                let sent = self.outbox.send(socket.as_fd(), rest).unwrap_or(0);
                rest = &rest[sent.max(1)..];
            }
        }
        Ok(true)
    }
}

/// Sends only: it would otherwise get a copy of every segment that this host receives.
fn raw(domain: Domain) -> io::Result<Socket> {
    let socket = Socket::new(domain, Type::RAW, Some(Protocol::TCP))?;
    socket.attach_filter(&[SockFilter::new(0x06, 0, 0, 0)])?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connection(n: usize) -> Connection {
        let remote = SocketAddr::new([127, 1, (n >> 8) as u8, n as u8].into(), 40_000);
        Connection { local: "127.0.0.1:5060".parse().unwrap(), remote }
    }

    #[test]
    fn the_list_is_bounded_and_forgets_what_has_ended() {
        let mut callers = Callers::default();
        assert!((0..CONNECTIONS).all(|n| callers.learn(Tickle::Add(connection(n)))));
        assert!(!callers.learn(Tickle::Add(connection(CONNECTIONS))));
        assert!(callers.learn(Tickle::Add(connection(0))), "it is known already");
        assert!(callers.learn(Tickle::Remove(connection(0))));
        assert!(callers.learn(Tickle::Add(connection(CONNECTIONS))));
        callers.learn(Tickle::Clear);
        assert!(callers.known.is_empty() && !callers.tell(true).unwrap());
    }
}
