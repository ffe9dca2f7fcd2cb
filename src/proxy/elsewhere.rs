//! Where several nodes serve, a message may come in at one that does not have its transaction. The one that has it gets the
//! message in one hop; what neither has is handled by the one that was asked, so nothing goes to and fro.

use crate::base::{Flow, LegId, ResourceId, Time};
use crate::replica::{Kind, Stream, marks, relay};
use crate::sip::{Message, Method};

use super::replicate::PENDING;
use super::shadow::{Shadow, Stage};
use super::{Io, Proxy};

impl Proxy {
    /// Whether a request belongs to a transaction of a node that serves beside this one, which it has been given to.
    /// `key`: that of a server transaction of its own method.
    pub(super) fn is_of_other(&mut self, io: &mut Io<'_>, request: &Message<'_>, flow: Flow, key: u128) -> bool {
        let shadow = || self.shadow_elsewhere(key);
        let initial = request.method() == Method::Invite && request.to_tag().is_none();
        let again = initial && self.first_elsewhere(request).is_some();
        let elsewhere = match request.method() {
            Method::Invite if initial => again || shadow().is_some() || self.is_marked(request),
            Method::Invite => self.is_marked(request),
            // §17.1.1.3: the ACK to a refusal has the branch of its INVITE; to a 2xx, that of an INVITE of RFC 2543.
            Method::Ack => shadow().is_some_and(|shadow| shadow.stage != Stage::Accepted) || self.is_marked(request),
            _ => false,
        };
        let waits = again && !io.relayed && !flow.transport.reliable();
        elsewhere && (self.offer(io, request, flow) || waits || self.comes_again(io, flow, key))
    }

    /// An INVITE that another node acts for, or acted for and nobody goes on with yet.
    fn shadow_elsewhere(&self, key: u128) -> Option<&Shadow> {
        let shadow = self.shadows.find_by_key(key)?;
        (self.view.shared && shadow.owner != self.view.node && shadow.stage != Stage::Gone).then_some(shadow)
    }

    /// Whether what belongs to an INVITE of another node, which cannot be told now, may be left alone: a datagram comes again
    /// and meets whoever goes on with it. `key`: that of the INVITE's server transaction.
    pub(super) fn comes_again(&self, io: &Io<'_>, flow: Flow, key: u128) -> bool {
        !io.relayed && !flow.transport.reliable() && self.shadow_elsewhere(key).is_some()
    }

    /// Whether a BYE ends the early dialog of an INVITE of another node, which still owes the final of that.
    pub(super) fn is_early_elsewhere(&self, leg: LegId, resource: ResourceId) -> bool {
        let asked = |s: &&Shadow| s.stage == Stage::Live && Some(s.owner) == self.view.beside;
        let mut attempts = self.shadows.iter().filter(asked).flat_map(|shadow| &shadow.body.attempts);
        attempts.any(|a| a.flags & PENDING != 0 && (a.leg, a.resource) == (leg.0, resource.0))
    }

    /// Tells the node that serves beside this one that the transaction of this INVITE, of which no record tells, is here, so
    /// that what belongs to it comes here: only one node may answer it.
    pub(super) fn mark(&self, io: &mut Io<'_>, request: &Message<'_>) {
        let Some(peer) = self.view.beside.filter(|_| request.method() == Method::Invite) else { return };
        let bucket = self.view.keys.call_key(request.call_id()).bucket();
        let mark = self.mark_of(request);
        io.out.frame(peer, Stream::Urgent, Kind::Marks, |payload| marks::write(bucket, mark, payload));
    }

    /// The node that serves beside this one has the transaction of an INVITE.
    pub fn hear_mark(&mut self, now: Time, mark: u64) {
        self.marks.add(now + self.transactions.timing.t1x64(), mark);
    }

    fn is_marked(&self, request: &Message<'_>) -> bool {
        self.view.beside.is_some() && !self.marks.is_empty() && self.marks.has(self.mark_of(request))
    }

    /// What an INVITE and the ACK to its refusal have in common, alike on every node.
    fn mark_of(&self, request: &Message<'_>) -> u64 {
        let via = request.via();
        let cseq = request.cseq().number.to_be_bytes();
        self.view.keys.id64(&[b"mark", via.branch.unwrap_or_default(), via.sent_by, request.call_id(), &cseq])
    }

    /// Gives a request to the node beside this one because that reaches its resource, and this one does not.
    pub(super) fn offer_beyond(&mut self, io: &mut Io<'_>, request: &Message<'_>, flow: Flow) -> bool {
        let given = self.offer(io, request, flow);
        self.stats.through_peer += u64::from(given);
        given
    }

    /// Gives a message to the node that serves beside this one; `false`: there is none, or the message came from there.
    pub(super) fn offer(&mut self, io: &mut Io<'_>, message: &Message<'_>, flow: Flow) -> bool {
        let Some(peer) = self.view.beside.filter(|_| !io.relayed) else { return false };
        self.stats.offered += 1;
        io.out.frame(peer, Stream::Urgent, Kind::Offer, |payload| relay::write(flow, message.bytes(), payload));
        true
    }
}
