//! One machine of the pair, one value: 64 shards (all that happens per call), one hub (nothing per call), one farm
//! (capacity), and the glue between them, written once.
#![forbid(unsafe_code)]

pub mod gate;
pub mod probe;
pub mod shard;
pub mod hub;
mod desk;
mod machine;

use crate::balance;
use crate::base::{Epoch, Flow, NodeId, ResourceId, Time};
use crate::identity::Identities;
use crate::proxy;
use crate::sip::{Index, Malformed};
use crate::token::Keys;

pub use crate::proxy::Config as ProxyConfig;
pub use machine::Node;

/// What the parts of a node are kept in. The core brings [`Single`]; `runtime` brings one with locks.
pub trait Cells {
    /// The cell of one part.
    type Cell<T>: Cell<T>;
}

/// One part of a node.
pub trait Cell<T> {
    /// Wraps a part.
    fn new(value: T) -> Self;
    /// Lends it for one call. Never nested on the same cell.
    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R;
}

/// Cells for one thread: simulator, benches, fuzzing.
#[derive(Debug)]
pub struct Single;

impl Cells for Single {
    type Cell<T> = std::cell::RefCell<T>;
}

impl<T> Cell<T> for std::cell::RefCell<T> {
    fn new(value: T) -> Self {
        std::cell::RefCell::new(value)
    }

    fn with<R>(&self, f: impl FnOnce(&mut T) -> R) -> R {
        f(&mut self.borrow_mut())
    }
}

/// What a node is made from.
#[derive(Clone, Debug)]
pub struct Config {
    /// `cluster.mymemberid`.
    pub node: NodeId,
    /// The epoch of this start; its counter is durable and grows with each start.
    pub epoch: Epoch,
    /// Random per process start.
    pub incarnation: u64,
    /// Seed of everything random and of all table hashes.
    pub seed: u64,
    /// Keys of branches and tokens.
    pub keys: Keys,
    /// Our addresses.
    pub identities: Identities,
    /// Groups and resources.
    pub farm: balance::Config,
    /// How calls are handled.
    pub proxy: proxy::Config,
    /// How many of each a node may hold.
    pub capacity: Capacity,
}

/// How many of each a node may hold, and over how many shards they are spread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// Shards, a power of two up to 64.
    pub shards: usize,
    /// Legs of the whole node.
    pub legs: usize,
    /// Transactions of the whole node.
    pub transactions: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        use crate::base::limits;
        Self { shards: limits::SHARDS, legs: limits::LEGS, transactions: limits::TRANSACTIONS }
    }
}

/// A message as it came in, lent for one call.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// From where, to which of our addresses.
    pub flow: Flow,
    /// Exactly one datagram, or one message framed from a stream.
    pub bytes: &'a [u8],
}

/// Something that happened outside.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A datagram, or a message framed from a stream.
    Message(Received<'a>),
    /// A stream lost its framing; `bytes` is the head of the message at fault. The node may answer; the driver closes
    /// the stream afterwards in any case.
    BadStream(Received<'a>, Malformed),
    /// Octets of ours that could not be delivered: a failed send, a refused connection, or the quotation in an ICMP
    /// error. `flow` as in the transmit; the octets may be cut short.
    Undelivered(Received<'a>),
    /// What an operator or the driver wants.
    Command(Command),
}

/// What an operator or the driver wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// No new calls: INVITEs get 503 with Retry-After, OPTIONS say so too. What lives goes on.
    Drain,
    /// The opposite.
    Resume,
}

/// Scratch of one driver thread: message indexes and the order of a batch. Reused, so that nothing is allocated per
/// message.
#[derive(Default)]
pub struct Scratch {
    indexes: Vec<Index>,
    order: Vec<(u8, u8)>,
}

/// Why the node wants to be woken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerName {
    /// A transaction timer (RFC 3261 §17, table 4).
    Transaction,
    /// Timer C, a lease, a session expiry.
    Coarse,
    /// An OPTIONS probe is due or late.
    Probe,
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
    /// Ended legs still remembered (64·T1).
    pub remembered: usize,
    /// Pending timers.
    pub timers: usize,
    /// Ports held.
    pub grants: usize,
}

impl Gauges {
    /// Whether every table is empty.
    pub fn is_empty(&self) -> bool {
        *self == Gauges::default()
    }
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
}
