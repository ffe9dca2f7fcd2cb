//! Where every node places calls, each tells the other one what is down for it: so calls that belong together end on one
//! resource, whichever node takes them.

use crate::balance::Farm;
use crate::base::NodeId;
use crate::out::Out;
use crate::replica::{Kind, Stream, sight};

use super::{Cell, Cells, Node};

impl<K: Cells> Node<K> {
    /// Tells `peer` whether this node places calls, and what is down for it. Ahead of the records of calls that it placed
    /// knowing that.
    pub(super) fn tell_sight(&self, peer: NodeId, out: &mut Out) {
        if self.signs.is_shared() {
            let places = self.signs.is_active();
            let down: Vec<_> = self.farm.with(|farm| farm.down().collect());
            out.frame(peer, Stream::Urgent, Kind::Sight, |payload| sight::write(places, down.into_iter(), payload));
        }
    }

    /// The same, if a peer listens.
    pub(super) fn tell_sight_again(&self, out: &mut Out) {
        if let Some(peer) = self.hub.with(|hub| hub.peer.up) {
            self.tell_sight(peer, out);
        }
    }

    /// The peer says what it sees. `false`: it makes no sense.
    pub(super) fn hear_sight(&self, payload: &[u8]) -> bool {
        let Some((places, down)) = sight::read(payload) else { return false };
        self.farm.with(|farm| farm.hear_sight(places, down));
        true
    }

    /// The peer is not heard any more.
    pub(super) fn lose_sight(&self) {
        self.farm.with(Farm::lose_sight);
    }
}
