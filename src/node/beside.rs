//! Where every node serves: what comes in here and is the peer's, and what the peer must know of this node's ports.

use std::sync::atomic::Ordering;

use crate::balance::{Entry, Farm, Words, read_tokens, write_tokens};
use crate::base::{NodeId, Time, limits};
use crate::out::Out;
use crate::replica::{Kind, Stream, borrow, hosts, marks, ports, relay};
use crate::sip::{Message, Method};

use super::peer_link::HAND_OVER;
use super::{Cell, Cells, Node, Received, Scratch};

impl<K: Cells> Node<K> {
    /// Whether a message is not to be handled by this node, which does not serve now and whose peer may, whatever address it
    /// came to (active-active). Who asks for this node itself is answered by it.
    pub(super) fn leaves_to_peer(
        &self,
        now: Time,
        received: &Received<'_>,
        message: &Message<'_>,
        relayed: bool,
        out: &mut Out,
    ) -> bool {
        let of_node = message.is_request() && message.method() == Method::Options && message.to_tag().is_none();
        if !self.signs.is_shared() || of_node {
            return false;
        }
        match self.relay.load(Ordering::SeqCst) {
            // What the peer has passed on does not go back there.
            peer if peer > 0 && !relayed => {
                self.pass_on(now, NodeId((peer - 1) as u16), received, out);
                true
            }
            // A datagram is repeated, and meets a node that serves; a refusal would end the call.
            _ => !received.flow.transport.reliable() && self.signs.is_stale(),
        }
    }

    /// What came in here goes to the peer, which handles it: behind all that this node still has to give to it.
    pub(super) fn pass_on(&self, now: Time, peer: NodeId, received: &Received<'_>, out: &mut Out) {
        self.signs.relay();
        let write = |payload: &mut Vec<u8>| relay::write(received.flow, received.bytes, payload);
        // What belongs to a call that is still to be given away must not overtake it.
        let kept = self.signs.is_shared() && self.signs.is_owing() && {
            let mut payload = Vec::new();
            write(&mut payload);
            self.hub.with(|hub| hub.peer.keep_relay(now, &payload))
        };
        if !kept {
            out.frame(peer, Stream::Urgent, Kind::Relay, write);
        }
    }

    /// What came in while this node had still to give its calls away.
    pub(super) fn pass_on_kept(&self, now: Time, peer: NodeId, out: &mut Out) {
        let relays = self.hub.with(|hub| std::mem::take(&mut hub.peer.relays));
        for (_, payload) in relays.iter().filter(|(came, _)| now.since(*came) < HAND_OVER) {
            out.frame(peer, Stream::Urgent, Kind::Relay, |out| out.extend_from_slice(payload));
        }
    }

    /// A message that came in at the peer, handled here and nowhere else.
    pub(super) fn handle_of_peer(&self, now: Time, payload: &[u8], scratch: &mut Scratch, out: &mut Out) -> bool {
        let Some((mut flow, message)) = relay::read(payload).filter(|(_, m)| m.len() <= limits::MESSAGE) else {
            return false;
        };
        let place = self.hub.with(|hub| {
            hub.peer.stats.relayed_in += 1;
            let identities = &hub.view.identities;
            let place = identities.place(flow.transport, flow.local);
            place.map(|id| (identities.get(id).listener, identities.get(id).addr))
        });
        if let Some((listener, local)) = place {
            (flow.listener, flow.local) = (listener, local);
            self.take_batch(now, &[Received { flow, bytes: message }], true, scratch, out);
        }
        true
    }

    /// The peer has transactions that this node does not have.
    pub(super) fn hear_marks(&self, now: Time, payload: &[u8]) {
        for (bucket, mark) in marks::read(payload) {
            self.shards[bucket.shard(self.shards.len())].with(|shard| shard.hear_mark(now, mark));
        }
    }

    /// Tells how many ports calls of this node hold: attempts that are given up and not over stand in no record.
    pub(super) fn tell_ports(&self, peer: NodeId, out: &mut Out) {
        if self.signs.is_shared() {
            let held = self.farm.with(|farm| farm.own_ports().collect::<Vec<_>>());
            out.frame(peer, Stream::Urgent, Kind::Ports, |payload| {
                held.iter().for_each(|(resource, count)| ports::write(*resource, *count, payload));
            });
        }
    }

    /// Tells what was lent, and asks for what is needed.
    pub(super) fn tell_loans(&self, out: &mut Out) {
        let Some(peer) = self.hub.with(|hub| hub.peer.up) else { return };
        let Words { loans, borrows } = self.farm.with(Farm::take_words);
        if !loans.is_empty() {
            self.put_loans(peer, false, &loans, out);
        }
        if !borrows.is_empty() {
            out.frame(peer, Stream::Urgent, Kind::Borrow, |payload| {
                borrows.iter().for_each(|b| borrow::write(b, payload))
            });
        }
    }

    /// Tells all loans that this node knows of: a peer that has just started does not know what it lent.
    pub(super) fn tell_all_loans(&self, peer: NodeId, out: &mut Out) {
        if self.signs.is_shared() {
            let loans = self.farm.with(|farm| farm.loans());
            self.put_loans(peer, true, &loans, out);
        }
    }

    fn put_loans(&self, peer: NodeId, whole: bool, loans: &[Entry], out: &mut Out) {
        out.frame(peer, Stream::Urgent, Kind::Tokens, |payload| {
            payload.push(u8::from(whole));
            write_tokens(loans.iter().copied(), payload);
        });
    }

    /// The peer tells of loans. `false`: it makes no sense.
    pub(super) fn hear_loans(&self, now: Time, payload: &[u8], out: &mut Out) -> bool {
        let Some((whole, rows)) = payload.split_first() else { return false };
        let Some(entries) = read_tokens(rows) else { return false };
        self.farm.with(|farm| farm.hear_loans(now, *whole != 0, entries));
        self.tell_loans(out);
        true
    }

    /// The peer needs ports.
    pub(super) fn hear_borrows(&self, now: Time, payload: &[u8], out: &mut Out) {
        self.farm.with(|farm| borrow::read(payload).for_each(|asked| farm.hear_borrow(now, asked)));
        self.tell_loans(out);
    }

    /// Tells the hosts that resources have named.
    pub(super) fn tell_hosts(&self, peer: NodeId, out: &mut Out) {
        if self.signs.is_shared() {
            self.farm.with(|farm| {
                out.frame(peer, Stream::Urgent, Kind::Hosts, |payload| {
                    farm.learnt().for_each(|(resource, host)| hosts::write(resource, &host, payload));
                });
            });
        }
    }

    /// All records of the peer are here: ports that it holds beyond them are left alone until those attempts are over.
    pub(super) fn leave_ports_of_peer(&self, now: Time, out: &mut Out) {
        let told = self.hub.with(|hub| {
            let complete = hub.peer.incoming.is_complete();
            hub.peer.ports.take_if(|_| complete).map(|told| (told, hub.view.config.t1 * 64))
        });
        if let Some((told, over)) = told {
            self.farm.with(|farm| {
                told.into_iter().for_each(|(id, count)| farm.leave_of_peer(now, id, count, now + over));
                farm.cover_peer(now);
            });
            self.tell_loans(out);
        }
    }
}
