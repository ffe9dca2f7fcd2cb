//! What this node still reaches, so that its own isolation is not taken for the death of others. A point counts as out of
//! reach only when the network says so (nobody answers ARP for it, no route, no link): a host that is silent, or refuses,
//! is there.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::time::Duration;

use crate::base::Time;
use crate::runtime::sys;

/// Hosts of resources beyond these make the answer no better; points that an operator names all count.
const RESOURCES: usize = 8;

/// RFC 863: what comes to this port is thrown away, and no host of ours listens there.
const DISCARD: u16 = 9;

/// What is sent: one octet that nobody reads.
const SIGN: &[u8] = b".";

/// A point that the network called out of reach is so until a host answers or this has passed without another such word.
/// ARP and neighbour discovery ask three times, a second apart, before they say that nobody answers, and only then they
/// begin anew; a second more on either side is for looks that come a second apart.
const FAILING: Duration = Duration::from_secs(5);

/// Errors taken from one socket in one look: far more than signs are under way.
const ERRORS: usize = 32;

/// Reference points and how they were last.
#[derive(Debug, Default)]
pub struct Reach {
    points: Vec<Point>,
}

#[derive(Debug)]
struct Point {
    addr: SocketAddr,
    socket: Option<UdpSocket>,
    /// When the network last said that it is out of reach, unless somebody there has answered since.
    lost: Option<Time>,
}

impl Reach {
    /// Reference points: those configured (`cluster.reference-points`), else hosts of resources.
    pub fn new(configured: &[IpAddr], resources: impl Iterator<Item = IpAddr>) -> Self {
        let sorted = |mut ips: Vec<IpAddr>| {
            ips.sort_unstable();
            ips.dedup();
            ips
        };
        let mut ips = sorted(configured.to_vec());
        if ips.is_empty() {
            ips = sorted(resources.collect());
            ips.truncate(RESOURCES);
        }
        let point = |ip| Point { addr: SocketAddr::new(ip, DISCARD), socket: None, lost: None };
        Self { points: ips.into_iter().map(point).collect() }
    }

    /// Goes on with what `before` knew of the same points: settings that change are no word of the network.
    pub fn succeeding(mut self, mut before: Self) -> Self {
        for point in &mut self.points {
            if let Some(n) = before.points.iter().position(|b| b.addr == point.addr) {
                *point = before.points.swap_remove(n);
            }
        }
        self
    }

    /// Hears what became of the last signs and sends new ones; whether any point is within reach, `None` without points.
    pub fn look(&mut self, now: Time) -> Option<bool> {
        self.points.iter_mut().for_each(|point| point.look(now));
        (!self.points.is_empty()).then(|| self.points.iter().any(|p| p.is_reached(now)))
    }
}

impl Point {
    fn look(&mut self, now: Time) {
        if let Err(error) = self.sign(now) {
            let code = error.raw_os_error();
            self.learn(now, code, None);
            // A socket that can be used no more, its own address gone for instance, makes way for a new one.
            if !is_answer(code) && !is_out_of_reach(code) && error.kind() != io::ErrorKind::WouldBlock {
                self.socket = None;
            }
        }
    }

    fn sign(&mut self, now: Time) -> io::Result<()> {
        let socket = match self.socket.take() {
            Some(socket) => socket,
            None => connected(self.addr)?,
        };
        let mut memory = [0; SIGN.len()];
        for _ in 0..ERRORS {
            let Some(refused) = sys::read_refused(socket.as_fd(), &mut memory) else { break };
            self.learn(now, refused.cause.raw_os_error(), refused.by);
        }
        let sent = socket.send(SIGN);
        self.socket = Some(socket);
        sent.map(drop)
    }

    /// What the network says of the last signs, and which host says it.
    fn learn(&mut self, now: Time, code: Option<i32>, by: Option<IpAddr>) {
        if is_answer(code) || by == Some(self.addr.ip()) {
            self.lost = None;
        } else if is_out_of_reach(code) {
            self.lost = Some(now);
        }
    }

    fn is_reached(&self, now: Time) -> bool {
        self.lost.is_none_or(|at| now.since(at) >= FAILING)
    }
}

fn connected(addr: SocketAddr) -> io::Result<UdpSocket> {
    let any: IpAddr = if addr.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.set_nonblocking(true)?;
    sys::queue_errors(socket.as_fd(), addr.is_ipv6())?;
    socket.connect(addr)?;
    Ok(socket)
}

/// Only a host that is there refuses.
fn is_answer(code: Option<i32>) -> bool {
    code == Some(libc::ECONNREFUSED)
}

fn is_out_of_reach(code: Option<i32>) -> bool {
    matches!(
        code,
        Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN | libc::EHOSTDOWN | libc::EADDRNOTAVAIL)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const AT: Time = Time::from_micros(1_000_000);

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn point() -> Point {
        Point { addr: SocketAddr::new(ip("192.0.2.1"), DISCARD), socket: None, lost: None }
    }

    #[test]
    fn a_host_that_refuses_is_there_and_ends_what_was_said_before() {
        let mut reach = Reach::new(&[], [ip("127.0.0.1")].into_iter());
        assert_eq!(reach.look(AT), Some(true));
        reach.points[0].lost = Some(AT);
        let socket = reach.points[0].socket.as_ref().unwrap();
        let mut refusal = [sys::Interest::readable(socket.as_fd())];
        sys::poll(&mut refusal, Some(Duration::from_secs(5))).unwrap();
        assert_eq!(reach.look(AT), Some(true));
        assert_eq!(reach.points[0].lost, None);
    }

    #[test]
    fn what_the_network_refuses_is_out_of_reach_and_no_points_are_no_answer() {
        // The prefix of RFC 5180 has no route anywhere.
        let mut reach = Reach::new(&[ip("2001:2::1")], std::iter::empty());
        let routed = UdpSocket::bind("[::]:0").and_then(|s| s.connect("[2001:2::1]:9")).is_ok();
        assert_eq!((reach.look(AT), reach.look(AT)), (Some(routed), Some(routed)));
        assert_eq!(Reach::new(&[], std::iter::empty()).look(AT), None);
    }

    #[test]
    fn nobody_answers_from_one_failure_of_arp_to_the_next() {
        let mut point = point();
        for second in [0, 4, 8] {
            let now = AT + Duration::from_secs(second);
            point.learn(now, Some(libc::EHOSTUNREACH), Some(ip("192.0.2.9")));
            let until = now + Duration::from_secs(4);
            assert!(!point.is_reached(now) && !point.is_reached(until), "at {second}");
        }
        assert!(point.is_reached(AT + Duration::from_secs(8) + FAILING), "and nothing was heard of it since");
    }

    #[test]
    fn a_host_whose_own_word_it_is_that_nobody_gets_through_is_there() {
        let mut point = point();
        // A firewall on that very host: ICMP "host administratively prohibited".
        point.learn(AT, Some(libc::EHOSTUNREACH), Some(ip("192.0.2.1")));
        assert!(point.is_reached(AT));
        point.learn(AT, Some(libc::EHOSTUNREACH), Some(ip("192.0.2.254")));
        assert!(!point.is_reached(AT), "a router's word");
        point.learn(AT, Some(libc::ECONNREFUSED), None);
        assert!(point.is_reached(AT));
    }

    #[test]
    fn every_configured_point_counts_and_settings_that_change_forget_nothing() {
        let all: Vec<IpAddr> = (1..=16).map(|n| IpAddr::from([192, 0, 2, n])).collect();
        let mut reach = Reach::new(&all, std::iter::empty());
        assert_eq!(reach.points.len(), 16);
        assert_eq!(Reach::new(&[], all.iter().copied()).points.len(), RESOURCES);
        reach.points[15].lost = Some(AT);
        let reach = Reach::new(&all[14..], std::iter::empty()).succeeding(reach);
        let lost: Vec<_> = reach.points.iter().map(|p| (p.addr.ip(), p.lost)).collect();
        assert_eq!(lost, [(all[14], None), (all[15], Some(AT))]);
    }

    #[test]
    fn causes_are_told_apart() {
        assert!([libc::EHOSTUNREACH, libc::ENETUNREACH, libc::ENETDOWN].into_iter().all(|c| is_out_of_reach(Some(c))));
        assert!(![libc::ECONNREFUSED, libc::EAGAIN].into_iter().any(|c| is_out_of_reach(Some(c))));
    }
}
