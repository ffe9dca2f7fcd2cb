//! What can be seen of a node.

use crate::balance::PinStats;
use crate::base::{Pin, ResourceId, Time};
use crate::proxy;
use crate::sip::Malformed;

/// Why the node wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerName {
    /// A transaction timer (RFC 3261 §17, table 4).
    Transaction,
    /// Timer C, a lease, a session expiry.
    Coarse,
    /// An OPTIONS probe is due or late.
    Probe,
    /// A message has waited for the peer's word for long enough.
    Gate,
    /// The peer is told what it should hold.
    Sync,
}

/// Plain counters of a node since its start, summed over its shards. The edge exports them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// What happened per call.
    pub calls: proxy::stats::Stats,
    /// Messages that could not be read, by reason: see [`Malformed::ALL`].
    pub malformed: [u64; Malformed::ALL.len()],
    /// Of these: answered with a refusal.
    pub refusals: u64,
    /// Keep-alives and stray CRLF in datagrams.
    pub keep_alives: u64,
    /// STUN-like datagrams.
    pub stun: u64,
    /// Failed assertions of ours, each at the cost of one message.
    pub panics: u64,
    /// Shards that have stopped for good.
    pub silent_shards: u64,
    /// What waited for the peer.
    pub gate: super::gate::GateStats,
    /// What was exchanged with the peer.
    pub peer: super::peer_link::PeerStats,
    /// Messages for a virtual address that came while the peer acts for it.
    pub stale: u64,
    /// What happened to keys that calls are bound by.
    pub pins: PinStats,
}

impl Default for Stats {
    fn default() -> Self {
        Self {
            calls: proxy::stats::Stats::default(),
            malformed: [0; Malformed::ALL.len()],
            refusals: 0,
            keep_alives: 0,
            stun: 0,
            panics: 0,
            silent_shards: 0,
            gate: super::gate::GateStats::default(),
            peer: super::peer_link::PeerStats::default(),
            stale: 0,
            pins: PinStats::default(),
        }
    }
}

/// How much of everything is alive now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Gauges {
    /// Answered legs.
    pub legs: usize,
    /// INVITEs without a final answer yet.
    pub ringing: usize,
    /// Sessions.
    pub sessions: usize,
    /// Server transactions.
    pub server_transactions: usize,
    /// Client transactions.
    pub client_transactions: usize,
    /// Ended legs still remembered (64·T1, or while the peer may believe in them).
    pub remembered: usize,
    /// Pending timers.
    pub timers: usize,
    /// Ports held.
    pub grants: usize,
    /// Keys that bind calls to a resource.
    pub pins: usize,
    /// Calls that the peer sets up, also those that are only remembered.
    pub shadows: usize,
    /// Messages that wait for the peer's word.
    pub held: usize,
}

impl Gauges {
    /// Whether every table is empty.
    pub fn is_empty(&self) -> bool {
        *self == Gauges::default()
    }
}

/// How far the peer holds what a node does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Exposure {
    /// Whether the link stands.
    pub linked: bool,
    /// Records that the peer has not acknowledged.
    pub records: u64,
    /// When the oldest of them was put out.
    pub oldest: Option<Time>,
    /// INVITEs without a final answer whose last record it has not acknowledged.
    pub ringing: usize,
    /// INVITEs without a final answer that the peer acts for.
    pub peer_ringing: usize,
    /// Calls that may differ: those in buckets whose digests differ; all while the nodes cannot compare.
    pub apart: usize,
    /// Buckets whose digests differ.
    pub buckets_apart: usize,
}

/// One line of `tandem calls`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LegView {
    /// Leg id in hexadecimal.
    pub id: String,
    /// Call-ID.
    pub call_id: String,
    /// Where it lives.
    pub resource: ResourceId,
    /// `trying`, `ringing`, `answered`.
    pub state: &'static str,
    /// When its INVITE came in.
    pub since: Time,
    /// What binds it there.
    pub pin: Option<Pin>,
}
