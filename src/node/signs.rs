//! What can be asked of a node without taking any of its parts, so that the answer comes even while they stand still.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::base::Time;

/// Fitness, authority, and whose messages are those for the virtual addresses.
pub(super) struct Signs {
    unfit: AtomicBool,
    /// A node without a peer always acts.
    active: AtomicBool,
    /// It was, and asks its peer whether it still is.
    asking: AtomicBool,
    /// What it owns is to be given to the peer first.
    owing: AtomicBool,
    authority: AtomicU64,
    virtual_ips: Vec<IpAddr>,
    /// Every node serves: what comes to any address is the pair's.
    shared: bool,
    /// Shards with messages that wait for the peer's word, a bit each.
    waiting: AtomicU64,
    /// Messages for a virtual address that came while another node acts for it.
    stale: AtomicU64,
    /// Messages that were passed on to the peer.
    relayed: AtomicU64,
}

impl Signs {
    /// Of a node that is alone, or of one of a pair that shares these addresses.
    pub(super) fn new(alone: bool, virtual_ips: Vec<IpAddr>, shared: bool) -> Self {
        let authority = if alone { Time::NEVER } else { Time::ZERO };
        Self {
            unfit: AtomicBool::new(false),
            active: AtomicBool::new(alone),
            asking: AtomicBool::new(false),
            owing: AtomicBool::new(false),
            authority: AtomicU64::new(authority.as_micros()),
            virtual_ips,
            shared,
            waiting: AtomicU64::new(0),
            stale: AtomicU64::new(0),
            relayed: AtomicU64::new(0),
        }
    }

    /// Whether no shard has stopped.
    pub(super) fn is_fit(&self) -> bool {
        !self.unfit.load(Ordering::Relaxed)
    }

    /// A shard has stopped for good.
    pub(super) fn unfit(&self) {
        self.unfit.store(true, Ordering::Relaxed);
    }

    /// Until when this node may act without its cluster having run again.
    pub(super) fn authority(&self) -> Time {
        Time::from_micros(self.authority.load(Ordering::SeqCst))
    }

    /// The cluster has run.
    pub(super) fn set_authority(&self, until: Time) {
        self.authority.store(until.as_micros(), Ordering::SeqCst);
    }

    /// Whether this node acts for the pair.
    pub(super) fn is_active(&self) -> bool {
        self.active.load(Ordering::SeqCst)
    }

    /// It does, or does not.
    pub(super) fn set_active(&self, yes: bool) {
        self.active.store(yes, Ordering::SeqCst);
    }

    /// Whether this node asks its peer whether it still is the active one.
    pub(super) fn is_asking(&self) -> bool {
        self.asking.load(Ordering::SeqCst)
    }

    /// It does, or does not.
    pub(super) fn set_asking(&self, yes: bool) {
        self.asking.store(yes, Ordering::SeqCst);
    }

    /// Whether this node owns what it has still to give to its peer.
    pub(super) fn is_owing(&self) -> bool {
        self.owing.load(Ordering::SeqCst)
    }

    /// It does, or does not.
    pub(super) fn set_owing(&self, yes: bool) {
        self.owing.store(yes, Ordering::SeqCst);
    }

    /// Whether messages wait for the peer's word.
    pub(super) fn is_waiting(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) != 0
    }

    /// Whether messages of shard `n` do.
    pub(super) fn set_waiting(&self, n: usize, yes: bool) {
        let bit = 1 << (n % 64);
        match (yes, self.waiting.load(Ordering::Relaxed) & bit != 0) {
            (true, false) => self.waiting.fetch_or(bit, Ordering::Relaxed),
            (false, true) => self.waiting.fetch_and(!bit, Ordering::Relaxed),
            _ => 0,
        };
    }

    /// Whether a message for a virtual address that is here is one that another node acts for: it was waiting while that
    /// node took over, and its sender has repeated it there since.
    pub(super) fn is_stale(&self) -> bool {
        let stale = !self.is_active();
        if stale {
            self.stale.fetch_add(1, Ordering::Relaxed);
        }
        stale
    }

    /// Whether an address is one that the pair shares.
    pub(super) fn is_virtual(&self, ip: IpAddr) -> bool {
        self.virtual_ips.contains(&ip.to_canonical())
    }

    /// Whether every node serves, so that what comes to any address here is the pair's.
    pub(super) fn is_shared(&self) -> bool {
        self.shared
    }

    /// Messages dropped for that reason.
    pub(super) fn stale(&self) -> u64 {
        self.stale.load(Ordering::Relaxed)
    }

    /// A message is passed on.
    pub(super) fn relay(&self) {
        self.relayed.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages passed on.
    pub(super) fn relayed(&self) -> u64 {
        self.relayed.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_for_a_virtual_address_while_the_peer_acts_is_stale_and_counted() {
        let [vip, own] = ["192.0.2.10", "192.0.2.11"].map(|ip| ip.parse::<IpAddr>().unwrap());
        let signs = Signs::new(false, vec![vip], false);
        let mapped = "::ffff:192.0.2.10".parse().unwrap();
        assert!(signs.is_virtual(vip) && signs.is_virtual(mapped) && !signs.is_virtual(own));
        assert!(signs.is_stale());
        signs.set_active(true);
        assert!(!signs.is_stale());
        assert_eq!(signs.stale(), 1);
    }
}
