//! A caller on a stream transport: it connects to a node, and can be connected to where its Via says.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use super::call::Call;
use super::inbox::Inbox;
use super::lan::Host;
use super::message::Message;
use super::poll::{SOON, until};
use super::tcp::Tcp;
use super::tls::{Authority, Issued, Tls};

/// A stream connection, whatever it is made of.
pub trait Stream {
    /// Writes in one piece. A far end that has closed already is no error here.
    fn send(&mut self, octets: &str);
    /// The next message, if it comes in time.
    fn message(&mut self, limit: Duration) -> Option<Message>;
    /// Whether the far end was seen to close it.
    fn closed(&self) -> bool;
    /// Whether it was reset, be it after a farewell.
    fn was_reset(&mut self) -> bool;
}

/// A stream connection that carries several calls.
pub struct Line {
    stream: Box<dyn Stream>,
    inbox: Inbox,
}

impl Line {
    fn new(stream: Box<dyn Stream>) -> Line {
        Line { stream, inbox: Inbox::default() }
    }

    /// Writes in one piece.
    pub fn send(&mut self, octets: &str) {
        self.stream.send(octets);
    }

    /// The first message that `wanted` takes; others stay until they are asked for.
    #[track_caller]
    pub fn take(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        self.inbox.take(what, |left| self.stream.message(left), wanted)
    }

    /// What has come and was not asked for.
    pub fn rest(&mut self) -> Vec<Message> {
        self.read();
        self.inbox.empty()
    }

    /// Whether the far end has closed it and the kernel knows that nothing can be written any more.
    pub fn is_dead(&mut self) -> bool {
        self.read();
        self.stream.closed() && self.stream.was_reset()
    }

    fn read(&mut self) {
        while !self.stream.closed()
            && let Some(message) = self.stream.message(Duration::from_millis(1))
        {
            self.inbox.keep(message);
        }
    }
}

enum Kind {
    Tcp,
    /// Whom it believes, and what it shows.
    Tls(Box<(Authority, Issued)>),
}

/// A caller.
pub struct Phone {
    host: Host,
    ip: Ipv4Addr,
    node: SocketAddr,
    door: TcpListener,
    kind: Kind,
}

impl Phone {
    /// A caller on TCP at `ip` of `host`.
    pub fn tcp(host: &Host, ip: Ipv4Addr, node: SocketAddr) -> Phone {
        Self::new(host, ip, node, Kind::Tcp)
    }

    /// A caller on TLS, who believes `ca` and shows `own`.
    pub fn tls(host: &Host, ip: Ipv4Addr, node: SocketAddr, ca: Authority, own: Issued) -> Phone {
        Self::new(host, ip, node, Kind::Tls(Box::new((ca, own))))
    }

    #[track_caller]
    fn new(host: &Host, ip: Ipv4Addr, node: SocketAddr, kind: Kind) -> Phone {
        let door = host.within(|| TcpListener::bind((ip, 0))).unwrap_or_else(|error| panic!("{ip}: {error}"));
        door.set_nonblocking(true).expect("a socket of ours");
        Phone { host: host.clone(), ip, node, door, kind }
    }

    /// Where others connect to: the sent-by of its requests (RFC 3261 §18.1.1).
    pub fn sent_by(&self) -> SocketAddr {
        self.door.local_addr().expect("a bound socket")
    }

    /// What its Via calls the transport.
    pub fn transport(&self) -> &'static str {
        match self.kind {
            Kind::Tcp => "TCP",
            Kind::Tls(_) => "TLS",
        }
    }

    /// A new call.
    pub fn call(&self) -> Call {
        Call::over(self.transport(), self.sent_by(), self.node)
    }

    /// Connects to the node.
    #[track_caller]
    pub fn connect(&self) -> Line {
        let (from, to) = (self.ip.into(), self.node);
        Line::new(match &self.kind {
            Kind::Tcp => Box::new(self.host.within(|| Tcp::connect(from, to))),
            Kind::Tls(own) => {
                let tls = self.host.within(|| Tls::connect(&own.0, from, to, Some(&own.1)));
                Box::new(tls.expect("a handshake"))
            }
        })
    }

    /// Waits until somebody connects; the connection, and who.
    #[track_caller]
    pub fn accept(&self) -> (Line, SocketAddr) {
        let (stream, from) = until(&format!("a connection to {}", self.sent_by()), SOON, || self.knock());
        let stream: Box<dyn Stream> = match &self.kind {
            Kind::Tcp => Box::new(Tcp::accepted(stream)),
            Kind::Tls(own) => Box::new(Tls::accepted(stream, &own.1).expect("a handshake")),
        };
        (Line::new(stream), from)
    }

    /// Who has connected meanwhile, if anybody has.
    #[track_caller]
    pub fn knock(&self) -> Option<(TcpStream, SocketAddr)> {
        match self.door.accept() {
            Ok((stream, from)) => {
                stream.set_nonblocking(false).expect("a socket of ours");
                Some((stream, from))
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{}: {error}", self.sent_by()),
        }
    }
}
