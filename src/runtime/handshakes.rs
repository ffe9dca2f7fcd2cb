//! TLS handshakes of those who have connected, bounded: whoever only begins them takes nothing from who completes his.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Time, limits};
use crate::runtime::connection::Connection;

/// A handshake that is older than this may have to give way: whoever means it is done by then.
const PATIENCE: Duration = Duration::from_secs(1);

/// Handshakes that are going on, and some that are over, in the order in which they began.
#[derive(Default)]
pub struct Handshakes(VecDeque<(Arc<Connection>, Time)>);

/// Whether there is room for one more.
pub enum Room {
    /// There is.
    Free,
    /// There is if this one ends, which takes too long.
    After(Arc<Connection>),
    /// There is not.
    None,
}

impl Handshakes {
    /// Looks for room. What is over is forgotten only now and then.
    pub fn room(&mut self, now: Time) -> Room {
        if self.0.len() >= limits::HANDSHAKES {
            self.0.retain(|(connection, _)| connection.is_shaking());
        }
        if self.0.len() < limits::HANDSHAKES {
            return Room::Free;
        }
        match self.0.pop_front_if(|(_, began)| now.since(*began) >= PATIENCE) {
            Some((oldest, _)) => Room::After(oldest),
            None => Room::None,
        }
    }

    /// One more has begun.
    pub fn begin(&mut self, connection: Arc<Connection>, now: Time) {
        self.0.push_back((connection, now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ConnId, Flow, ListenerId, Transport};
    use crate::runtime::stats::Closed;

    fn connection(n: usize) -> Arc<Connection> {
        let local = "127.0.0.1:5061".parse().unwrap();
        let flow = Flow { transport: Transport::Tls, listener: ListenerId(0), local, remote: local, conn: None };
        Connection::new(ConnId(n as u64), flow, true)
    }

    #[test]
    fn the_oldest_gives_way_when_it_has_had_its_time() {
        let (mut handshakes, start) = (Handshakes::default(), Time::from_micros(1));
        let all: Vec<_> = (0..limits::HANDSHAKES).map(connection).collect();
        for connection in &all {
            assert!(matches!(handshakes.room(start), Room::Free));
            handshakes.begin(Arc::clone(connection), start);
        }
        assert!(matches!(handshakes.room(start + PATIENCE - Duration::from_micros(1)), Room::None));
        let Room::After(oldest) = handshakes.room(start + PATIENCE) else { panic!("the oldest is late") };
        assert_eq!(oldest.id, all[0].id);
        handshakes.begin(connection(limits::HANDSHAKES), start + PATIENCE);
        all[7].end(Closed::Peer);
        assert!(matches!(handshakes.room(start), Room::Free), "one is over");
        assert_eq!(handshakes.0.len(), limits::HANDSHAKES - 1);
    }
}
