//! What this node still reaches, so that its own isolation is not taken for the death of others. A point counts as out of
//! reach only when the network says so (nobody answers ARP for it, no route, no link): a host that is silent, or refuses,
//! is there.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

/// More points make the answer no better.
const POINTS: usize = 8;

/// RFC 863: what comes to this port is thrown away, and no host of ours listens there.
const DISCARD: u16 = 9;

/// What is sent: one octet that nobody reads.
const SIGN: &[u8] = b".";

/// Reference points and how they were last.
#[derive(Debug, Default)]
pub struct Reach {
    points: Vec<Point>,
}

#[derive(Debug)]
struct Point {
    addr: SocketAddr,
    socket: Option<UdpSocket>,
    reached: bool,
}

impl Reach {
    /// Reference points: those configured (`cluster.reference-points`), else the hosts of resources.
    pub fn new(configured: &[IpAddr], resources: impl Iterator<Item = IpAddr>) -> Self {
        let mut ips: Vec<IpAddr> = if configured.is_empty() { resources.collect() } else { configured.to_vec() };
        ips.sort_unstable();
        ips.dedup();
        let point = |ip| Point { addr: SocketAddr::new(ip, DISCARD), socket: None, reached: true };
        Self { points: ips.into_iter().take(POINTS).map(point).collect() }
    }

    /// Hears what became of the last signs and sends new ones; whether any point is within reach, `None` without points.
    pub fn look(&mut self) -> Option<bool> {
        for point in &mut self.points {
            point.reached = point.look().is_ok();
        }
        (!self.points.is_empty()).then(|| self.points.iter().any(|p| p.reached))
    }
}

impl Point {
    fn look(&mut self) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => {
                let any: IpAddr = if self.addr.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
                let socket = UdpSocket::bind((any, 0))?;
                socket.set_nonblocking(true)?;
                socket.connect(self.addr)?;
                socket
            }
        };
        let pending = socket.take_error()?;
        let sent = socket.send(SIGN);
        match pending.or(sent.err()) {
            Some(error) if is_out_of_reach(&error) => Err(error),
            _ => {
                self.socket = Some(socket);
                Ok(())
            }
        }
    }
}

fn is_out_of_reach(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN | libc::EHOSTDOWN | libc::EADDRNOTAVAIL)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_refuses_is_there() {
        let host = "127.0.0.1".parse().unwrap();
        let mut reach = Reach::new(&[], [host].into_iter());
        assert_eq!((reach.look(), reach.look()), (Some(true), Some(true)));
    }

    #[test]
    fn what_the_network_refuses_is_out_of_reach_and_no_points_are_no_answer() {
        // The prefix of RFC 5180 has no route anywhere.
        let mut reach = Reach::new(&["2001:2::1".parse().unwrap()], std::iter::empty());
        let routed = UdpSocket::bind("[::]:0").and_then(|s| s.connect("[2001:2::1]:9")).is_ok();
        assert_eq!(reach.look(), Some(routed));
        assert_eq!(Reach::new(&[], std::iter::empty()).look(), None);
    }

    #[test]
    fn causes_are_told_apart() {
        let of = |code| is_out_of_reach(&io::Error::from_raw_os_error(code));
        assert!(of(libc::EHOSTUNREACH) && of(libc::ENETUNREACH) && of(libc::ENETDOWN));
        assert!(!of(libc::ECONNREFUSED) && !of(libc::EAGAIN));
    }
}
