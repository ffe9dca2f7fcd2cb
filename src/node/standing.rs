//! What the driver asks of a node of a pair: for whom it acts, and what waits.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use crate::base::Time;
use crate::cluster;

use super::{Cell, Cells, Node};

impl<K: Cells> Node<K> {
    /// Whether the peer could take over, or this node for the peer, without a loss.
    pub fn is_armed(&self) -> bool {
        self.hub.with(|hub| hub.view.armed)
    }

    /// Whether messages wait for the peer's word, which comes over its link. Takes no part.
    pub fn is_waiting(&self) -> bool {
        self.signs.is_waiting()
    }

    /// Whether a message from or to this address is none of this node's any more, because another one acts for the pair;
    /// counted. Takes no part.
    pub fn is_stale(&self, local: IpAddr) -> bool {
        self.signs.is_virtual(local) && self.signs.is_stale()
    }

    /// Until when this node may act as the active one without its cluster having run again; see
    /// [`cluster::Cluster::authority`]. Takes no part.
    pub fn authority(&self) -> Time {
        self.signs.authority()
    }

    /// Whether what comes to a virtual address goes to the peer, because the role does.
    pub fn is_passing_on(&self) -> bool {
        self.relay.load(Ordering::SeqCst) != 0
    }

    /// Whether it is not decided yet which node handles what comes to this address: this one asks, or offers its role and
    /// may keep it. What nobody repeats should wait. Takes no part.
    pub fn is_undecided(&self, local: IpAddr) -> bool {
        let concerns = self.signs.is_shared() || self.signs.is_virtual(local);
        concerns && (self.signs.is_asking() || (self.signs.is_active() && self.is_passing_on()))
    }

    /// Whether this node handles what comes to a virtual address or passes it on, or may yet. Takes no part.
    pub fn is_concerned(&self) -> bool {
        self.signs.is_active() || self.signs.is_asking() || self.is_passing_on()
    }

    /// The peer's own addresses that move, where each node has some.
    pub fn guests(&self) -> Vec<IpAddr> {
        self.hub.with(|hub| hub.view.identities.guests().to_vec())
    }

    /// Why its cluster would not switch to this mode now.
    ///
    /// # Errors
    ///
    /// What stands against it.
    pub fn permits(&self, to: cluster::HaMode) -> Result<(), cluster::Refusal> {
        self.hub.with(|hub| hub.cluster.as_ref().map_or(Ok(()), |cluster| cluster.permits(to)))
    }

    /// What the cluster says of itself, if this node is one of a pair.
    pub fn pair_status(&self) -> Option<cluster::Status> {
        self.hub.with(|hub| hub.cluster.as_ref().map(cluster::Cluster::status))
    }
}
