//! What is kept about the link to the peer.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::balance::Doubt;
use crate::base::{Bucket, NodeId, ResourceId, Seq, Time, limits};
use crate::cluster::Progress;
use crate::replica::sync::{Incoming, Outgoing};

/// A message that is passed on early waits at most so long: two steps of a hand-over, after which either node has the role.
pub(super) const HAND_OVER: Duration = Duration::from_secs(1);

/// What is kept about the link to the peer.
#[derive(Debug, Default)]
pub(super) struct PeerLink {
    /// Whose link stands.
    pub up: Option<NodeId>,
    /// What comes in.
    pub incoming: Incoming,
    /// What goes out beside the lanes.
    pub outgoing: Outgoing,
    /// Octets that the bulk stream can take now.
    pub room: usize,
    /// When the next digest is sent.
    pub round: Time,
    /// A hand-over is complete once every shard's records up to here are acknowledged.
    pub flush: Option<Flush>,
    /// Buckets of a writer's lane that differed when they were last compared, and are not mended yet.
    pub apart: BTreeMap<(Side, u16), Vec<Bucket>>,
    /// Shards that sent something of which the peer does not know yet. Negative for a moment where two threads tell of one
    /// shard in the other order.
    pub untold: isize,
    /// What the cluster was last told.
    pub told: Progress,
    /// Relay frames that came before this node acts for the pair, and when.
    pub relays: Vec<(Time, Vec<u8>)>,
    /// Positions of the peer's lanes that were taken and not acknowledged yet.
    pub owed: Vec<(u16, Seq)>,
    /// When they are acknowledged at the latest; meaningless while there are none.
    pub owed_until: Time,
    /// What the peer was last told that speaks against resources; `None`: nothing since the link stands, or since this
    /// node acts.
    pub told_doubts: Option<Vec<Doubt>>,
    /// What the peer said that speaks against resources.
    pub doubts: Vec<Doubt>,
    /// Ports that calls of the peer hold, as it said when the link came up.
    pub ports: Option<Vec<(ResourceId, u32)>>,
    /// Counters since the start.
    pub stats: PeerStats,
}

/// Whose lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Side {
    /// This node's: the peer compared.
    Own,
    /// The peer's.
    Peer,
}

impl PeerLink {
    /// Keeps a relay frame; whether there was room.
    pub(super) fn keep_relay(&mut self, now: Time, payload: &[u8]) -> bool {
        // What is older was passed on in a hand-over that came to nothing.
        self.relays.retain(|(came, _)| now.since(*came) < HAND_OVER);
        let room = self.relays.len() < limits::EARLY_RELAYS;
        if room {
            self.relays.push((now, payload.to_vec()));
        }
        room
    }

    /// `lane` was taken up to `seq`: to be acknowledged by `until`, if nothing else is due earlier.
    pub(super) fn owe(&mut self, lane: u16, seq: Seq, until: Time) {
        if self.owed.is_empty() {
            self.owed_until = until;
        }
        match self.owed.iter_mut().find(|(owed, _)| *owed == lane) {
            Some((_, last)) => *last = seq,
            None => self.owed.push((lane, seq)),
        }
    }

    /// When the link wants something done next.
    pub(super) fn next_timeout(&self) -> Time {
        let round = self.up.map_or(Time::NEVER, |_| self.round);
        if self.owed.is_empty() { round } else { round.min(self.owed_until) }
    }

    /// These buckets of a lane differ.
    pub(super) fn differ(&mut self, side: Side, lane: u16, buckets: Vec<Bucket>) {
        match buckets.is_empty() {
            true => self.apart.remove(&(side, lane)),
            false => self.apart.insert((side, lane), buckets),
        };
    }

    /// Buckets that differ; `None` while that is not known of every lane.
    pub(super) fn apart(&self) -> Option<Vec<Bucket>> {
        let known = !self.apart.is_empty() || (self.incoming.is_complete() && self.outgoing.is_complete());
        let mut buckets: Vec<Bucket> = self.apart.values().flatten().copied().collect();
        buckets.sort_unstable_by_key(|bucket| bucket.0);
        buckets.dedup();
        (self.up.is_some() && known).then_some(buckets)
    }
}

/// Records that a hand-over waits for.
#[derive(Debug)]
pub(super) struct Flush {
    /// Comes back when all are acknowledged.
    pub number: u32,
    /// Shards that are still waited for.
    pub waits: Vec<usize>,
}

/// What is counted about replication.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PeerStats {
    /// Frames of the peer that could not be used.
    pub bad_frames: u64,
    /// Buckets that differed when they were compared.
    pub divergent_buckets: u64,
    /// Buckets sent whole.
    pub buckets_sent: u64,
    /// Messages that came in here and were handled by the peer.
    pub relayed_out: u64,
    /// Messages that came in at the peer and were handled here.
    pub relayed_in: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_owed_is_due_when_the_first_of_it_is() {
        let at = Time::from_micros;
        let mut link = PeerLink::default();
        assert_eq!(link.next_timeout(), Time::NEVER);
        link.owe(3, Seq(7), at(10));
        link.owe(1, Seq(2), at(20));
        link.owe(3, Seq(9), at(30));
        assert_eq!((link.next_timeout(), &link.owed[..]), (at(10), &[(3, Seq(9)), (1, Seq(2))][..]));
        (link.up, link.round) = (Some(NodeId(2)), at(5));
        assert_eq!(link.next_timeout(), at(5));
        link.owed.clear();
        link.owe(3, Seq(10), at(40));
        assert_eq!(link.owed_until, at(40));
    }
}
