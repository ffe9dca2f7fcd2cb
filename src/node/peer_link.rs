//! What is kept about the link to the peer.

use crate::base::{NodeId, Time};
use crate::replica::sync::{Incoming, Outgoing};

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
    /// What the cluster was last told of `incoming` and `outgoing`.
    pub told: (bool, bool),
    /// Counters since the start.
    pub stats: PeerStats,
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
