//! Datagrams whose address of the pair is still on its way here: they leave when it has come.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::base::{Flow, Time, limits};

/// After T1 (RFC 3261 §17.1.1.1) whoever misses a message has begun to repeat his own.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two tries: nobody tells when an address has come that somebody else moves.
const PAUSE: Duration = Duration::from_millis(1);

/// Oldest first.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    some: AtomicBool,
    queue: Mutex<Queue>,
}

#[derive(Debug, Default)]
struct Queue {
    datagrams: VecDeque<(Time, Flow, Vec<u8>)>,
    again: Time,
}

impl Waiting {
    /// Whether none waits.
    pub(super) fn is_empty(&self) -> bool {
        !self.some.load(Ordering::Relaxed)
    }

    /// Keeps a datagram that could not leave; whether there was room.
    pub(super) fn keep(&self, now: Time, flow: Flow, octets: &[u8]) -> bool {
        let mut queue = self.queue.lock();
        let room = queue.datagrams.len() < limits::UNADDRESSED;
        if room {
            queue.datagrams.push_back((now, flow, octets.to_vec()));
            queue.again = now + PAUSE;
            self.some.store(true, Ordering::Relaxed);
        }
        room
    }

    /// Offers them to `send` until one cannot leave yet, for then the others cannot either. How many have waited for too
    /// long.
    pub(super) fn offer(&self, now: Time, mut send: impl FnMut(Flow, &[u8]) -> bool) -> u64 {
        let mut queue = self.queue.lock();
        if now < queue.again {
            return 0;
        }
        queue.again = now + PAUSE;
        let mut lost = 0;
        while let Some((since, flow, octets)) = queue.datagrams.front() {
            if now.since(*since) >= PATIENCE {
                lost += 1;
            } else if !send(*flow, octets) {
                break;
            }
            queue.datagrams.pop_front();
        }
        self.some.store(!queue.datagrams.is_empty(), Ordering::Relaxed);
        lost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ListenerId, Transport};

    #[test]
    fn they_leave_in_their_order_once_the_first_one_can() {
        let at = |ms: u64| Time::from_micros(ms * 1_000);
        let addr = "192.0.2.10:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local: addr, remote: addr, conn: None };
        let (waiting, mut tried) = (Waiting::default(), Vec::new());
        let offered = |now, leaves: bool, tried: &mut Vec<u8>| {
            waiting.offer(at(now), |_, octets| {
                tried.push(octets[0]);
                leaves
            })
        };
        assert!(waiting.is_empty());
        for n in 1..=3 {
            assert!(waiting.keep(at(u64::from(n)), flow, &[n]));
        }
        assert_eq!((offered(3, true, &mut tried), &tried[..]), (0, &[][..]), "none of them could a moment ago");
        assert_eq!((offered(4, false, &mut tried), &tried[..]), (0, &[1][..]), "nor can the others");
        assert_eq!((offered(502, true, &mut tried), &tried[..]), (2, &[1, 3][..]));
        assert!(waiting.is_empty());
        assert_eq!(offered(600, true, &mut tried), 0);
        assert_eq!((0..2_000).filter(|_| waiting.keep(at(700), flow, b"x")).count(), limits::UNADDRESSED);
    }
}
