//! §16.10 CANCEL processing, and every CANCEL of our own.

use crate::balance::{Evidence, Outcome};
use crate::base::{Flow, Time};
use crate::session::change::Answer;
use crate::sip::reply::{Reply, reason_phrase};
use crate::sip::{Message, Method};
use crate::transaction::invite_client::State;
use crate::transaction::non_invite_client::NonInviteClient;
use crate::transaction::non_invite_server::NonInviteServer;
use crate::transaction::{ClientMachine, NewClient, ServerMachine};

use super::context::{Attempt, AttemptState, Cancel, Role};
use super::initial::NOBODY;
use super::reject::Reject;
use super::view::Taken;
use super::{Io, Proxy};

impl Proxy {
    /// A CANCEL: 200 at once in a transaction of its own, then every attempt that has rung is cancelled (§9.2, §16.10).
    pub(super) fn cancel(
        &mut self,
        io: &mut Io<'_>,
        request: &Message<'_>,
        flow: Flow,
        key: u128,
    ) -> Result<(), Reject> {
        let of_invite = self.transactions.key(request, Method::Invite);
        // §16.10 would forward an unknown CANCEL statelessly. We never relay by Request-URI, so it is refused (§9.2).
        let Some(invite) = self.transactions.find_server(of_invite) else {
            // The node that serves beside this one may have it, and refuses the CANCEL if not.
            if self.offer(io, request, flow) || self.comes_again(io, flow, of_invite) {
                return Ok(());
            }
            // Where another node may have the INVITE, the CANCEL comes again and meets it, once it has been handed over.
            let window = self.view.config.timer_c + self.transactions.timing.t1x64();
            let waits = |taken: &Taken| taken.living && io.now.since(taken.since) <= window;
            let elsewhere = !flow.transport.reliable() && self.view.taken.iter().any(waits);
            return if elsewhere { Ok(()) } else { Err(Reject::NothingToCancel) };
        };
        if !self.has_room() {
            return Err(Reject::Full);
        }
        let id = self.transactions.server(invite).owner;
        let Some(upstream) = self.reply_flow(request, flow) else { return Ok(()) };
        self.stats.cancels += 1;
        let pending = id != NOBODY && !self.contexts[id as usize].answered;
        let start = io.out.arena.len();
        // The same To tag as a final of our own to the INVITE would have (§9.2).
        let tag = self.own_tag(request);
        let reply = Reply { status: 200, reason: reason_phrase(200), to_tag: Some(&tag), extra: &[] };
        let answer = |io: &mut Io<'_>| {
            io.send(upstream, |bytes| {
                reply.write(request, flow.remote, bytes);
                true
            });
        };
        let from = io.out.transmits.len();
        answer(io);
        if pending {
            self.contexts[id as usize].cancelled = true;
            // The caller repeats its CANCEL until it has this answer, and a survivor must know that it came.
            let recorded = self.record_setup(io, id, None, Answer::None);
            io.hold_since(from, recorded);
        }
        self.stats.responses_generated += 1;
        let mut machine = NonInviteServer::start(io.now, &self.transactions.timing, flow.transport.reliable());
        machine.on_send(io.now, &self.transactions.timing);
        let server = self.transactions.open_server(key, ServerMachine::Other(machine), upstream, NOBODY);
        self.transactions.server_mut(server).last = Some(self.pool.keep(&io.out.arena[start..]));
        if pending {
            self.cancel_all(io, id);
        }
        Ok(())
    }

    /// Cancels every attempt of a context whose sender has given it up.
    pub(super) fn cancel_all(&mut self, io: &mut Io<'_>, id: u32) {
        for n in 0..self.contexts[id as usize].attempts.len() {
            self.cancel_attempt(io, id, n);
        }
        let context = &self.contexts[id as usize];
        if !context.answered && !context.is_pursued() && matches!(context.role, Role::Initial { .. }) {
            self.nobody_left(io, id);
        }
    }

    /// Cancels an attempt as soon as it may be (§9.1: not before a provisional).
    pub(super) fn cancel_attempt(&mut self, io: &mut Io<'_>, id: u32, n: usize) {
        let attempt = &mut self.contexts[id as usize].attempts[n];
        if attempt.client.is_none() || attempt.state == AttemptState::Done || attempt.cancel == Cancel::Sent {
            return;
        }
        if io.gate.retract(attempt.recorded) {
            return self.never_sent(io, id, n);
        }
        attempt.cancel = Cancel::Wanted;
        if self.has_provisional(id, n) {
            self.send_cancel(io, id, n);
        }
    }

    /// The INVITE of an attempt was still held: it never leaves, and nobody need be told.
    fn never_sent(&mut self, io: &mut Io<'_>, id: u32, n: usize) {
        let context = &mut self.contexts[id as usize];
        let attempt = &mut context.attempts[n];
        attempt.state = AttemptState::Done;
        if let Some(client) = attempt.client.take() {
            context.clients -= 1;
            self.transactions.close_client(client);
        }
        if let Some(grant) = attempt.grant.take() {
            io.desk.release(io.now, grant, Outcome::Cancelled);
        }
        self.note(id);
    }

    /// Cancels every attempt but the one that was answered; they are listened to until they end.
    pub(super) fn cancel_others(&mut self, io: &mut Io<'_>, id: u32, answered: Option<usize>) {
        for n in 0..self.contexts[id as usize].attempts.len() {
            let attempt = &mut self.contexts[id as usize].attempts[n];
            if Some(n) != answered && matches!(attempt.state, AttemptState::Sent | AttemptState::Proceeding) {
                self.cancel_attempt(io, id, n);
                self.supersede(id, n);
            }
        }
    }

    /// Gives up the attempts that `which` picks and asks the next member; their ports stay held until they end.
    pub(super) fn abandon(&mut self, io: &mut Io<'_>, id: u32, which: impl Fn(&Attempt) -> bool, outcome: Outcome) {
        let context = &self.contexts[id as usize];
        if !context.is_ringing() {
            return;
        }
        let mut given_up = false;
        for n in 0..context.attempts.len() {
            let attempt = &self.contexts[id as usize].attempts[n];
            let pursued = matches!(attempt.state, AttemptState::Sent | AttemptState::Proceeding);
            if !pursued || !which(attempt) {
                continue;
            }
            given_up = true;
            if outcome == Outcome::TimedOut && attempt.state == AttemptState::Sent {
                io.desk.evidence(io.now, attempt.resource, Evidence::Silent);
            }
            self.cancel_attempt(io, id, n);
            self.supersede(id, n);
        }
        let context = &self.contexts[id as usize];
        if !given_up || context.is_pursued() {
            return;
        }
        if context.cancelled { self.nobody_left(io, id) } else { self.next_candidate(io, id, None) }
    }

    /// An attempt that somebody else has taken the place of: not repeated, still listened to.
    fn supersede(&mut self, id: u32, n: usize) {
        let attempt = &mut self.contexts[id as usize].attempts[n];
        if attempt.state == AttemptState::Done {
            // It was still held and never left.
            return;
        }
        let before = std::mem::replace(&mut attempt.state, AttemptState::Superseded);
        attempt.due = Time::NEVER;
        let client = attempt.client;
        self.note(id);
        if let Some(client) = client
            && let ClientMachine::Invite(machine) = &mut self.transactions.client_mut(client).machine
        {
            // Taken over, and not asked yet: without its provisional the CANCEL could not leave. Once is enough.
            let unasked = before == AttemptState::Proceeding && machine.state == State::Calling;
            if !unasked {
                machine.hush();
            }
        }
    }

    fn has_provisional(&self, id: u32, n: usize) -> bool {
        let Some(client) = self.contexts[id as usize].attempts[n].client else { return false };
        match &self.transactions.client(client).machine {
            ClientMachine::Invite(m) => m.state == State::Proceeding,
            ClientMachine::Other(_) => false,
        }
    }

    /// Sends the CANCEL of an attempt in a transaction of its own.
    pub(super) fn send_cancel(&mut self, io: &mut Io<'_>, id: u32, n: usize) {
        let (now, timing) = (io.now, self.transactions.timing);
        let attempt = &mut self.contexts[id as usize].attempts[n];
        attempt.cancel = Cancel::Sent;
        let (branch, flow, invite) = (attempt.hop.branch, attempt.hop.flow, attempt.client);
        self.follow_up(io, id, n, "CANCEL", None);
        self.transactions.open_client(NewClient {
            machine: ClientMachine::Other(NonInviteClient::start(now, &timing, flow.transport.reliable())),
            branch,
            cancel: true,
            owner: id,
            attempt: n as u8,
        });
        self.contexts[id as usize].clients += 1;
        if let Some(invite) = invite {
            if let ClientMachine::Invite(machine) = &mut self.transactions.client_mut(invite).machine {
                machine.cancelled(now, &timing);
            }
            self.transactions.arm_client(invite);
        }
    }
}
