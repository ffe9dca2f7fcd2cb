//! An active node tells its peer what speaks against resources; who takes over starts from that.

use crate::balance::Doubt;
use crate::base::{NodeId, Time};
use crate::out::Out;
use crate::replica::{Kind, Stream, doubts};

use super::{Cell, Cells, Node};

impl<K: Cells> Node<K> {
    /// Tells `peer`, if it is this node that calls are placed by, and if that has changed.
    pub(super) fn tell_doubts(&self, now: Time, peer: NodeId, stream: Stream, out: &mut Out) {
        if !self.signs.is_active() {
            return;
        }
        let present: Vec<Doubt> = self.farm.with(|farm| farm.doubts(now).take(doubts::LIMIT).collect());
        self.hub.with(|hub| {
            if hub.peer.told_doubts.as_ref() != Some(&present) {
                out.frame(peer, stream, Kind::Doubts, |payload| doubts::write(now, &present, payload));
                hub.peer.told_doubts = Some(present);
            }
        });
    }

    /// What the peer has seen. `false`: it makes no sense.
    pub(super) fn hear_doubts(&self, now: Time, payload: &[u8]) -> bool {
        let heard = doubts::read(now, payload);
        let sound = heard.is_some();
        if let Some(heard) = heard {
            if self.signs.is_shared() {
                self.farm.with(|farm| heard.iter().for_each(|doubt| farm.hear_own(now, doubt)));
            }
            self.hub.with(|hub| hub.peer.doubts = heard);
        }
        sound
    }

    /// The peer's calls are this node's: so is what it had seen.
    pub(super) fn share_doubts(&self, now: Time) {
        let heard = self.hub.with(|hub| {
            hub.peer.told_doubts = None;
            std::mem::take(&mut hub.peer.doubts)
        });
        self.farm.with(|farm| heard.iter().for_each(|doubt| farm.hear(now, doubt)));
    }
}
