//! How attempts and contexts end without a final: timers B and F, transport errors (§16.9), and the last reference.

use crate::balance::{Evidence, Outcome, Refusal};
use crate::base::{CallKey, LegId, ResourceId, Seq};
use crate::out::{EndReason, Event};
use crate::session::Leg;
use crate::session::change::Answer;
use crate::sip::Method;
use crate::transaction::ClientMachine;

use super::context::{Attempt, AttemptState, Cancel, Context, Effect, Role};
use super::initial::NOBODY;
use super::route_token::RouteToken;
use super::{Io, Proxy};

impl Proxy {
    /// A client transaction ended without a final: Timer B or F, or a transport error (§16.9).
    pub(super) fn client_failed(&mut self, io: &mut Io<'_>, client: u32, outcome: Outcome) {
        let transaction = self.transactions.close_client(client);
        let (id, n) = (transaction.owner, transaction.attempt as usize);
        if id == NOBODY {
            return;
        }
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

    /// Whether an attempt became a leg that this node knows from elsewhere: another node of the pair passed its 2xx on, or
    /// the messages of its dialog came by. Its caller has his answer then, and nobody else must be asked.
    pub(super) fn is_answered_elsewhere(&mut self, io: &mut Io<'_>, id: u32) -> bool {
        let Some(context) = self.contexts.get(id as usize) else { return false };
        let Some(n) = self.became_leg(context) else { return false };
        if context.answered || !matches!(context.role, Role::Initial { .. }) {
            return false;
        }
        let (leg, resource) = (context.attempts[n].leg, context.attempts[n].resource);
        // Each node counts its attempts alone, so the leg of another one may have the same id.
        let other = self.legs.find_mut(leg).is_some_and(|leg| leg.resource != resource);
        self.accepted_elsewhere(io, id, (!other).then_some(n));
        true
    }

    /// An ACK to a 2xx that this node never saw, for an INVITE that it has taken over: its last owner passed the 2xx on
    /// and could not say so.
    pub(super) fn confirm(&mut self, io: &mut Io<'_>, token: &RouteToken, call_id: &[u8]) {
        if self.legs.find(token.leg).is_some() {
            return;
        }
        let asked = |a: &Attempt| a.leg == token.leg && a.resource == token.resource;
        let mut ringing = self.contexts.iter().filter(|(_, c)| c.is_ringing());
        let Some((id, context)) = ringing.find(|(_, c)| c.attempts.iter().any(asked)) else { return };
        let invited = context.received;
        self.rebuild(io, token.leg, token.resource, call_id, invited);
        self.is_answered_elsewhere(io, id as u32);
    }

    /// The caller of this INVITE has a 2xx that did not pass here: to attempt `n`, or to none of this node.
    pub(super) fn accepted_elsewhere(&mut self, io: &mut Io<'_>, id: u32, n: Option<usize>) {
        if let Some(n) = n {
            self.conclude_attempt(io, id, n);
        }
        self.send_final(io, id, 200, |_, _| {});
        self.record_setup(io, id, None, Answer::Accepted);
        // §16.7 step 10.
        self.cancel_others(io, id, n);
        self.drop_request(id);
    }

    /// As if the 2xx to an attempt had come by here.
    fn conclude_attempt(&mut self, io: &mut Io<'_>, id: u32, n: usize) {
        let attempt = &mut self.contexts[id as usize].attempts[n];
        (attempt.state, attempt.cancel) = (AttemptState::Done, Cancel::No);
        let (client, grant) = (attempt.client, attempt.grant.take());
        let timing = self.transactions.timing;
        // The leg holds its own port.
        grant.into_iter().for_each(|grant| io.desk.release(io.now, grant, Outcome::Completed));
        if let Some(client) = client
            && let ClientMachine::Invite(machine) = &mut self.transactions.client_mut(client).machine
        {
            machine.on_response(io.now, &timing, 200);
            self.transactions.arm_client(client);
        }
    }

    /// The unanswered attempt that is known as a leg all the same.
    pub(super) fn became_leg(&self, context: &Context) -> Option<usize> {
        let lives = |a: &Attempt| self.legs.find(a.leg).is_some() || self.legs.has_ended(a.leg);
        context.attempts.iter().position(|a| a.state != AttemptState::Done && lives(a))
    }

    pub(super) fn attempt_failed(&mut self, io: &mut Io<'_>, id: u32, n: usize, outcome: Outcome) {
        let context = &mut self.contexts[id as usize];
        let attempt = &mut context.attempts[n];
        let superseded = attempt.state == AttemptState::Superseded;
        attempt.state = AttemptState::Done;
        let grant = attempt.grant.take();
        self.note(id);
        let Some(grant) = grant else { return };
        if !superseded {
            let evidence = match outcome {
                Outcome::Unreachable => Evidence::Unreachable,
                _ => Evidence::Silent,
            };
            io.desk.evidence(io.now, grant.resource, evidence);
        }
        let context = &self.contexts[id as usize];
        let (answered, cancelled) = (context.answered, context.cancelled);
        let doubtful = context.doubtful && outcome == Outcome::TimedOut;
        if answered || superseded || cancelled || doubtful {
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
        // A caller that has had his answer ignores this one.
        let code = if self.contexts[id as usize].doubtful { 408 } else { 480 };
        self.with_request(id, |proxy, request| {
            proxy.exhausted(io, id, request, Refusal::NoMember { code });
        });
    }

    pub(super) fn in_dialog_failed(&mut self, io: &mut Io<'_>, id: u32, outcome: Outcome) {
        let context = &mut self.contexts[id as usize];
        let Role::InDialog { leg, resource, effect, .. } = context.role else { return };
        context.attempts.iter_mut().for_each(|a| a.state = AttemptState::Done);
        let answered = context.answered;
        let over = self.legs.has_ended(leg);
        if effect == Effect::Ends {
            self.bye_done(io, None, leg, resource);
        }
        if answered {
            return;
        }
        self.with_request(id, |proxy, request| match (outcome, request.method()) {
            // §15.1.1: its call has ended here or at another node, which may have said so.
            (Outcome::Unreachable, Method::Bye) if over => proxy.own_final(io, id, request, 200),
            // §16.9: a transport error counts as 503, which is not for the sender.
            (Outcome::Unreachable, _) => proxy.own_final(io, id, request, 500),
            (_, Method::Invite) => proxy.own_final(io, id, request, 408),
            // RFC 4320 §4.1: never a 408 to a non-INVITE request.
            _ => {}
        });
    }

    /// The INVITE whose early dialog a request with the token of `leg` is in: context and attempt.
    pub(super) fn early(&self, leg: LegId, resource: ResourceId) -> Option<(usize, usize)> {
        if self.legs.find(leg).is_some() {
            return None;
        }
        self.contexts.iter().find_map(|(id, context)| Some((id, context.early(leg, resource)?)))
    }

    /// A BYE has had its final, whatever that is, or will have none: the session is over (§15.1.1). An early dialog only
    /// ends with the final of its INVITE, which is still owed. The position of the record.
    pub(super) fn bye_done(&mut self, io: &mut Io<'_>, call: Option<CallKey>, leg: LegId, resource: ResourceId) -> Seq {
        if let Some((id, n)) = self.early(leg, resource) {
            return self.early_done(io, (id, n), call, leg);
        }
        let known = self.legs.find_mut(leg).map(|leg| (leg.call, leg.resource));
        if known.is_some_and(|(_, other)| other != resource) {
            // Two nodes that did not hear each other asked two resources for one INVITE, and gave both dialogs one id.
            return Seq(0);
        }
        let call = call.or(known.map(|(call, _)| call));
        let recorded = call.map_or(Seq(0), |call| self.record_end(io, call, leg));
        self.end_leg(io, leg, EndReason::Bye);
        recorded
    }

    /// A BYE has ended an early dialog. Its resource owes the final of the INVITE still (§15.1.2), and nobody else is asked.
    fn early_done(&mut self, io: &mut Io<'_>, (id, n): (usize, usize), call: Option<CallKey>, leg: LegId) -> Seq {
        let over = self.transactions.timing.t1x64();
        let context = &mut self.contexts[id];
        context.cancelled = true;
        let attempt = &mut context.attempts[n];
        attempt.over = true;
        attempt.due = attempt.due.min(io.now + over);
        self.arm_context(id as u32);
        self.note(id as u32);
        if !self.view.shared {
            return Seq(0);
        }
        // Where any node may pass an answer on, this may be a call there, and its final has been and gone.
        if self.apart.is(io.now, over)
            && let Some(grant) = self.contexts[id].attempts[n].grant.take()
        {
            io.desk.release(io.now, grant, Outcome::Completed);
        }
        let believed = io.now + self.view.config.inactivity;
        self.legs.remember_end(leg, (io.now + over, believed));
        call.map_or(Seq(0), |call| self.record_end(io, call, leg))
    }

    /// Takes a leg out; its port returns.
    pub(super) fn end_leg(&mut self, io: &mut Io<'_>, id: LegId, reason: EndReason) {
        let forget = io.now + self.transactions.timing.t1x64();
        // A copy lapses with its lease, if nothing else ends it. What began here after the nodes parted has none.
        let shared = |leg: &mut Leg| leg.taken_over || leg.invited <= self.apart.since;
        let shared = self.legs.find_mut(id).is_none_or(shared);
        let believed = if shared { io.now + self.view.config.inactivity } else { forget };
        let times = (forget, believed);
        // Also one that is not known: the answer to its INVITE may still be on its way.
        let lapsed = reason != EndReason::Bye;
        let Some(leg) = self.legs.remove(id, times, lapsed) else { return self.legs.remember_end(id, times) };
        self.digest_leg(leg.owner, leg.call, id, leg.version);
        let outcome = match reason {
            EndReason::Bye => Outcome::Completed,
            EndReason::SessionExpired | EndReason::Inactive | EndReason::Unacknowledged => Outcome::Expired,
        };
        if let Some(grant) = leg.grant {
            io.desk.release(io.now, grant, outcome);
        }
        match reason {
            EndReason::Bye => self.stats.calls_ended_bye += 1,
            EndReason::SessionExpired => self.stats.calls_ended_session_expired += 1,
            EndReason::Inactive => self.stats.calls_ended_inactive += 1,
            EndReason::Unacknowledged => self.stats.calls_ended_unacknowledged += 1,
        }
        let (resource, answered, taken_over) = (leg.resource, leg.answered, leg.taken_over);
        io.out.events.push(Event::Ended { leg: id, resource, answered, taken_over, reason });
    }

    /// Gives back what only a pursued attempt needs.
    pub(super) fn drop_request(&mut self, id: u32) {
        let context = &mut self.contexts[id as usize];
        let transactions = &self.transactions;
        // §17.1.1.2: a refusal that comes again is acknowledged again, and the ACK is written from the INVITE.
        let refused = |a: &Attempt| a.client.is_some_and(|client| transactions.client(client).machine.is_completed());
        let needed = |a: &Attempt| a.state != AttemptState::Done || a.cancel != Cancel::No || refused(a);
        if !context.attempts.iter().any(needed)
            && let Some(request) = context.request.take()
        {
            self.pool.give_back(request);
        }
    }

    /// A non-INVITE request that got its final needs its transactions only to absorb and repeat: its context goes.
    pub(super) fn detach(&mut self, io: &mut Io<'_>, id: u32) {
        let context = &mut self.contexts[id as usize];
        if let Some(server) = context.server.take() {
            self.transactions.server_mut(server).owner = NOBODY;
        }
        for attempt in &mut context.attempts {
            if let Some(client) = attempt.client.take() {
                self.transactions.client_mut(client).owner = NOBODY;
                context.clients -= 1;
            }
        }
        self.reap(io, id);
    }

    /// Removes a context to which nothing refers any more.
    pub(super) fn reap(&mut self, io: &mut Io<'_>, id: u32) {
        if id == NOBODY || !self.contexts.get(id as usize).is_some_and(|c| c.is_over()) {
            return;
        }
        let context = self.contexts.remove(id as usize);
        self.forget_retries(id, context.retry);
        self.record_gone(io, &context);
        if let Role::Initial { session, .. } = context.role {
            self.legs.leave(session);
        }
        for attempt in context.attempts {
            if let Some(grant) = attempt.grant {
                io.desk.release(io.now, grant, Outcome::TimedOut);
            }
        }
        context.request.into_iter().chain(context.joined).for_each(|kept| self.pool.give_back(kept));
        context.held.into_iter().for_each(|(_, kept)| self.pool.give_back(kept));
    }
}
