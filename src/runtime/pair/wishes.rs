//! What the cluster wants of the addresses, told to who keeps them.
#![forbid(unsafe_code)]

use crate::cluster;
use crate::runtime::state;
use crate::runtime::vip::Wish;

use super::machine::Pair;

impl Pair {
    /// The guard keeps the sockets of listeners alive if this process dies, so that nobody is told that the port is
    /// closed.
    pub fn lend_sockets(&self) {
        let sockets: Vec<_> = self.driver.listeners().map(|(_, l)| std::os::fd::AsFd::as_fd(&l.socket)).collect();
        if let Err(e) = self.vip.lend(&sockets) {
            tracing::warn!(
                "the guard does not take the sockets: {e}; if this process dies, callers may see its port closed"
            );
        }
    }

    /// What the cluster wants of addresses, as their keepers are told.
    pub(super) fn in_epoch(&self, wish: cluster::Wish) -> Wish {
        match wish {
            cluster::Wish::Hold => Wish::Hold { epoch: self.facts.lock().epoch },
            cluster::Wish::Quiet => Wish::Quiet,
            cluster::Wish::Drop => Wish::Drop,
        }
    }

    /// What is to become of the addresses of the peer.
    pub(super) fn wish_guest(&self, wish: cluster::Wish) {
        self.tell_guest(self.in_epoch(wish));
        if wish != cluster::Wish::Hold {
            // Their other ends speak with the peer now.
            let guests = self.driver.node.guests();
            self.driver.streams.leave(|ip| guests.contains(&ip));
        }
    }

    pub(super) fn tell_guest(&self, wish: Wish) {
        if let Some(Err(e)) = self.guest.as_ref().map(|guest| guest.wish(wish)) {
            tracing::warn!("the keeper of the peer's service addresses does not listen: {e}");
        }
    }

    /// What is to become of the addresses that are with who is active.
    pub(super) fn wish_lead(&self, wish: cluster::Wish) {
        self.tell_lead(self.in_epoch(wish));
    }

    pub(super) fn tell_lead(&self, wish: Wish) {
        if let Some(Err(e)) = self.lead.as_ref().map(|lead| lead.wish(wish)) {
            tracing::warn!("the keeper of the virtual addresses does not listen: {e}");
        }
    }

    /// The mode outlives this process.
    pub(super) fn keep_mode(&self, mode: cluster::Mode) {
        if let Err(e) = state::keep_mode(&self.state_dir, mode, self.facts.lock().file_mode) {
            tracing::warn!("{e}; until that is mended a restart of this node goes back to the mode before");
        }
    }

    pub(super) fn wish(&self, wish: Wish) {
        let told = match self.ports.follow(wish, &self.driver) {
            Ok(()) => self.vip.wish(wish),
            Err(e) => self.vip.fail(e.to_string()),
        };
        if let Err(e) = told {
            tracing::warn!("the keeper of the virtual addresses does not listen: {e}");
        }
    }
}
