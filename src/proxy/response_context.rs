//! §16.7 response processing.

use smallvec::SmallVec;

use crate::balance::{Evidence, Outcome};
use crate::base::{Host, LegId, ResourceId, Seq, SessionId, Time, Version, limits};
use crate::out::Event;
use crate::replica::{Kind, Stream, hosts};
use crate::session::Leg;
use crate::session::change::Answer;
use crate::sip::{Message, Method};
use crate::transaction::ClientMachine;
use crate::transaction::invite_client::Verdict;

use super::context::{AttemptState, Cancel, Effect, Role};
use super::forward::{FollowUp, write_follow_up};
use super::in_dialog::{knows, session_end};
use super::route_token::Side;
use super::view::own_identity;
use super::{Io, Proxy};

impl Proxy {
    /// A response: to its client transaction by branch and CSeq method (§17.1.3), or a stray.
    pub(super) fn response(&mut self, io: &mut Io<'_>, response: &Message<'_>, from: crate::base::Flow) {
        let method = response.cseq().method;
        let cancel = method == Method::Cancel;
        let client = response.via().branch.and_then(|b| self.transactions.find_client(b, cancel));
        let Some(client) = client else { return self.stray(io, response, from) };
        // §17.1.3: the ACK of a non-2xx has its INVITE's branch, and nobody answers an ACK.
        let invite = matches!(self.transactions.client(client).machine, ClientMachine::Invite(_));
        // §16.7 step 3: without a Via below ours a response is for us, and only our CANCEL asks for one.
        let deliverable = cancel || response.via_count() > 1;
        if invite != (method == Method::Invite) || !deliverable {
            self.stats.stray_dropped += 1;
            return;
        }
        self.client_response(io, client, response);
    }

    fn client_response(&mut self, io: &mut Io<'_>, client: u32, response: &Message<'_>) {
        let Some(status) = response.status() else { return };
        let (now, timing) = (io.now, self.transactions.timing);
        let transaction = self.transactions.client_mut(client);
        let (id, n, is_cancel) = (transaction.owner, transaction.attempt as usize, transaction.cancel);
        match &mut transaction.machine {
            ClientMachine::Other(machine) => {
                let passes = machine.on_response(now, &timing, status);
                self.transactions.arm_client(client);
                // RFC 4320 §4.1: no provisional of a non-INVITE request is passed on; a CANCEL's answer ends here (§16.10).
                if passes && status >= 200 && !is_cancel {
                    self.non_invite_final(io, id, response, status);
                }
            }
            ClientMachine::Invite(machine) => {
                let verdict = machine.on_response(now, &timing, status);
                self.transactions.arm_client(client);
                if !(200..300).contains(&status) {
                    self.dispel(now, id);
                }
                match verdict {
                    Verdict::Pass if status < 200 => self.provisional(io, id, n, response, status),
                    Verdict::Pass => self.success(io, id, n, response),
                    Verdict::AckAndPass => self.acknowledge_and_fail(io, id, n, response, status),
                    Verdict::Ack => self.acknowledge(io, id, n, response),
                    Verdict::Drop => {}
                }
            }
        }
    }

    fn non_invite_final(&mut self, io: &mut Io<'_>, id: u32, response: &Message<'_>, status: u16) {
        let context = &mut self.contexts[id as usize];
        context.attempts.iter_mut().for_each(|a| a.state = AttemptState::Done);
        match context.role {
            // A BYE that must be sent again has ended nothing (§22.2).
            Role::InDialog { leg, resource, effect: Effect::Ends, .. } if !matches!(status, 401 | 407) => {
                let call = self.view.keys.call_key(response.call_id());
                let recorded = self.bye_done(io, Some(call), leg, resource);
                let from = io.out.transmits.len();
                self.forward_final(io, id, response, status);
                io.hold_since(from, recorded);
            }
            role => {
                if let Role::InDialog { resource, effect: Effect::Refreshes, .. } = role
                    && status < 300
                    && self.is_of_resource(io, id, 0)
                {
                    // §12.2.1.2: its Contact is where the dialog goes on.
                    self.learn(io, resource, response);
                }
                self.conclude_in_dialog(io, id, response, status);
                self.forward_final(io, id, response, status);
            }
        }
        self.detach(io, id);
    }

    /// A 300-699: the resource forgets the INVITE once it is acknowledged, so the peer must hold what follows from it
    /// before, or a survivor would ask the same resource again.
    fn acknowledge_and_fail(&mut self, io: &mut Io<'_>, id: u32, n: usize, response: &Message<'_>, status: u16) {
        let from = io.out.transmits.len();
        self.acknowledge(io, id, n, response);
        let acks = from..io.out.transmits.len();
        self.failure(io, id, n, response, status);
        if self.contexts.get(id as usize).is_some_and(|c| c.changed) {
            self.record_setup(io, id, None, Answer::None);
        }
        if let Some(context) = self.contexts.get(id as usize) {
            io.gate.hold(io.now, io.out, acks, context.version.seq);
        }
    }

    fn provisional(&mut self, io: &mut Io<'_>, id: u32, n: usize, response: &Message<'_>, status: u16) {
        let timer_c = io.now + self.view.config.timer_c;
        let context = &mut self.contexts[id as usize];
        let attempt = &mut context.attempts[n];
        if attempt.state == AttemptState::Sent {
            attempt.state = AttemptState::Proceeding;
        }
        if attempt.state == AttemptState::Proceeding {
            // §16.7 step 2 resets Timer C for 101 to 199; a 100 has ended the wait for the first response.
            attempt.due = timer_c;
        }
        let (superseded, resource) = (attempt.state == AttemptState::Superseded, attempt.resource);
        let cancel = attempt.cancel == Cancel::Wanted;
        self.arm_context(id);
        if cancel {
            self.send_cancel(io, id, n);
        }
        if status == 100 || superseded || self.contexts[id as usize].answered {
            return;
        }
        self.contexts[id as usize].rang = true;
        if self.is_of_resource(io, id, n) {
            self.learn(io, resource, response);
        }
        self.forward_provisional(io, id, response);
    }

    /// A 2xx to an INVITE always reaches the caller, whatever was sent before (§16.7 step 5, RFC 6026 §7).
    fn success(&mut self, io: &mut Io<'_>, id: u32, n: usize, response: &Message<'_>) {
        let context = &mut self.contexts[id as usize];
        let attempt = &mut context.attempts[n];
        let first = attempt.state != AttemptState::Done;
        attempt.state = AttemptState::Done;
        attempt.cancel = Cancel::No;
        let (leg, resource, role) = (attempt.leg, attempt.resource, context.role);
        if first && self.is_of_resource(io, id, n) {
            self.learn(io, resource, response);
        }
        if first {
            match role {
                Role::Initial { session, .. } => self.answered(io, id, n, response, session),
                Role::InDialog { .. } => self.conclude_in_dialog(io, id, response, 200),
            }
        }
        let status = response.status().unwrap_or(200);
        let recorded = match role {
            Role::Initial { .. } if first => self.record_answer(io, id, leg, response),
            _ => Seq(0),
        };
        let from = io.out.transmits.len();
        self.forward_final(io, id, response, status);
        io.hold_since(from, recorded);
        if first {
            // §16.7 step 10.
            self.cancel_others(io, id, Some(n));
            self.drop_request(id);
        }
    }

    /// Records the leg with the hosts that its resource names for it, and that its INVITE was answered.
    fn record_answer(&mut self, io: &mut Io<'_>, id: u32, leg: LegId, response: &Message<'_>) -> Seq {
        let hosts: SmallVec<[Host<'_>; 4]> = match io.gate.is_recording() {
            true => self.named_hosts(response).map(|(host, _)| host).take(limits::LEARNT_HOSTS).collect(),
            false => SmallVec::new(),
        };
        self.record_leg(io, leg, &hosts);
        self.record_setup(io, id, None, Answer::Accepted)
    }

    fn answered(&mut self, io: &mut Io<'_>, id: u32, n: usize, response: &Message<'_>, session: SessionId) {
        let context = &mut self.contexts[id as usize];
        let invited = context.received;
        let attempt = &mut context.attempts[n];
        let (id, resource, pin, over) = (attempt.leg, attempt.resource, attempt.pin, attempt.over);
        io.desk.evidence(io.now, resource, Evidence::Answered);
        let grant = attempt.grant.take().or_else(|| io.desk.adopt(io.now, resource, id, pin));
        let Some(grant) = grant else { return };
        if over || self.legs.find(id).is_some() || self.legs.has_ended(id) {
            // Rebuilt from its token meanwhile, or the same INVITE twice: one leg holds one port, and one that has ended
            // none.
            return io.desk.release(io.now, grant, Outcome::Completed);
        }
        self.stats.calls_answered += 1;
        io.out.events.push(Event::Answered { leg: id, resource, invited });
        self.insert_leg(Leg {
            id,
            session,
            resource,
            grant: Some(grant),
            call_id: SmallVec::from_slice(response.call_id()),
            call: self.view.keys.call_key(response.call_id()),
            owner: self.view.node,
            version: Version::default(),
            taken_over: false,
            // The ACK may come in at another node.
            acknowledged: self.view.beside.is_some(),
            invited,
            answered: io.now,
            heard: io.now,
            session_expires: session_end(io.now, response),
            queued: Time::NEVER,
        });
    }

    /// A 300–699 to an INVITE: the next candidate, or the caller is told.
    fn failure(&mut self, io: &mut Io<'_>, id: u32, n: usize, response: &Message<'_>, status: u16) {
        let context = &mut self.contexts[id as usize];
        let attempt = &mut context.attempts[n];
        let superseded = attempt.state == AttemptState::Superseded;
        attempt.state = AttemptState::Done;
        let (grant, resource) = (attempt.grant.take(), attempt.resource);
        let (answered, cancelled) = (context.answered, context.cancelled);
        if self.is_of_resource(io, id, n) {
            let after = response.retry_after().map(|s| std::time::Duration::from_secs(u64::from(s)));
            match status {
                503 => io.desk.evidence(io.now, resource, Evidence::Overloaded(after)),
                // Somebody else's word for silence.
                408 => {}
                _ => io.desk.evidence(io.now, resource, Evidence::Answered),
            }
        }
        self.note(id);
        let Some(grant) = grant else {
            if !answered && !superseded {
                self.final_upstream(io, id, response, status);
            }
            return;
        };
        if answered || superseded || cancelled {
            let outcome = if cancelled { Outcome::Cancelled } else { Outcome::TimedOut };
            io.desk.release(io.now, grant, outcome);
            if !answered && !self.contexts[id as usize].is_pursued() {
                self.final_upstream(io, id, response, status);
            }
        } else if grant.terms.retries(status) {
            self.hold(id, response, status);
            self.next_candidate(io, id, Some((grant, Outcome::Refused(status))));
        } else {
            io.desk.release(io.now, grant, Outcome::Refused(status));
            self.final_upstream(io, id, response, status);
            self.cancel_others(io, id, Some(n));
        }
    }

    /// The ACK to a non-2xx goes hop by hop (§17.1.1.3).
    fn acknowledge(&mut self, io: &mut Io<'_>, id: u32, n: usize, response: &Message<'_>) {
        self.follow_up(io, id, n, "ACK", Some(response.to().value));
    }

    /// A CANCEL or ACK that follows the INVITE of an attempt.
    pub(super) fn follow_up(&mut self, io: &mut Io<'_>, id: u32, n: usize, method: &str, to: Option<&[u8]>) {
        self.with_request(id, |proxy, request| {
            let mut scratch = proxy.scratch.take().unwrap_or_default();
            let hop = &proxy.contexts[id as usize].attempts[n].hop;
            let name = proxy.unresolved(request, hop);
            let view = &proxy.view;
            let parts = &mut *scratch;
            let sent = io.send(hop.flow, |bytes| {
                let memory = FollowUp { edits: &mut parts.edits, index: &mut parts.written, octets: &mut parts.octets };
                write_follow_up(request, hop, view, method, to, memory, bytes)
            });
            if let (true, Some(name)) = (sent, name) {
                io.out.name_last(name);
            }
            proxy.scratch = Some(scratch);
        });
    }

    /// Whether a response to this attempt is the word of its resource. To a request of the resource it is the caller's, and
    /// a request of a caller whose leg is not known may go anywhere.
    fn is_of_resource(&self, io: &Io<'_>, id: u32, n: usize) -> bool {
        let context = &self.contexts[id as usize];
        match context.role {
            Role::Initial { .. } => true,
            Role::InDialog { side: Side::Resource, .. } => false,
            Role::InDialog { resource, .. } => knows(io, resource, context.attempts[n].hop.flow.remote.ip()),
        }
    }

    /// Remembers the hosts that a resource names for its dialogs.
    pub(super) fn learn(&mut self, io: &mut Io<'_>, resource: ResourceId, message: &Message<'_>) {
        for (host, port) in self.named_hosts(message) {
            if io.desk.learn(resource, &host, port)
                && let Some(peer) = self.view.beside
            {
                // What follows may come in there.
                io.out.frame(peer, Stream::Urgent, Kind::Hosts, |payload| hosts::write(resource, &host, payload));
            }
        }
    }

    /// The hosts that a resource names for its dialogs: Contact, and the Record-Route values below ours. What stands
    /// behind our own value was there before the INVITE reached the resource.
    fn named_hosts<'a>(&self, response: &Message<'a>) -> impl Iterator<Item = (Host<'a>, u16)> {
        let values = response.contacts().chain(response.record_routes());
        let uris = values.filter_map(|value| value.and_then(|v| v.parsed()));
        uris.take_while(|uri| own_identity(&self.view.identities, uri).is_none())
            .map(|uri| (uri.host, uri.port_or_default()))
    }
}
