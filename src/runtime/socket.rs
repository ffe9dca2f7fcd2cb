//! Binding the listeners of `sip.transport`, and the identities that they give.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::base::{ListenerId, Transport};
use crate::config::Listen;
use crate::identity::{Identities, Identity, Shared};
use crate::runtime::sys;

/// Octets asked of the kernel for each direction of a UDP socket: about 20 ms of the densest traffic we know of.
const BUFFER: usize = 4 << 20;

/// How long a receive that waits for one datagram waits ([`Wait::ForOne`](crate::runtime::datagram::Wait::ForOne)).
pub const RECEIVE_TIMEOUT: Duration = Duration::from_millis(4);

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1_024;

/// A listener that could not be bound.
#[derive(Debug)]
pub struct BindError {
    /// As configured.
    pub listen: Listen,
    /// Why not.
    pub source: io::Error,
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Listen { transport, addr } = self.listen;
        write!(f, "cannot listen on {transport}:{addr}: ")?;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                let flag = if transport == Transport::Udp { "u" } else { "t" };
                let port = addr.port();
                write!(
                    f,
                    "another process has it (ss -l{flag}np 'sport = :{port}' shows which); stop it or change sip.transport"
                )
            }
            io::ErrorKind::PermissionDenied => {
                f.write_str("a port below 1024 needs CAP_NET_BIND_SERVICE (AmbientCapabilities= in the unit file)")
            }
            io::ErrorKind::AddrNotAvailable => {
                write!(f, "no interface of this host has {} (ip addr shows them); change sip.transport", addr.ip())
            }
            _ => write!(f, "{}", self.source),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

/// A bound listener.
#[derive(Debug)]
pub enum Bound {
    /// Receives and sends datagrams.
    Udp(UdpListener),
    /// Accepts streams.
    Tcp {
        /// TCP, or TLS over it.
        transport: Transport,
        /// Its address; the port is the bound one.
        addr: SocketAddr,
        /// The socket, non-blocking.
        socket: TcpListener,
    },
}

/// A UDP socket of `sip.transport`.
#[derive(Debug)]
pub struct UdpListener {
    /// The socket. It blocks; those who may not wait say so with each call.
    pub socket: UdpSocket,
    /// Its address; may be a wildcard, the port is the bound one.
    pub addr: SocketAddr,
}

impl Bound {
    /// Binds one entry of `sip.transport`. `early`: even if its address is not here yet, because it comes later.
    pub fn new(listen: &Listen, early: bool) -> Result<Self, BindError> {
        let bind = || match listen.transport {
            Transport::Udp => udp(listen.addr, early).map(Bound::Udp),
            Transport::Tcp | Transport::Tls => tcp(listen.transport, listen.addr, early),
        };
        bind().map_err(|source| BindError { listen: *listen, source })
    }

    /// A UDP listener whose port is taken later ([`UdpListener::take`]), because another process may have it now.
    pub fn aside(listen: &Listen) -> Result<Self, BindError> {
        UdpListener::aside(listen.addr).map(Bound::Udp).map_err(|source| BindError { listen: *listen, source })
    }

    /// UDP, TCP or TLS.
    pub fn transport(&self) -> Transport {
        match self {
            Bound::Udp(_) => Transport::Udp,
            Bound::Tcp { transport, .. } => *transport,
        }
    }

    /// The bound address; may be a wildcard.
    pub fn addr(&self) -> SocketAddr {
        match self {
            Bound::Udp(udp) => udp.addr,
            Bound::Tcp { addr, .. } => *addr,
        }
    }
}

fn udp(addr: SocketAddr, early: bool) -> io::Result<UdpListener> {
    let socket = open_udp(addr, early)?;
    let addr = socket.local_addr()?;
    warn_small_buffers(&socket2::SockRef::from(&socket), addr)?;
    Ok(UdpListener { socket, addr })
}

/// A socket as listeners need it, bound to `addr`.
fn open_udp(addr: SocketAddr, early: bool) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(addr), Type::DGRAM, Some(Protocol::UDP))?;
    if early {
        bind_early(&socket, addr)?;
    }
    if addr.is_ipv6() {
        // So that udp:[::]:5060 and udp:0.0.0.0:5060 stand side by side.
        socket.set_only_v6(true)?;
    }
    sys::prepare(socket.as_fd(), addr.is_ipv6())?;
    socket.set_recv_buffer_size(BUFFER)?;
    socket.set_send_buffer_size(BUFFER)?;
    socket.set_read_timeout(Some(RECEIVE_TIMEOUT))?;
    socket.bind(&addr.into())?;
    Ok(UdpSocket::from(socket))
}

impl UdpListener {
    /// A listener of an address that is always here, whoever holds it: its port is not taken yet.
    fn aside(addr: SocketAddr) -> io::Result<Self> {
        Ok(Self { socket: open_udp(SocketAddr::new(addr.ip(), 0), false)?, addr })
    }

    /// Takes the port. Errors: `AddrInUse` while another process has it.
    pub fn take(&self) -> io::Result<()> {
        sys::put_over(self.socket.as_fd(), open_udp(self.addr, false)?.into())
    }

    /// Gives the port up, with what waits in it. What is sent meanwhile leaves from another port of the address.
    pub fn give_up(&self) -> io::Result<()> {
        sys::put_over(self.socket.as_fd(), Self::aside(self.addr)?.socket.into())
    }
}

/// The kernel cuts a request down to its limit in silence, and reports twice what it granted.
fn warn_small_buffers(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    let (receive, send) = (socket.recv_buffer_size()? / 2, socket.send_buffer_size()? / 2);
    for (granted, limit) in [(receive, "net.core.rmem_max"), (send, "net.core.wmem_max")] {
        if granted < BUFFER {
            tracing::warn!(
                "udp:{addr} has a buffer of {granted} octets instead of {BUFFER}: {limit} is too small for bursts \
                 (cure: sysctl -w {limit}={BUFFER})"
            );
        }
    }
    Ok(())
}

fn tcp(transport: Transport, addr: SocketAddr, early: bool) -> io::Result<Bound> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    if early {
        bind_early(&socket, addr)?;
    }
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // A restart must not wait for the TIME_WAIT of the last run.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    let socket = TcpListener::from(socket);
    Ok(Bound::Tcp { transport, addr: socket.local_addr()?, socket })
}

/// Lets a socket be bound to an address that this host gets later (IP_FREEBIND).
fn bind_early(socket: &Socket, addr: SocketAddr) -> io::Result<()> {
    if addr.is_ipv4() { socket.set_freebind_v4(true) } else { socket.set_freebind_v6(true) }
}

/// What listeners look like to those who only choose among them: transport and bound address, index = listener id.
pub fn addresses(bound: &[Bound]) -> Vec<Listen> {
    bound.iter().map(|b| Listen { transport: b.transport(), addr: b.addr() }).collect()
}

/// The identities of bound listeners: a concrete address is one itself; a wildcard gives one per local address of its
/// family (`local`), loopback last, so that the first one is an address that others can reach. Those that the pair shares
/// come before all, whether they are here or not.
pub fn identities(listeners: &[Listen], local: &[IpAddr], shared: Shared) -> Identities {
    let moving: Vec<IpAddr> = shared.ips.iter().chain(&shared.guests).chain(&shared.virtual_ips).copied().collect();
    let own = local.iter().copied().filter(|ip| !is_link_local(ip) && !moving.contains(ip));
    let mut hosts: Vec<IpAddr> = moving.iter().copied().chain(own).collect();
    hosts.sort_by_key(|ip| !moving.contains(ip) && ip.is_loopback());
    let of_listener = |(n, listen): (usize, &Listen)| {
        let fits = |ip: &&IpAddr| ip.is_ipv4() == listen.addr.is_ipv4();
        let ips: Vec<IpAddr> = match listen.addr.ip() {
            ip if ip.is_unspecified() => hosts.iter().filter(fits).copied().collect(),
            // A balancer that translates addresses sends here what it gets for those that all nodes stand behind.
            ip if !shared.sends => std::iter::once(ip).chain(shared.ips.iter().filter(fits).copied()).collect(),
            ip => vec![ip],
        };
        let (transport, port) = (listen.transport, listen.addr.port());
        ips.into_iter().map(move |ip| Identity::new(transport, SocketAddr::new(ip, port), ListenerId(n as u16)))
    };
    Identities::new(listeners.iter().enumerate().flat_map(of_listener)).shared_by(shared)
}

/// A link-local address means nothing without its interface, which a URI cannot name.
fn is_link_local(ip: &IpAddr) -> bool {
    match ip {
        IpAddr::V4(_) => false,
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listen(transport: Transport, addr: &str) -> Listen {
        Listen { transport, addr: addr.parse().unwrap() }
    }

    #[test]
    fn both_families_share_a_port() {
        let six = Bound::new(&listen(Transport::Udp, "[::]:0"), false).unwrap();
        let addr = format!("0.0.0.0:{}", six.addr().port());
        let four = Bound::new(&listen(Transport::Udp, &addr), false).unwrap();
        assert_eq!(four.addr().port(), six.addr().port());
        let error = Bound::new(&listen(Transport::Udp, &addr), false).unwrap_err().to_string();
        assert!(error.contains(&format!("udp:{addr}")) && error.contains("another process has it"), "{error}");
    }

    #[test]
    fn errors_name_the_cure() {
        let error = Bound::new(&listen(Transport::Tcp, "192.0.2.77:5060"), false).unwrap_err().to_string();
        assert!(error.contains("tcp:192.0.2.77:5060") && error.contains("no interface of this host"), "{error}");
    }

    #[test]
    fn an_address_that_comes_later_can_be_bound_early() {
        for transport in [Transport::Udp, Transport::Tcp] {
            assert!(Bound::new(&listen(transport, "192.0.2.77:0"), true).is_ok(), "{transport}");
        }
    }

    #[test]
    fn two_listeners_take_turns_at_one_port() {
        let Ok(Bound::Udp(first)) = Bound::new(&listen(Transport::Udp, "127.0.0.1:0"), false) else {
            panic!("no port")
        };
        let Ok(Bound::Udp(second)) = Bound::aside(&Listen { transport: Transport::Udp, addr: first.addr }) else {
            panic!("no port aside")
        };
        assert_eq!(second.addr, first.addr);
        assert_eq!(second.take().unwrap_err().kind(), io::ErrorKind::AddrInUse);
        first.give_up().unwrap();
        second.take().unwrap();
        first.socket.send_to(b"to the port", second.addr).unwrap();
        let mut octets = [0; 32];
        let (length, from) = second.socket.recv_from(&mut octets).unwrap();
        assert_eq!((&octets[..length], from), (b"to the port".as_slice(), first.socket.local_addr().unwrap()));
        assert_ne!(from.port(), second.addr.port());
    }

    #[test]
    fn a_wildcard_is_every_local_address_of_its_family() {
        let listeners = [listen(Transport::Udp, "0.0.0.0:5060"), listen(Transport::Tcp, "[2001:db8::9]:5061")];
        let local = ["127.0.0.1", "192.0.2.1", "fe80::1", "2001:db8::9"].map(|ip| ip.parse().unwrap());
        let table = identities(&listeners, &local, Shared::default());
        let texts: Vec<&str> = table.iter().map(Identity::text).collect();
        assert_eq!(texts, ["192.0.2.1:5060", "127.0.0.1:5060", "[2001:db8::9]:5061"]);
        assert_eq!(table.iter().map(|i| i.listener.0).collect::<Vec<_>>(), [0, 0, 1]);
    }

    #[test]
    fn a_listener_that_gets_what_a_balancer_translates_stands_behind_its_address() {
        let listeners = [listen(Transport::Udp, "192.0.2.11:5060")];
        let shared = |sends| Shared { ips: vec!["192.0.2.10".parse().unwrap()], sends, ..Shared::default() };
        let table = identities(&listeners, &[], shared(false));
        let own = table.by_local(Transport::Udp, listeners[0].addr).unwrap();
        let recorded = table.recorded(own);
        assert_eq!((table.get(own).text(), table.get(recorded).text()), ("192.0.2.11:5060", "192.0.2.10:5060"));
        assert_eq!(table.sender(recorded), own, "nothing can leave from there");
        // Where a node has the address itself, a listener that does not has nothing to do with it.
        let table = identities(&listeners, &[], shared(true));
        assert_eq!(table.iter().count(), 1);
    }
}
