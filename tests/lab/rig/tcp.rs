//! A TCP connection of the test.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use super::message::Message;
use super::phone::Stream;
use super::poll::SOON;

/// An open connection and what it has said so far.
pub struct Tcp {
    stream: TcpStream,
    unread: Vec<u8>,
    /// Whether the far end has closed it.
    pub closed: bool,
    reset: bool,
}

impl Tcp {
    /// Connects from an address of its own.
    #[track_caller]
    pub fn connect(from: IpAddr, to: SocketAddr) -> Tcp {
        Self::try_connect(from, to).unwrap_or_else(|error| panic!("{from} to {to}: {error}"))
    }

    /// [`Self::connect`], which may fail.
    pub fn try_connect(from: IpAddr, to: SocketAddr) -> std::io::Result<Tcp> {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
        socket.bind(&SocketAddr::new(from, 0).into())?;
        socket.connect_timeout(&to.into(), SOON)?;
        socket.set_tcp_nodelay(true)?;
        Ok(Tcp::accepted(socket.into()))
    }

    /// A connection that came in.
    pub fn accepted(stream: TcpStream) -> Tcp {
        Tcp { stream, unread: Vec::new(), closed: false, reset: false }
    }

    /// Where it comes from.
    pub fn local(&self) -> SocketAddr {
        self.stream.local_addr().expect("a connected socket")
    }

    /// Writes in one piece. A far end that has closed already is no error here.
    pub fn send(&mut self, octets: impl AsRef<[u8]>) {
        let _ = self.stream.write_all(octets.as_ref());
    }

    /// Writes the same octets again and again until the far end takes no more, `times` at most.
    pub fn shout(&mut self, octets: &str, times: usize) {
        self.stream.set_write_timeout(Some(Duration::from_millis(500))).expect("a timeout");
        for _ in 0..times {
            if self.stream.write_all(octets.as_bytes()).is_err() {
                return;
            }
        }
    }

    /// Ends it with a reset instead of a farewell.
    pub fn reset(self) {
        let socket = Socket::from(self.stream);
        let _ = socket.set_linger(Some(Duration::ZERO));
    }

    /// The next message, if it comes in time. `None` and `closed`: the far end has closed.
    pub fn message(&mut self, limit: Duration) -> Option<Message> {
        let end = Instant::now() + limit;
        loop {
            if let Some(message) = cut(&mut self.unread) {
                return Some(message);
            }
            let left = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero())?;
            self.stream.set_read_timeout(Some(left)).ok()?;
            let mut octets = [0; 65_536];
            match self.stream.read(&mut octets) {
                Ok(0) => {
                    self.closed = true;
                    return None;
                }
                Ok(len) => self.unread.extend_from_slice(octets.get(..len)?),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return None,
                Err(error) => {
                    self.closed = true;
                    self.reset = error.kind() == ErrorKind::ConnectionReset;
                    return None;
                }
            }
        }
    }

    /// The next message that `wanted` takes; others are skipped.
    #[track_caller]
    pub fn expect(&mut self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let end = Instant::now() + SOON;
        let mut skipped = Vec::new();
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            match self.message(left) {
                Some(message) if wanted(&message) => return message,
                Some(message) => skipped.push(message.start),
                None => break,
            }
        }
        panic!("no {what}, closed: {}, but {skipped:?}", self.closed)
    }

    /// Whether the far end closes it in time; what it says before is skipped.
    pub fn closes_within(&mut self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            if self.message(left).is_none() && self.closed {
                return true;
            }
        }
        self.closed
    }
}

impl Stream for Tcp {
    fn send(&mut self, octets: &str) {
        self.send(octets);
    }

    fn message(&mut self, limit: Duration) -> Option<Message> {
        self.message(limit)
    }

    fn closed(&self) -> bool {
        self.closed
    }

    fn was_reset(&mut self) -> bool {
        self.reset |= is_broken(&self.stream);
        self.reset
    }
}

/// Whether the kernel has an error for whoever writes next: after a farewell a reset is kept until somebody asks.
pub fn is_broken(stream: &TcpStream) -> bool {
    stream.take_error().expect("a socket of ours").is_some()
}

/// Cuts one message off by its Content-Length.
pub fn cut(unread: &mut Vec<u8>) -> Option<Message> {
    while unread.starts_with(b"\r\n") {
        unread.drain(..2);
    }
    let head = unread.windows(4).position(|w| w == b"\r\n\r\n")? + 4;
    let message = Message::read(unread)?;
    let body: usize = message.all("content-length").first().and_then(|l| l.parse().ok()).unwrap_or(0);
    let raw = unread.get(..head + body)?.to_vec();
    unread.drain(..head + body);
    Message::read(&raw)
}
