//! What `[cluster]` says, as values.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::witness::Witness;
use crate::base::NodeId;
use crate::cluster::{HaMode, Partition, Timing};

/// `[cluster]`. Without a pair (`ha-mode = "none"` and no `member.N` with addresses for both) only `name`, `node`, `secret_file` and `state_dir` have an effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// `name`, default "tandem".
    pub name: String,
    /// `ha-mode`, default `none`.
    pub ha_mode: HaMode,
    /// `mymemberid`, default 1.
    pub node: NodeId,
    /// `secret-file`, whose octets are the secret; `None`: the environment (`TANDEM_CLUSTER_SECRET`), or, without a
    /// pair, `node.key` in `state-dir`.
    pub secret_file: Option<PathBuf>,
    /// `state-dir`, default /var/lib/tandem.
    pub state_dir: PathBuf,
    /// `member.N` in the order of their ids. Of a pair: two, this node is one of them, and both have the
    /// same number of paths.
    pub members: Vec<Member>,
    /// `virtual-ip` in order; an active-standby pair has at least one.
    pub virtual_ips: Vec<VirtualIp>,
    /// `virtual-ip-in-via`, default false: in active-active this node can send from the virtual IPs, because its balancer
    /// returns directly.
    pub in_via: bool,
    /// `service-ip.N` in the order of the ids: the addresses of each node that the other one takes over. None,
    /// or for both members equally many, each at its place of the family of the other member's.
    pub service_ips: Vec<ServiceIps>,
    /// `reference-points`; empty: hosts of resources, at most eight.
    pub reference_points: Vec<IpAddr>,
    /// `partition`, default `available`; in active-active `exact`.
    pub partition: Partition,
    /// `witness`: who decides, with `partition = "witness"`.
    pub witness: Option<Witness>,
    /// `floor`: percent of each limit that the active node may spend whatever its peer does, 50 to 100, default 90; the
    /// peer may spend the rest. In active-active each has half.
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
    /// `vip-manager`, default `builtin`; in active-active without service IPs `none`, because a balancer has the virtual IP.
    pub vip_manager: VipManager,
    /// `peer-tls`, default false: the link between the nodes speaks TLS, with the certificates of `[tls]` on both sides.
    pub peer_tls: bool,
}

impl Cluster {
    /// Whether there is a peer.
    pub fn is_pair(&self) -> bool {
        self.ha_mode != HaMode::None
            || self.members.len() > 1 && !(self.virtual_ips.is_empty() && self.service_ips.is_empty())
    }

    /// The modes that its addresses allow: what it can be told to be while it runs.
    pub fn modes(&self) -> Vec<HaMode> {
        let balanced = self.is_shared() && !self.is_crossed();
        let stands_by = !self.virtual_ips.is_empty() && !balanced;
        let all = [
            (HaMode::None, !self.virtual_ips.is_empty() || self.is_crossed()),
            (HaMode::ActiveStandby, stands_by),
            (HaMode::ActiveActive, self.is_shared()),
        ];
        all.into_iter().filter(|(mode, allowed)| *allowed || *mode == self.ha_mode).map(|(mode, _)| mode).collect()
    }

    /// Why its addresses do not allow this mode, and what to do; `None`: they do.
    pub fn why_no_mode(&self, mode: HaMode) -> Option<&'static str> {
        if self.modes().contains(&mode) {
            return None;
        }
        let balanced = self.is_shared() && !self.is_crossed();
        Some(match mode {
            HaMode::ActiveStandby if balanced => {
                "`virtual-ip` is the load balancer's: a node cannot take it while the balancer has it; give the nodes one of \
                 their own and restart them"
            }
            HaMode::ActiveStandby => {
                "there is no `virtual-ip` in [cluster] for the active node to hold; write one and restart"
            }
            HaMode::ActiveActive => {
                "a node holds `virtual-ip`, and a load balancer would have to take it over: the balancer needs an address of \
                 its own; without one write service-ip.N for each node and restart"
            }
            HaMode::None => {
                "each node has addresses that the other one cannot serve; restart them with the other ha-mode"
            }
        })
    }

    /// Whether both nodes run on one machine, where the virtual addresses are always: the port is what moves.
    pub fn is_on_loopback(&self) -> bool {
        let loopback = !self.virtual_ips.is_empty() && self.virtual_ips.iter().all(|vip| vip.ip.is_loopback());
        self.is_pair() && !self.is_shared() && self.vip_manager == VipManager::None && loopback
    }

    /// Whether both nodes can serve at one time: behind a balancer, or because each has addresses of its own.
    pub fn is_shared(&self) -> bool {
        self.ha_mode == HaMode::ActiveActive || self.is_crossed()
    }

    /// Whether each node has addresses of its own that the other one takes over.
    pub fn is_crossed(&self) -> bool {
        self.is_pair() && !self.service_ips.is_empty()
    }

    /// The service addresses of this node (`own`) or of its peer.
    pub fn service_ips_of(&self, own: bool) -> &[VirtualIp] {
        let of = |s: &&ServiceIps| self.is_crossed() && (s.node == self.node) == own;
        self.service_ips.iter().find(of).map_or(&[], |s| &s.ips)
    }

    /// Addresses that are at one node at a time, and move.
    pub fn moving_ips(&self) -> impl Iterator<Item = IpAddr> {
        let pair = self.virtual_ips.iter().filter(|_| self.is_pair() && (self.is_crossed() || !self.is_shared()));
        let services = self.service_ips.iter().filter(|_| self.is_crossed()).flat_map(|s| &s.ips);
        pair.chain(services).map(|vip| vip.ip)
    }

    /// Addresses that stand in Record-Route for all nodes.
    pub fn shared_ips(&self) -> impl Iterator<Item = IpAddr> {
        self.virtual_ips.iter().filter(|_| self.is_pair()).map(|vip| vip.ip)
    }

    /// Addresses that every node has at the same time.
    pub fn balanced_ips(&self) -> Vec<IpAddr> {
        self.shared_ips().filter(|_| self.is_shared() && !self.is_crossed()).collect()
    }

    /// The member with the lowest id, or this node where there are none.
    pub fn first(&self) -> NodeId {
        self.members.first().map_or(self.node, |member| member.id)
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

/// `service-ip.N`: addresses of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceIps {
    /// N.
    pub node: NodeId,
    /// Which, in order.
    pub ips: Vec<VirtualIp>,
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
            Partition::Witness => "witness",
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
