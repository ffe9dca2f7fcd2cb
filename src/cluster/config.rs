//! What a node is told about its cluster before it starts.

use std::fmt;

use crate::base::{Epoch, NodeId, limits};

use super::timing::{Timing, TimingError};

/// `cluster.ha-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaMode {
    /// One node alone.
    None,
    /// One node holds the virtual addresses, the other follows.
    ActiveStandby,
    /// Every node serves. [`Config::check`] refuses it: nothing here shares the work out yet.
    ActiveActive,
}

/// `cluster.partition`: who may admit new calls while nodes cannot tell partition from death.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Partition {
    /// After the lease a node that serves spends everything; limits may be exceeded on both sides together.
    Available,
    /// Each node stays within its share at all times, also while it hears its peer; limits hold, a lone survivor of an
    /// unproved death has part of the capacity. What a node that died unarmed may have spent is left alone for a lease.
    Exact,
    /// After the lease the lowest id spends everything, the others keep their calls and admit nothing new.
    PreferLowerId,
}

/// A peer of this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PeerConfig {
    /// `cluster.member.N`.
    pub id: NodeId,
    /// How many addresses it has: one path each, in the order of the configuration.
    pub paths: u8,
}

/// All that [`super::Cluster::new`] needs.
#[derive(Clone, Debug)]
pub struct Config {
    /// `cluster.mymemberid`.
    pub me: NodeId,
    /// Random per process start.
    pub incarnation: u64,
    /// The durable counter of this start: one more than the last durable one, already written.
    pub counter: u32,
    /// A hash of `cluster.name`: beats of another cluster are refused by it.
    pub cluster: u64,
    /// `cluster.ha-mode`.
    pub mode: HaMode,
    /// The other members.
    pub peers: Vec<PeerConfig>,
    /// Times.
    pub timing: Timing,
    /// `cluster.partition`.
    pub partition: Partition,
    /// Among nodes that could serve equally well the highest is chosen.
    pub priority: u8,
    /// Whether a node of higher priority gets its role back once it is armed.
    pub preempt: bool,
    /// A hash of the effective configuration, to be equal on all nodes.
    pub config: u64,
}

/// Why a [`Config`] cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// Times do not fit together.
    Timing(TimingError),
    /// A mode that is not served.
    Mode(HaMode),
    /// A peer has this node's own id.
    OwnId(NodeId),
    /// Two peers with one id.
    SameId(NodeId),
    /// More peers than [`limits::PEERS`].
    Peers(usize),
    /// A peer without a path or with more than [`limits::PATHS`].
    Paths(NodeId),
    /// `active-standby` without a peer.
    NoPeer,
}

impl Config {
    /// Whether a node can start with this.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.timing.check().map_err(ConfigError::Timing)?;
        match self.mode {
            HaMode::ActiveActive => return Err(ConfigError::Mode(self.mode)),
            HaMode::ActiveStandby if self.peers.is_empty() => return Err(ConfigError::NoPeer),
            HaMode::ActiveStandby | HaMode::None => {}
        }
        if self.peers.len() > limits::PEERS {
            return Err(ConfigError::Peers(self.peers.len()));
        }
        for (n, peer) in self.peers.iter().enumerate() {
            if peer.id == self.me {
                return Err(ConfigError::OwnId(peer.id));
            }
            if self.peers[..n].iter().any(|other| other.id == peer.id) {
                return Err(ConfigError::SameId(peer.id));
            }
            if peer.paths == 0 || usize::from(peer.paths) > limits::PATHS {
                return Err(ConfigError::Paths(peer.id));
            }
        }
        Ok(())
    }

    /// The epoch of this start.
    pub fn epoch(&self) -> Epoch {
        Epoch { counter: self.counter, node: self.me }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Timing(fault) => fault.fmt(f),
            ConfigError::Mode(_) => {
                f.write_str("cluster.ha-mode = \"active-active\" is not served; use active-standby")
            }
            ConfigError::OwnId(id) => write!(f, "member {} is this node itself (cluster.mymemberid)", id.0),
            ConfigError::SameId(id) => write!(f, "member {} is there twice", id.0),
            ConfigError::Peers(n) => write!(f, "{n} peers, at most {} are served", limits::PEERS),
            ConfigError::Paths(id) => write!(f, "member {} needs 1 to {} addresses", id.0, limits::PATHS),
            ConfigError::NoPeer => f.write_str("active-standby needs a second member: set cluster.member.N for it"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair() -> Config {
        Config {
            me: NodeId(1),
            incarnation: 7,
            counter: 1,
            cluster: 0,
            mode: HaMode::ActiveStandby,
            peers: vec![PeerConfig { id: NodeId(2), paths: 1 }],
            timing: Timing::default(),
            partition: Partition::Available,
            priority: 100,
            preempt: false,
            config: 0,
        }
    }

    #[test]
    fn members_are_checked() {
        let peer = |id, paths| PeerConfig { id: NodeId(id), paths };
        let with = |peers: Vec<PeerConfig>| Config { peers, ..pair() }.check();
        assert_eq!(pair().check(), Ok(()));
        assert_eq!(with(vec![]), Err(ConfigError::NoPeer));
        assert_eq!(with(vec![peer(1, 1)]), Err(ConfigError::OwnId(NodeId(1))));
        assert_eq!(with(vec![peer(2, 1), peer(2, 1)]), Err(ConfigError::SameId(NodeId(2))));
        assert_eq!(with(vec![peer(2, 0)]), Err(ConfigError::Paths(NodeId(2))));
        assert_eq!(with(vec![peer(2, 200)]), Err(ConfigError::Paths(NodeId(2))));
        let many = (2..20).map(|id| peer(id, 1)).collect();
        assert_eq!(with(many), Err(ConfigError::Peers(18)));
    }

    #[test]
    fn modes_and_times_are_checked() {
        let config = Config { mode: HaMode::ActiveActive, ..pair() };
        assert_eq!(config.check(), Err(ConfigError::Mode(HaMode::ActiveActive)));
        let alone = Config { mode: HaMode::None, peers: vec![], ..pair() };
        assert_eq!(alone.check(), Ok(()));
        let mut hasty = pair();
        hasty.timing.beat = std::time::Duration::ZERO;
        assert_eq!(hasty.check(), Err(ConfigError::Timing(TimingError::Zero("beat"))));
    }
}
