//! §16.7 response processing, §16.9 transport errors.

use smallvec::SmallVec;

use crate::balance::{Evidence, Outcome, Refusal};
use crate::base::{ResourceId, SessionId, Time};
use crate::out::Event;
use crate::session::Leg;
use crate::session::change::Change;
use crate::sip::reply::{Reply, reason_phrase};
use crate::sip::{Message, Method};
use crate::transaction::invite_client::Verdict;
use crate::transaction::{ClientMachine, ServerMachine};

use super::context::{AttemptState, Cancel, Effect, Role};
use super::forward::{FollowUp, write_follow_up, write_response};
use super::in_dialog::session_end;
use super::initial::NOBODY;
use super::validate::own_identity;
use super::{Io, Proxy};

impl Proxy {
    /// A response: to its client transaction by branch and CSeq method (§17.1.3), or a stray.
    pub(super) fn response(&mut self, io: &mut Io<'_>, response: &Message<'_>, from: crate::base::Flow) {
        let cancel = response.cseq().method == Method::Cancel;
        let client = response.via().branch.and_then(|b| self.transactions.find_client(b, cancel));
        match client {
            Some(client) => self.client_response(io, client, response),
            None => self.stray(io, response, from),
        }
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
                match verdict {
                    Verdict::Pass if status < 200 => self.provisional(io, id, n, response, status),
                    Verdict::Pass => self.success(io, id, n, response),
                    Verdict::AckAndPass => {
                        self.acknowledge(io, id, n, response);
                        self.failure(io, id, n, response, status);
                    }
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
            Role::InDialog { leg, effect: Effect::Ends, .. } if !matches!(status, 401 | 407) => {
                self.conclude_in_dialog(io, id, response, status);
                io.send_recorded(&Change::Ended { leg }, |io| self.forward_final(io, id, response, status));
            }
            _ => {
                self.conclude_in_dialog(io, id, response, status);
                self.forward_final(io, id, response, status);
            }
        }
        self.drop_request(id);
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
        if attempt.cancel == Cancel::Wanted {
            self.send_cancel(io, id, n);
        }
        if status == 100 || superseded || self.contexts[id as usize].answered {
            return;
        }
        self.contexts[id as usize].rang = true;
        self.learn(io, resource, response);
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
        if first {
            self.learn(io, resource, response);
            match role {
                Role::Initial { session, .. } => self.answered(io, id, n, response, session),
                Role::InDialog { .. } => self.conclude_in_dialog(io, id, response, 200),
            }
        }
        let session = SessionId(self.view.keys.call_key(response.call_id()).0);
        let status = response.status().unwrap_or(200);
        io.send_recorded(&Change::Leg { leg, session, resource }, |io| {
            self.forward_final(io, id, response, status);
        });
        if first {
            // §16.7 step 10.
            self.cancel_others(io, id, n);
            self.drop_request(id);
        }
    }

    fn answered(&mut self, io: &mut Io<'_>, id: u32, n: usize, response: &Message<'_>, session: SessionId) {
        let context = &mut self.contexts[id as usize];
        let invited = context.received;
        let attempt = &mut context.attempts[n];
        let (id, resource) = (attempt.leg, attempt.resource);
        io.desk.evidence(io.now, resource, Evidence::Answered);
        let grant = attempt.grant.take().or_else(|| io.desk.adopt(io.now, resource, id));
        let (Some(grant), None) = (grant, self.legs.find(id)) else { return };
        self.stats.calls_answered += 1;
        io.out.events.push(Event::Answered { leg: id, resource, invited });
        self.insert_leg(Leg {
            id,
            session,
            resource,
            grant: Some(grant),
            call_id: SmallVec::from_slice(response.call_id()),
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
        if status == 503 {
            let after = response.retry_after().map(|s| std::time::Duration::from_secs(u64::from(s)));
            io.desk.evidence(io.now, resource, Evidence::Overloaded(after));
        }
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
            self.cancel_others(io, id, n);
        }
    }

    /// Keeps the best final so far (§16.7 step 6: 6xx, else the lowest class; the first of equals).
    fn hold(&mut self, id: u32, response: &Message<'_>, status: u16) {
        let rank = |status: u16| if status >= 600 { 0 } else { status / 100 };
        let context = &mut self.contexts[id as usize];
        if context.held.as_ref().is_some_and(|(held, _)| rank(*held) <= rank(status)) {
            return;
        }
        let kept = self.pool.keep(response.bytes());
        if let Some((_, old)) = self.contexts[id as usize].held.replace((status, kept)) {
            self.pool.give_back(old);
        }
    }

    /// No candidate is left and nobody is being asked: the best answer goes up.
    pub(super) fn exhausted(&mut self, io: &mut Io<'_>, id: u32, request: &Message<'_>, refusal: Refusal) {
        let context = &mut self.contexts[id as usize];
        if context.answered {
            return;
        }
        let cancelled = context.cancelled;
        let rang = context.rang;
        let held = context.held.take();
        let status = match (&held, refusal) {
            _ if cancelled => 487,
            // §16.7 step 6: a member's 503 says nothing of this node.
            (Some((503, _)), _) => 500,
            (Some((status, held)), _) => {
                let status = *status;
                let mut index = self.spare_response.take().unwrap_or_default();
                if index.parse(held).is_ok() {
                    self.final_upstream(io, id, &index.message(held), status);
                }
                self.spare_response = Some(index);
                status
            }
            // §16.8: it rang and nobody answered.
            (None, _) if rang => 408,
            (None, Refusal::Full { code } | Refusal::NoMember { code }) => code,
            (None, Refusal::NoGroup) => 404,
        };
        if let Some((_, held)) = held {
            self.pool.give_back(held);
        }
        if !self.contexts[id as usize].answered {
            self.own_final(io, id, request, status);
        }
    }

    /// A final of our own to an INVITE or an in-dialog request.
    pub(super) fn own_final(&mut self, io: &mut Io<'_>, id: u32, request: &Message<'_>, status: u16) {
        let context = &self.contexts[id as usize];
        let (source, upstream) = (context.source, context.upstream);
        let tag = self.own_tag(request);
        let view = self.view.clone();
        let extra = [("Server", view.config.server.as_bytes())];
        let shown = usize::from(!view.config.server.is_empty());
        let reply = Reply { status, reason: reason_phrase(status), to_tag: Some(&tag), extra: &extra[..shown] };
        let start = io.out.arena.len();
        self.send_final(io, id, status, |io| {
            io.send(upstream, |bytes| {
                reply.write(request, source.remote, bytes);
                true
            });
        });
        if io.out.arena.len() > start {
            self.stats.responses_generated += 1;
        }
    }

    /// Relays a final to an INVITE that is not a 2xx.
    fn final_upstream(&mut self, io: &mut Io<'_>, id: u32, response: &Message<'_>, status: u16) {
        if status == 503 && matches!(self.contexts[id as usize].role, Role::Initial { .. }) {
            return self.with_request(id, |proxy, request| proxy.own_final(io, id, request, 500));
        }
        self.forward_final(io, id, response, status);
    }

    /// Relays a final.
    fn forward_final(&mut self, io: &mut Io<'_>, id: u32, response: &Message<'_>, status: u16) {
        let upstream = self.contexts[id as usize].upstream;
        let view = self.view.clone();
        let mut scratch = self.scratch.take().unwrap_or_default();
        self.send_final(io, id, status, |io| {
            io.send(upstream, |bytes| {
                write_response(response, &view, &mut scratch.edits, bytes);
                true
            });
        });
        self.scratch = Some(scratch);
        self.stats.responses_forwarded += 1;
    }

    /// Moves the server transaction and lets the final go; keeps its octets if they may have to be repeated.
    fn send_final(&mut self, io: &mut Io<'_>, id: u32, status: u16, send: impl FnOnce(&mut Io<'_>)) {
        let context = &mut self.contexts[id as usize];
        let first = !context.answered;
        context.answered = true;
        let (server, role) = (context.server, context.role);
        let (now, timing) = (io.now, self.transactions.timing);
        let start = io.out.arena.len();
        let Some(server) = server else {
            // RFC 4320 §4.2 drops a late non-INVITE final; a 2xx to an INVITE still goes (§16.7 step 5).
            if (200..300).contains(&status) && matches!(role, Role::Initial { .. }) {
                send(io);
            }
            return;
        };
        let transaction = self.transactions.server_mut(server);
        let (allowed, repeats) = match &mut transaction.machine {
            ServerMachine::Invite(m) => (m.on_send(now, &timing, status), status >= 300),
            ServerMachine::Other(m) => (m.on_send(now, &timing), true),
        };
        if !allowed && !(200..300).contains(&status) {
            return;
        }
        match role {
            Role::Initial { session, .. } if status >= 300 => {
                io.send_recorded(&Change::Tombstone { session, status }, send);
            }
            _ => send(io),
        }
        if let Some(old) = self.transactions.server_mut(server).last.take() {
            self.pool.give_back(old);
        }
        if repeats {
            let kept = self.pool.keep(&io.out.arena[start..]);
            self.transactions.server_mut(server).last = Some(kept);
        }
        self.transactions.arm_server(server);
        if let (true, Role::Initial { session, .. }) = (first, role) {
            self.stats.invite_final(status);
            if status >= 300 {
                io.out.events.push(Event::Failed { session, status });
            }
        }
    }

    fn forward_provisional(&mut self, io: &mut Io<'_>, id: u32, response: &Message<'_>) {
        let context = &self.contexts[id as usize];
        let (Some(server), upstream) = (context.server, context.upstream) else { return };
        let mut scratch = self.scratch.take().unwrap_or_default();
        let start = io.out.arena.len();
        let view = &self.view;
        io.send(upstream, |bytes| {
            write_response(response, view, &mut scratch.edits, bytes);
            true
        });
        self.scratch = Some(scratch);
        self.stats.responses_forwarded += 1;
        let kept = self.pool.keep(&io.out.arena[start..]);
        if let Some(old) = self.transactions.server_mut(server).last.replace(kept) {
            self.pool.give_back(old);
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

    /// Remembers the hosts that a resource names for its dialogs: Contact, and the Record-Route values below ours.
    fn learn(&mut self, io: &mut Io<'_>, resource: ResourceId, response: &Message<'_>) {
        for value in response.contacts().chain(response.record_routes()) {
            let Some(uri) = value.and_then(|v| v.parsed()) else { continue };
            if own_identity(&self.view.identities, &uri).is_some() {
                // What stands behind our own value was there before the INVITE reached the resource.
                break;
            }
            let known = io.desk.vouch(resource, &uri.host, uri.port_or_default()) == crate::balance::Vouch::Known;
            if !known {
                io.desk.learn(resource, &uri.host);
            }
        }
    }

    /// A client transaction ended without a final: Timer B or F, or a transport error (§16.9).
    pub(super) fn client_failed(&mut self, io: &mut Io<'_>, client: u32, outcome: Outcome) {
        let transaction = self.transactions.close_client(client);
        let (id, n) = (transaction.owner, transaction.attempt as usize);
        self.contexts[id as usize].clients -= 1;
        if !transaction.cancel {
            self.contexts[id as usize].attempts[n].client = None;
            match self.contexts[id as usize].role {
                Role::Initial { .. } => self.attempt_failed(io, id, n, outcome),
                Role::InDialog { .. } => self.in_dialog_failed(io, id, outcome),
            }
        }
        self.reap(io, id);
    }

    fn attempt_failed(&mut self, io: &mut Io<'_>, id: u32, n: usize, outcome: Outcome) {
        let context = &mut self.contexts[id as usize];
        let attempt = &mut context.attempts[n];
        let superseded = attempt.state == AttemptState::Superseded;
        attempt.state = AttemptState::Done;
        let Some(grant) = attempt.grant.take() else { return };
        if !superseded {
            let evidence = match outcome {
                Outcome::Unreachable => Evidence::Unreachable,
                _ => Evidence::Silent,
            };
            io.desk.evidence(io.now, grant.resource, evidence);
        }
        let (answered, cancelled) = (context.answered, context.cancelled);
        if answered || superseded || cancelled {
            io.desk.release(io.now, grant, outcome);
            let context = &self.contexts[id as usize];
            if !answered && !context.is_pursued() {
                self.nobody_left(io, id);
            }
        } else {
            self.next_candidate(io, id, Some((grant, outcome)));
        }
    }

    /// The last attempt that was listened to is gone.
    pub(super) fn nobody_left(&mut self, io: &mut Io<'_>, id: u32) {
        self.with_request(id, |proxy, request| {
            proxy.exhausted(io, id, request, Refusal::NoMember { code: 480 });
        });
    }

    fn in_dialog_failed(&mut self, io: &mut Io<'_>, id: u32, outcome: Outcome) {
        let context = &mut self.contexts[id as usize];
        let Role::InDialog { leg, effect, .. } = context.role else { return };
        context.attempts.iter_mut().for_each(|a| a.state = AttemptState::Done);
        let answered = context.answered;
        if effect == Effect::Ends {
            // §15.1.1: no answer to a BYE ends the session too.
            self.end_leg(io, leg, crate::out::EndReason::Bye);
        }
        if answered {
            return;
        }
        self.with_request(id, |proxy, request| match (outcome, request.method()) {
            // §16.9: a transport error counts as 503, which is not for the sender.
            (Outcome::Unreachable, _) => proxy.own_final(io, id, request, 500),
            (_, Method::Invite) => proxy.own_final(io, id, request, 408),
            // RFC 4320 §4.1: never a 408 to a non-INVITE request.
            _ => {}
        });
    }

    /// Gives back what only a pursued attempt needs.
    fn drop_request(&mut self, id: u32) {
        let context = &mut self.contexts[id as usize];
        let needed = context.attempts.iter().any(|a| a.state != AttemptState::Done || a.cancel != Cancel::No);
        if !needed && let Some(request) = context.request.take() {
            self.pool.give_back(request);
        }
    }

    /// Removes a context to which nothing refers any more.
    pub(super) fn reap(&mut self, io: &mut Io<'_>, id: u32) {
        if id == NOBODY || !self.contexts.get(id as usize).is_some_and(|c| c.is_over()) {
            return;
        }
        let context = self.contexts.remove(id as usize);
        if let Role::Initial { session, .. } = context.role {
            self.legs.leave(session);
        }
        for attempt in context.attempts {
            if let Some(grant) = attempt.grant {
                io.desk.release(io.now, grant, Outcome::TimedOut);
            }
        }
        context.request.into_iter().for_each(|kept| self.pool.give_back(kept));
        context.held.into_iter().for_each(|(_, kept)| self.pool.give_back(kept));
    }
}
