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
            self.0.retain(|(connection, _)| connection.is_shaking());
        }
        let mut late = None;
        if self.0.len() >= limits::HANDSHAKES {
            late = Some(self.0.pop_front_if(|(_, began)| now.since(*began) >= PATIENCE).ok_or(Full)?.0);
        }
        self.0.push_back((Arc::clone(connection), now));
        Ok(late)
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
