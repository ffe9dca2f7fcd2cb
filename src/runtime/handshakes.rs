//! TLS handshakes of those who have connected, bounded: whoever only begins them takes nothing from who completes his.
#![forbid(unsafe_code)]

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::{Arc, Weak};
use std::time::Duration;

use crate::base::{Time, limits};
use crate::runtime::connection::Connection;

/// A handshake that is older than this may have to give way: whoever means it is done by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Handshakes that are going on, and some that are over, in the order in which they began.
#[derive(Default)]
pub struct Handshakes(VecDeque<Begun>);

/// One that began.
struct Begun {
    /// What has ended since, with its TLS, is not kept for this.
    connection: Weak<Connection>,
    host: IpAddr,
    at: Time,
}

/// There is no room, and nobody has had his time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl Handshakes {
    /// One more begins; with it, the one that must end for it. What is over is forgotten only now and then.
    ///
    /// # Errors
    ///
    /// As many as may be go on, and none of them is late.
    pub fn begin(&mut self, connection: &Arc<Connection>, now: Time) -> Result<Option<Arc<Connection>>, Full> {
        if self.0.len() >= limits::HANDSHAKES {
            self.0.retain(|begun| begun.connection.upgrade().is_some_and(|connection| connection.is_shaking()));
        }
        let mut late = None;
        if self.0.len() >= limits::HANDSHAKES {
            let at = self.gives_way(host(connection), now).ok_or(Full)?;
            late = self.0.remove(at).and_then(|begun| begun.connection.upgrade());
        }
        self.0.push_back(Begun { connection: Arc::downgrade(connection), host: host(connection), at: now });
        Ok(late)
    }

    /// Which one ends for a newcomer: the oldest of the host that has most of them, if it has more than the newcomer's, so
    /// that no flood keeps out who comes from elsewhere; else the oldest of all once it has had its time.
    fn gives_way(&self, newcomer: IpAddr, now: Time) -> Option<usize> {
        let mut counts: HashMap<IpAddr, usize> = HashMap::new();
        for begun in &self.0 {
            *counts.entry(begun.host).or_default() += 1;
        }
        let own = counts.get(&newcomer).copied().unwrap_or_default();
        let most = counts.values().copied().max().filter(|most| *most > own);
        match most {
            Some(most) => self.0.iter().position(|begun| counts.get(&begun.host) == Some(&most)),
            None => self.0.front().filter(|begun| now.since(begun.at) >= PATIENCE).map(|_| 0),
        }
    }
}

fn host(connection: &Connection) -> IpAddr {
    connection.flow.remote.ip()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ConnId, Flow, ListenerId, Transport};
    use crate::runtime::stats::Closed;

    fn connection(n: usize) -> Arc<Connection> {
        connection_from(1, n)
    }

    fn connection_from(host: u8, n: usize) -> Arc<Connection> {
        let (local, remote) = ("127.0.0.1:5061".parse().unwrap(), ([192, 0, 2, host], 5061).into());
        let flow = Flow { transport: Transport::Tls, listener: ListenerId(0), local, remote, conn: None };
        Connection::new(ConnId(n as u64), flow, true)
    }

    #[test]
    fn a_flood_gives_way_to_who_comes_from_elsewhere() {
        let (mut handshakes, now) = (Handshakes::default(), Time::from_micros(1));
        let flood: Vec<_> = (0..limits::HANDSHAKES).map(|n| connection_from(1 + n as u8 % 2, n)).collect();
        flood.iter().for_each(|c| assert_eq!(handshakes.begin(c, now).map(|late| late.is_none()), Ok(true)));
        let few = [2_000, 2_001, 2_002].map(|n| connection_from(9, n));
        for (given_way, one) in few.iter().enumerate() {
            let late = handshakes.begin(one, now).unwrap().map(|c| c.id);
            assert_eq!(late, Some(flood[given_way].id), "the oldest of the host that has most");
        }
        let half = limits::HANDSHAKES / 2;
        let more: Vec<_> = (0..half).map(|n| connection_from(1, 3_000 + n)).collect();
        for one in &more {
            let _ = handshakes.begin(one, now);
        }
        let of =
            |wanted: u8| handshakes.0.iter().filter(|begun| begun.host == IpAddr::from([192, 0, 2, wanted])).count();
        assert_eq!((of(1) + of(2), of(9)), (limits::HANDSHAKES - 3, 3), "who is few keeps what he has");
    }

    #[test]
    fn what_has_ended_is_not_kept() {
        let mut handshakes = Handshakes::default();
        let all: Vec<_> = (0..3).map(connection).collect();
        for one in &all {
            handshakes.begin(one, Time::from_micros(1)).unwrap();
        }
        let known: Vec<_> = all.iter().map(Arc::downgrade).collect();
        drop(all);
        assert!(known.iter().all(|one| one.upgrade().is_none()), "with their sessions");
    }

    #[test]
    fn the_oldest_gives_way_when_it_has_had_its_time() {
        let (mut handshakes, start) = (Handshakes::default(), Time::from_micros(1));
        let all: Vec<_> = (0..=limits::HANDSHAKES + 1).map(connection).collect();
        let mut begin = |n: usize, at| handshakes.begin(&all[n], at).map(|late| late.map(|c| c.id));
        assert!((0..limits::HANDSHAKES).all(|n| begin(n, start) == Ok(None)));
        let next = limits::HANDSHAKES;
        assert_eq!(begin(next, start + PATIENCE - Duration::from_micros(1)), Err(Full));
        assert_eq!(begin(next, start + PATIENCE), Ok(Some(all[0].id)));
        all[7].end(Closed::Peer);
        assert_eq!(begin(next + 1, start), Ok(None), "one is over");
        assert_eq!(handshakes.0.len(), limits::HANDSHAKES);
    }
}
