//! What who takes over must know of the other node's host: the streams that callers have open to it, whose kernels are
//! made to notice that the other end is gone, and its hardware addresses, by which its answers are told from a stranger's.

use super::relay;
use crate::base::Flow;

/// What happened to a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// None is known any more: what follows is the whole list.
    Anew,
    /// It was opened.
    Opened(Flow),
    /// It has ended.
    Ended(Flow),
    /// The sender's host has this hardware address, now or before.
    Card([u8; 6]),
}

/// Octets of a flow.
const FLOW: usize = 39;

impl News {
    /// Appends it.
    pub fn write(&self, payload: &mut Vec<u8>) {
        match self {
            News::Anew => payload.push(0),
            News::Opened(flow) => {
                payload.push(1);
                relay::write(*flow, b"", payload);
            }
            News::Ended(flow) => {
                payload.push(2);
                relay::write(*flow, b"", payload);
            }
            News::Card(card) => {
                payload.push(3);
                payload.extend(card);
            }
        }
    }

    /// Reads all news of a payload; stops at what it does not know.
    pub fn read(mut payload: &[u8]) -> impl Iterator<Item = News> {
        std::iter::from_fn(move || {
            let (kind, rest) = payload.split_first()?;
            if *kind == 0 {
                payload = rest;
                return Some(News::Anew);
            }
            if *kind == 3 {
                let (card, rest) = rest.split_first_chunk()?;
                payload = rest;
                return Some(News::Card(*card));
            }
            let (flow, rest) = rest.split_at_checked(FLOW)?;
            payload = rest;
            let (flow, _) = relay::read(flow)?;
            match kind {
                1 => Some(News::Opened(flow)),
                2 => Some(News::Ended(flow)),
                _ => None,
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{ListenerId, Transport};

    #[test]
    fn news_are_read_in_their_order() {
        let (local, remote) = ("192.0.2.10:5060".parse().unwrap(), "[2001:db8::9]:40000".parse().unwrap());
        let flow = Flow { transport: Transport::Tcp, listener: ListenerId(0), local, remote, conn: None };
        let all = [News::Anew, News::Card([2, 0, 0, 0, 0, 9]), News::Opened(flow), News::Ended(flow)];
        let mut payload = Vec::new();
        all.iter().for_each(|news| news.write(&mut payload));
        assert_eq!(News::read(&payload).collect::<Vec<_>>(), all);
        assert_eq!(News::read(&payload[..payload.len() - 1]).count(), 3);
        assert_eq!(News::read(&payload[..7]).count(), 1);
        payload[8] = 9;
        assert_eq!(News::read(&payload).collect::<Vec<_>>(), all[..2]);
    }
}
