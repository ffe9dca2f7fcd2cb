//! What a node is told about its cluster before it starts.

use std::fmt;

use crate::base::{Epoch, NodeId, limits};

use super::timing::{Timing, TimingError};

/// `cluster.ha-mode`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HaMode {
    /// One node serves, and nobody takes over from it.
    None = 0,
    /// One node holds the virtual addresses, the other follows.
    ActiveStandby = 1,
    /// Every node serves. One of them is active as in `ActiveStandby`, the others join it.
    ActiveActive = 2,
}

/// The mode in force, and the word that put it there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mode {
    /// Which.
    pub mode: HaMode,
    /// Of two words the later one counts on both nodes; counter 0: what the configuration says. Its node is the one that serves
    /// in [`HaMode::None`].
    pub word: Epoch,
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
    /// Who holds the lease of the witness spends everything, the others keep their calls and admit nothing new.
    Witness,
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
    /// `cluster.ha-mode` as it was last in force.
    pub mode: Mode,
    /// Those that the addresses of the pair allow.
    pub modes: Vec<HaMode>,
    /// Both nodes can serve at one time: behind a balancer, or because each has addresses of its own. Then every limit is split
    /// evenly, and what comes to a node that does not serve goes to the one that does.
    pub shared: bool,
    /// Besides addresses of its own for each node there are some that whoever is active holds.
    pub leads: bool,
    /// The other members.
    pub peers: Vec<PeerConfig>,
    /// Times.
    pub timing: Timing,
    /// Whether the network can be asked who answers for a silent node's address. If not, silence must last for the lease.
    pub probes: bool,
    /// Where each node has addresses of its own (`cluster.service-ip`), which the active one holds while their node does not
    /// serve: how long those are kept, in silence, once they are given back; what began there ends there.
    pub crossed: Option<std::time::Duration>,
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
    /// A peer has this node's own id.
    OwnId(NodeId),
    /// Two peers with one id.
    SameId(NodeId),
    /// More peers than [`limits::PEERS`].
    Peers(usize),
    /// A peer without a path or with more than [`limits::PATHS`].
    Paths(NodeId),
    /// A mode for several nodes without a peer.
    NoPeer,
}

impl Config {
    /// Whether a node can start with this.
    pub fn check(&self) -> Result<(), ConfigError> {
        self.timing.check().map_err(ConfigError::Timing)?;
        if self.partition == Partition::Witness {
            self.timing.check_witness().map_err(ConfigError::Timing)?;
        }
        match self.mode.mode {
            HaMode::ActiveStandby | HaMode::ActiveActive if self.peers.is_empty() => return Err(ConfigError::NoPeer),
            HaMode::ActiveStandby | HaMode::ActiveActive | HaMode::None => {}
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

impl std::str::FromStr for HaMode {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let all = [HaMode::None, HaMode::ActiveStandby, HaMode::ActiveActive];
        all.into_iter().find(|mode| mode.to_string() == text).ok_or(())
    }
}

/// As written.
impl fmt::Display for HaMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            HaMode::None => "none",
            HaMode::ActiveStandby => "active-standby",
            HaMode::ActiveActive => "active-active",
        })
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Timing(fault) => fault.fmt(f),
            ConfigError::OwnId(id) => write!(f, "member {} is this node itself (cluster.mymemberid)", id.0),
            ConfigError::SameId(id) => write!(f, "member {} is there twice", id.0),
            ConfigError::Peers(n) => write!(f, "{n} peers, at most {} are served", limits::PEERS),
            ConfigError::Paths(id) => write!(f, "member {} needs 1 to {} addresses", id.0, limits::PATHS),
            ConfigError::NoPeer => f.write_str("a cluster needs a second member: set cluster.member.N for it"),
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
            mode: Mode { mode: HaMode::ActiveStandby, word: Epoch::default() },
            modes: vec![HaMode::None, HaMode::ActiveStandby],
            shared: false,
            leads: false,
            peers: vec![PeerConfig { id: NodeId(2), paths: 1 }],
            timing: Timing::default(),
            probes: true,
            crossed: None,
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
        let in_mode = |mode| Mode { mode, word: Epoch::default() };
        let config = Config { mode: in_mode(HaMode::ActiveActive), ..pair() };
        assert_eq!(config.check(), Ok(()));
        assert_eq!(Config { peers: vec![], ..config }.check(), Err(ConfigError::NoPeer));
        let alone = Config { mode: in_mode(HaMode::None), peers: vec![], ..pair() };
        assert_eq!(alone.check(), Ok(()));
        let mut hasty = pair();
        hasty.timing.beat = std::time::Duration::ZERO;
        assert_eq!(hasty.check(), Err(ConfigError::Timing(TimingError::Zero("beat"))));
    }
}
