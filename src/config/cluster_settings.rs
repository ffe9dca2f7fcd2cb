//! What `[cluster]` says, as values.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use crate::base::NodeId;
use crate::cluster::{HaMode, Partition, Timing};

/// `[cluster]`. Without a pair (`ha-mode = "none"`) only `name`, `node`, `secret_file` and `state_dir` have an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `name`, default "tandem".
    pub name: String,
    /// `ha-mode`, default `none`; never active-active, which is refused.
    pub ha_mode: HaMode,
    /// `mymemberid`, default 1.
    pub node: NodeId,
    /// `secret-file`, whose octets are the secret; `None`: the environment (`TANDEM_CLUSTER_SECRET`), or, without a
    /// pair, `node.key` in `state-dir`.
    pub secret_file: Option<PathBuf>,
    /// `state-dir`, default /var/lib/tandem.
    pub state_dir: PathBuf,
    /// `member.N` in the order of their ids. Of an active-standby pair: two, this node is one of them, and both have the
    /// same number of paths.
    pub members: Vec<Member>,
    /// `virtual-ip` in order; a pair has at least one.
    pub virtual_ips: Vec<VirtualIp>,
    /// `service-ip.N`; only active-active uses them.
    pub service_ips: Vec<(NodeId, IpAddr)>,
    /// `reference-points`; empty: hosts of resources, at most eight.
    pub reference_points: Vec<IpAddr>,
    /// `partition`, default `available`.
    pub partition: Partition,
    /// `floor`: percent of each limit that the active node may spend whatever its peer does, 50 to 100, default 90; the
    /// peer may spend the rest.
    pub floor: u8,
    /// `cold-reserve`: percent of each limit that a pair of which nobody remembers the calls holds back for one lease,
    /// 0 to 90, default 10.
    pub cold_reserve: u8,
    /// `commit`, default `peer-ack`.
    pub commit: Commit,
    /// `commit-timeout`: how long a message waits for the peer's acknowledgement, 1 to 100 ms, default 5 ms.
    pub commit_timeout: Duration,
    /// `beat-interval`, 10 to 500 ms, default 20 ms; `suspicion-timeout`, 50 ms to 2 s, default 150 ms; `guard-limit`,
    /// 30 ms to 1 s, default 80 ms; `boot-hold`, at least the lease and at most 5 min, default 3 s. They fit together.
    pub timing: Timing,
    /// `priority`, 0 to 255, default 100: the higher one becomes active when both could.
    pub priority: u8,
    /// `preempt`, default false: whether the higher priority takes over from a healthy active node.
    pub preempt: bool,
    /// `vip-manager`, default `builtin`.
    pub vip_manager: VipManager,
    /// `peer-tls`, default false: the link between the nodes speaks TLS, with the certificates of `[tls]` on both sides.
    pub peer_tls: bool,
}

impl Cluster {
    /// Whether there is a peer.
    pub fn is_pair(&self) -> bool {
        self.ha_mode != HaMode::None
    }

    /// Whether both nodes run on one machine, where the virtual addresses are always: the port is what moves.
    pub fn is_on_loopback(&self) -> bool {
        let loopback = !self.virtual_ips.is_empty() && self.virtual_ips.iter().all(|vip| vip.ip.is_loopback());
        self.is_pair() && self.vip_manager == VipManager::None && loopback
    }

    /// This node among the members; `None` without a pair.
    pub fn own(&self) -> Option<&Member> {
        self.members.iter().find(|m| self.is_pair() && m.id == self.node)
    }

    /// The other member of a pair.
    pub fn peer(&self) -> Option<&Member> {
        self.members.iter().find(|m| self.is_pair() && m.id != self.node)
    }
}

/// `member.N`: where a node of the cluster is reached by the other one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// N.
    pub id: NodeId,
    /// One address per path, at least one: TCP for replication, UDP with the same port for beats.
    pub paths: Vec<SocketAddr>,
}

/// One entry of `virtual-ip`: `IP[/PREFIX][%INTERFACE]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualIp {
    /// What is written into Record-Route and Via.
    pub ip: IpAddr,
    /// Length of the prefix on the interface; `None`: all bits.
    pub prefix: Option<u8>,
    /// The interface; `None`: that of the covering subnet.
    pub interface: Option<String>,
}

/// `commit`: whether messages that take away somebody's reason to retransmit wait for the peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Commit {
    /// They wait for the acknowledgement of their record, at most `commit-timeout`.
    #[default]
    PeerAck,
    /// Nothing waits.
    Async,
}

/// `vip-manager`: who moves the virtual IP.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum VipManager {
    /// Tandem itself.
    #[default]
    Builtin,
    /// `failover-script`, which is told role, epoch and address.
    Script {
        /// An absolute path.
        path: PathBuf,
        /// `failover-script-timeout`, 100 ms to 5 min, default 5 s.
        timeout: Duration,
    },
    /// Somebody else, or nobody.
    None,
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

/// As written.
impl fmt::Display for VirtualIp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.ip)?;
        self.prefix.iter().try_for_each(|prefix| write!(f, "/{prefix}"))?;
        self.interface.iter().try_for_each(|interface| write!(f, "%{interface}"))
    }
}

/// As written.
impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Partition::Available => "available",
            Partition::Exact => "exact",
            Partition::PreferLowerId => "prefer-lower-id",
        })
    }
}

/// As written.
impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Commit::PeerAck => "peer-ack",
            Commit::Async => "async",
        })
    }
}

/// As written.
impl fmt::Display for VipManager {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VipManager::Builtin => "builtin",
            VipManager::Script { .. } => "script",
            VipManager::None => "none",
        })
    }
}
