//! A UDP socket of the test.

use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use super::message::Message;
use super::poll::SOON;

/// A bound socket.
pub struct Udp {
    socket: UdpSocket,
    /// Where it is bound.
    pub at: SocketAddr,
}

impl Udp {
    /// Binds it.
    #[track_caller]
    pub fn bind(at: SocketAddr) -> Udp {
        let socket = UdpSocket::bind(at).unwrap_or_else(|error| panic!("{at}: {error}"));
        let at = socket.local_addr().expect("a bound address");
        Udp { socket, at }
    }

    /// From now on hears only `peer`.
    #[track_caller]
    pub fn connect(&self, peer: SocketAddr) {
        self.socket.connect(peer).expect("a route on loopback");
    }

    /// Sends one datagram.
    #[track_caller]
    pub fn send(&self, to: SocketAddr, octets: impl AsRef<[u8]>) {
        let sent = match self.socket.peer_addr() {
            Ok(_) => self.socket.send(octets.as_ref()),
            Err(_) => self.socket.send_to(octets.as_ref(), to),
        };
        sent.expect("a datagram on loopback");
    }

    /// Sends one datagram, which the network may refuse.
    pub fn try_send(&self, to: SocketAddr, octets: impl AsRef<[u8]>) {
        let _refused = self.socket.send_to(octets.as_ref(), to);
    }

    /// The next datagram, if one comes in time.
    pub fn octets(&self, limit: Duration) -> Option<(Vec<u8>, SocketAddr)> {
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).expect("a timeout");
        let mut octets = vec![0; 65_536];
        let (len, from) = self.socket.recv_from(&mut octets).ok()?;
        octets.truncate(len);
        Some((octets, from))
    }

    /// The next message that `wanted` takes; others are skipped.
    #[track_caller]
    pub fn expect(&self, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        self.expect_within(SOON, what, wanted)
    }

    /// [`Self::expect`] with a limit of its own.
    #[track_caller]
    pub fn expect_within(&self, limit: Duration, what: &str, wanted: impl Fn(&Message) -> bool) -> Message {
        let end = Instant::now() + limit;
        let mut skipped = Vec::new();
        while let Some(left) = end.checked_duration_since(Instant::now()) {
            let Some((octets, _)) = self.octets(left) else { break };
            match Message::read(&octets) {
                Some(message) if wanted(&message) => return message,
                Some(message) => skipped.push(message.start),
                None => skipped.push(String::from_utf8_lossy(&octets).into_owned()),
            }
        }
        panic!("{}: no {what} within {limit:?}, but {skipped:?}", self.at)
    }

    /// Waits for this answer; provisional ones before it are skipped, any other final answer is an error.
    #[track_caller]
    pub fn answer(&self, status: u16, method: &str) -> Message {
        let final_or_wanted =
            |m: &Message| m.method() == method && (m.status() == Some(status) || m.status().is_some_and(|s| s >= 200));
        let answer = self.expect(&format!("{status} to {method}"), final_or_wanted);
        assert_eq!(answer.status(), Some(status), "{answer:?}");
        answer
    }

    /// Everything that is waiting in the socket now.
    pub fn drain(&self) -> Vec<Message> {
        let mut found = Vec::new();
        while let Some((octets, _)) = self.octets(Duration::from_millis(1)) {
            found.extend(Message::read(&octets));
        }
        found
    }
}
