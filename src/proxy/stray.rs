//! Responses without a transaction, and ACKs that meet one. A stray response goes on only if its branch is
//! authentically ours and no live transaction of this run could own it (RFC 6026 §7.3): a proxy is no anonymising relay.

use smallvec::SmallVec;

use crate::base::{CallKey, Flow, Host, LegId, Seq, Time};
use crate::identity::IdentityId;
use crate::out::EndReason;
use crate::replica::{Kind, Stream};
use crate::sip::edit::decimal;
use crate::sip::{Message, Method};
use crate::transaction::ServerMachine;
use crate::transaction::branch::{Attempt, Recognised, recognise};
use crate::transaction::invite_server::InviteServer;

use super::context::Context;
use super::forward::{own_token, write_response};
use super::initial::NOBODY;
use super::own::via_target;
use super::view::Taken;
use super::{Io, Proxy};

impl Proxy {
    /// A response that no client transaction claims.
    pub(super) fn stray(&mut self, io: &mut Io<'_>, response: &Message<'_>, from: Flow) {
        let relayed = self.stray_identity(response).is_some_and(|identity| {
            let sent_by = self.view.identities.get(identity).text();
            match recognise(&self.view.keys, sent_by, response) {
                Some(Recognised::Pure) => self.stray_pure(io, response, from, identity),
                Some(Recognised::Attempt(attempt)) => self.stray_attempt(io, response, from, identity, &attempt),
                None => false,
            }
        });
        if relayed {
            self.stats.stray_relayed += 1;
        } else {
            self.stats.stray_dropped += 1;
        }
    }

    /// A response to a request inside a dialog. Its sender may wait for it, unless we have answered ourselves: then only
    /// another 2xx to INVITE may follow (§16.7 step 5), and a refusal is acknowledged and dropped.
    fn stray_pure(&mut self, io: &mut Io<'_>, response: &Message<'_>, from: Flow, identity: IdentityId) -> bool {
        if self.offer(io, response, from) {
            return true;
        }
        let invite = response.cseq().method == Method::Invite;
        let passes = invite && response.status().is_some_and(|status| status < 300);
        if passes || !self.transactions.has_answered(response) {
            let (from, recorded) = (io.out.transmits.len(), self.conclude_stray(io, response));
            let relayed = self.relay(io, response, identity);
            io.hold_since(from, recorded);
            return relayed;
        }
        if invite {
            io.send(from, |bytes| write_bare_ack(response, bytes));
        }
        false
    }

    /// A final that another run or node asked for: what that would have done with the leg is done here. Nothing names
    /// the leg but its Call-ID; where two share one, both keep their ports until their lease ends. The position of the
    /// record of its end, 0 if nothing ended.
    fn conclude_stray(&mut self, io: &mut Io<'_>, response: &Message<'_>) -> Seq {
        let status = response.status().unwrap_or_default();
        let method = response.cseq().method;
        // §15.1.1.
        let ends = method == Method::Bye && status >= 200 && !matches!(status, 401 | 407);
        let refreshes = matches!(method, Method::Invite | Method::Update) && (200..300).contains(&status);
        if !ends && !refreshes {
            return Seq(0);
        }
        let call = self.view.keys.call_key(response.call_id());
        let legs: SmallVec<[LegId; 2]> = self.legs.iter().filter(|leg| leg.call == call).map(|leg| leg.id).collect();
        if ends && legs.is_empty() {
            self.remember_call_end(io.now, call);
        }
        let &[leg] = &legs[..] else { return Seq(0) };
        if refreshes {
            self.refresh(io, leg, response);
            return Seq(0);
        }
        let recorded = self.record_end(io, call, leg);
        self.end_leg(io, leg, EndReason::Bye);
        recorded
    }

    /// A call has ended whose leg only the other node knows, which may not see this answer: it is told when they meet.
    fn remember_call_end(&mut self, now: Time, call: CallKey) {
        let forget = self.transactions.timing.t1x64();
        if self.view.shared && self.apart.is(now, forget) {
            self.legs.remember_call_end(call, (now + forget, now + self.view.config.inactivity));
        }
    }

    /// A response to an INVITE of an earlier run of this node: what may still become a call passes, a refusal is
    /// acknowledged and dropped, for the caller has been answered or has given up.
    fn stray_attempt(
        &mut self,
        io: &mut Io<'_>,
        response: &Message<'_>,
        from: Flow,
        identity: IdentityId,
        attempt: &Attempt,
    ) -> bool {
        // What this run has not asked itself may be the other node's by now, whoever began it.
        let own = attempt.node == self.view.node.0 && attempt.epoch == self.view.epoch.counter;
        if !own && self.offer(io, response, from) {
            return true;
        }
        let window = self.view.config.timer_c + self.transactions.timing.t1x64();
        let taken = |t: &Taken| t.node.0 == attempt.node && attempt.epoch <= t.through;
        let living = match self.view.taken.iter().find(|t| taken(t)) {
            Some(taken) if io.now.since(taken.since) <= window => taken.living,
            Some(_) => return false,
            None => return self.stray_of_peer(io, response, from, identity, attempt),
        };
        match response.status() {
            // §16.7 step 5.
            Some(101..200) => !self.transactions.has_answered(response) && self.relay(io, response, identity),
            Some(200..300) => self.pass_answer(io, response, identity),
            // Without an ACK it comes again (§17.2.1), be it after the INVITE has been handed over.
            Some(300..) if response.cseq().method == Method::Invite && !living => {
                io.send(from, |bytes| write_bare_ack(response, bytes));
                false
            }
            _ => false,
        }
    }

    /// A 2xx that another run or node asked for begins a leg here, unless that is known.
    fn pass_answer(&mut self, io: &mut Io<'_>, response: &Message<'_>, identity: IdentityId) -> bool {
        let recorded = match own_token(response, &self.view).filter(|_| response.cseq().method == Method::Invite) {
            Some(token) => {
                self.learn(io, token.resource, response);
                self.rebuild(io, token.leg, token.resource, response.call_id(), io.now)
            }
            None => Seq(0),
        };
        let from = io.out.transmits.len();
        let relayed = self.relay(io, response, identity);
        io.hold_since(from, recorded);
        self.end_search(io, response);
        relayed
    }

    /// The caller has a 2xx that another run or node asked for, and this one may be asking somebody else for the same
    /// INVITE, because its caller repeated it here.
    fn end_search(&mut self, io: &mut Io<'_>, response: &Message<'_>) {
        let Some(server) = self.transactions.answered_by(response) else { return };
        let id = self.transactions.server(server).owner;
        if self.contexts.get(id as usize).is_some_and(Context::is_ringing) {
            self.accepted_elsewhere(io, id, None);
        }
    }

    /// A response to an INVITE that a living node sent: it goes there, or on without state while nobody can be told.
    fn stray_of_peer(
        &mut self,
        io: &mut Io<'_>,
        response: &Message<'_>,
        from: Flow,
        identity: IdentityId,
        attempt: &Attempt,
    ) -> bool {
        let Some(peer) = self.view.peer.filter(|peer| peer.0 == attempt.node) else { return false };
        if !self.view.linked || io.relayed {
            return match response.status() {
                // Hop by hop (§16.7 step 5).
                None | Some(100) => false,
                Some(200..300) => self.pass_answer(io, response, identity),
                Some(_) => self.relay(io, response, identity),
            };
        }
        // Where each node serves, whoever is meant need not take a role before.
        let kind = if self.view.shared { Kind::Offer } else { Kind::Relay };
        io.out.frame(peer, Stream::Urgent, kind, |payload| {
            crate::replica::relay::write(from, response.bytes(), payload);
        });
        true
    }

    fn stray_identity(&self, response: &Message<'_>) -> Option<IdentityId> {
        let via = response.via();
        let Host::Ip(ip) = via.host else { return None };
        self.view.identities.recognise(Some(via.transport()?), ip, via.port_or_default())
    }

    /// On to the next Via (§16.7 step 9).
    fn relay(&mut self, io: &mut Io<'_>, response: &Message<'_>, identity: IdentityId) -> bool {
        let Some((transport, remote)) = response.next_via().and_then(|via| via_target(&via)) else { return false };
        let Some(out) = self.view.identities.sibling(identity, transport) else { return false };
        let from = self.view.identities.get(self.view.identities.acting(out));
        let flow = Flow { transport, listener: from.listener, local: from.addr, remote, conn: None };
        let mut scratch = self.scratch.take().unwrap_or_default();
        let view = &self.view;
        io.send(flow, |bytes| {
            write_response(response, None, view, &mut scratch.edits, bytes);
            true
        });
        self.scratch = Some(scratch);
        if response.cseq().method == Method::Invite && response.status().is_some_and(|s| (200..300).contains(&s)) {
            self.absorb_repeats(io.now, response, flow);
        }
        true
    }

    /// Whoever is answered by this 2xx may have repeated his INVITE meanwhile. That asks nobody anew (RFC 6026 §7.1): who
    /// has the ACK already would stay silent, and who has not been asked would be a second one to answer.
    fn absorb_repeats(&mut self, now: Time, response: &Message<'_>, upstream: Flow) {
        let Some(key) = self.transactions.answered_key(response) else { return };
        if self.transactions.find_server(key).is_some() || !self.has_room() {
            return;
        }
        let mut machine = InviteServer::start(upstream.transport.reliable());
        machine.on_send(now, &self.transactions.timing, 200);
        let server = self.transactions.open_server(key, ServerMachine::Invite(machine), upstream, NOBODY);
        self.transactions.server_mut(server).by_answer = true;
    }

    /// An ACK with the branch of an INVITE: the end of a non-2xx (§17.2.1). `false`: it belongs to a 2xx and goes on.
    pub(super) fn ack_of_transaction(&mut self, io: &mut Io<'_>, id: u32) -> bool {
        let (now, timing) = (io.now, self.transactions.timing);
        let server = self.transactions.server_mut(id);
        let ServerMachine::Invite(machine) = &mut server.machine else { return true };
        if machine.state == crate::transaction::invite_server::State::Accepted {
            // RFC 2543 clients use the INVITE's branch for the ACK to a 2xx too.
            return false;
        }
        if machine.on_ack(now, &timing) {
            if let Some(last) = server.last.take() {
                self.pool.give_back(last);
            }
            // Timer I is nearer than timer H, which is queued.
            self.transactions.arm_server(id);
        }
        true
    }
}

/// An ACK made from the response alone, when the INVITE is not remembered: the resource matches it by branch (§17.2.3).
fn write_bare_ack(response: &Message<'_>, bytes: &mut Vec<u8>) -> bool {
    let uri = response.contacts().flatten().next().map_or(response.to().uri, |c| c.uri);
    let mut line = |parts: &[&[u8]]| parts.iter().for_each(|p| bytes.extend_from_slice(p));
    line(&[b"ACK ", uri, b" SIP/2.0\r\nVia: ", response.via().value, b"\r\nMax-Forwards: 70\r\nFrom: "]);
    line(&[response.from().value, b"\r\nTo: ", response.to().value, b"\r\nCall-ID: ", response.call_id()]);
    line(&[b"\r\nCSeq: "]);
    decimal(u64::from(response.cseq().number), bytes);
    bytes.extend_from_slice(b" ACK\r\nContent-Length: 0\r\n\r\n");
    true
}
