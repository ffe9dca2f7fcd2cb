//! What a node is made from.

use std::net::IpAddr;
use std::time::Duration;

use crate::balance;
use crate::base::{Epoch, NodeId};
use crate::cluster;
use crate::identity::Identities;
use crate::proxy;
use crate::token::Keys;

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
    /// The pair that this node belongs to; `None`: it is alone.
    pub pair: Option<Pair>,
}

/// The pair that a node belongs to.
#[derive(Clone, Debug)]
pub struct Pair {
    /// Members, times, policies.
    pub cluster: cluster::Config,
    /// The other node.
    pub peer: NodeId,
    /// `cluster.virtual-ip`: what comes to these is for the active node alone.
    pub virtual_ips: Vec<IpAddr>,
    /// `cluster.commit`.
    pub commit: proxy::Commit,
    /// `cluster.commit-timeout`.
    pub commit_timeout: Duration,
    /// `cluster.floor`: per mille of each limit that the active node may spend while nobody knows of the other one.
    pub active_share: u16,
    /// `cluster.cold-reserve`: per mille of each limit that is left alone for one lease if nobody remembers the calls of
    /// the time before.
    pub cold_reserve: u16,
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
