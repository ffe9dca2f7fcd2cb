//! What a node is made from.

use crate::balance;
use crate::base::{Epoch, NodeId};
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
