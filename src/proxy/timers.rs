//! §16.8 Timer C, the wait for the first response, leases of legs; and what transaction timers want (§17).

use std::time::Duration;

use crate::balance::Outcome;
use crate::base::{LegId, Time};
use crate::transaction::timer::Fired;
use crate::transaction::{ClientMachine, Due};

use super::context::{Attempt, AttemptState, Role};
use super::initial::NOBODY;
use super::state::Coarse;
use super::{Io, Proxy};

/// Who sees the wait for a first response end so much too late did not run, and has the answers that came meanwhile still
/// before it.
const LATE: Duration = Duration::from_millis(500);
/// When a leg is first looked at after its answer.
const FIRST_LOOK: Duration = Duration::from_secs(30);

impl Proxy {
    /// Everything that is due. A node that does not act for the pair only forgets: what its timers would send or end is
    /// another node's by now, or comes due again once this one acts.
    pub fn handle_timeout(&mut self, io: &mut Io<'_>) {
        if self.view.acts() {
            self.act_on_time(io);
        }
        let again = self.transactions.timing.t1x64();
        self.legs.forget(io.now, self.apart.is(io.now, again).then_some(again));
        self.forget_shadows(io);
        self.marks.forget(io.now);
        self.record_noted(io);
    }

    fn act_on_time(&mut self, io: &mut Io<'_>) {
        while let Some(due) = self.transactions.pop_due(io.now) {
            match due {
                Due::Server(id, fired) => self.server_due(io, id, fired),
                Due::Client(id, fired) => self.client_due(io, id, fired),
            }
        }
        while let Some(due) = self.coarse.pop_due(io.now) {
            match due {
                Coarse::Context(id, serial) => self.context_due(io, id, serial),
                Coarse::Leg(id) => self.leg_due(io, id),
            }
        }
    }

    /// The earliest transaction deadline, and the earliest coarse one.
    pub fn next_timeout(&self) -> (Time, Time) {
        let first = |due: Option<Time>| due.unwrap_or(Time::NEVER);
        let forget = first(self.legs.next_forget()).min(first(self.shadows.next_forget()));
        if !self.view.acts() {
            return (Time::NEVER, forget);
        }
        let coarse = first(self.coarse.next()).min(forget);
        (self.transactions.next_timeout().unwrap_or(Time::NEVER), coarse)
    }

    fn server_due(&mut self, io: &mut Io<'_>, id: u32, fired: Fired) {
        if fired == Fired::Repeat {
            let server = self.transactions.server(id);
            if let Some(last) = &server.last {
                self.stats.retransmissions_sent += 1;
                io.send(server.upstream, |bytes| {
                    bytes.extend_from_slice(last);
                    true
                });
            }
            return;
        }
        self.stats.unacknowledged_finals += u64::from(fired == Fired::NoAck);
        let server = self.transactions.close_server(id);
        if let Some(last) = server.last {
            self.pool.give_back(last);
        }
        if server.owner != NOBODY {
            self.contexts[server.owner as usize].server = None;
            self.reap(io, server.owner);
        }
    }

    fn client_due(&mut self, io: &mut Io<'_>, id: u32, fired: Fired) {
        match fired {
            Fired::Repeat => self.repeat(io, id),
            Fired::TimedOut => {
                self.stats.transaction_timeouts += 1;
                self.client_failed(io, id, Outcome::TimedOut);
            }
            Fired::Terminated | Fired::NoAck | Fired::Nothing => self.client_over(io, id),
        }
    }

    fn client_over(&mut self, io: &mut Io<'_>, id: u32) {
        let client = self.transactions.client(id);
        let silent = matches!(&client.machine,
            ClientMachine::Invite(m) if m.state == crate::transaction::invite_client::State::Proceeding);
        if silent {
            // §9.1: no final within 64·T1 of the CANCEL; it counts as cancelled.
            return self.client_failed(io, id, Outcome::Cancelled);
        }
        let client = self.transactions.close_client(id);
        if client.owner == NOBODY {
            return;
        }
        let context = &mut self.contexts[client.owner as usize];
        context.clients -= 1;
        if !client.cancel {
            context.attempts[client.attempt as usize].client = None;
        }
        self.reap(io, client.owner);
    }

    /// Timers A and E: the same octets again.
    fn repeat(&mut self, io: &mut Io<'_>, id: u32) {
        let client = self.transactions.client(id);
        let (owner, n, cancel) = (client.owner, client.attempt as usize, client.cancel);
        if self.is_answered_elsewhere(io, owner) {
            return;
        }
        self.stats.retransmissions_sent += 1;
        if cancel {
            return self.follow_up(io, owner, n, "CANCEL", None);
        }
        self.with_request(owner, |proxy, request| {
            let hop = proxy.contexts[owner as usize].attempts[n].hop.clone();
            let name = proxy.unresolved(request, &hop);
            proxy.send_hop(io.out, request, &hop, name);
        });
        self.hush_superseded(id, owner, n);
    }

    /// An attempt that was given up before its call was taken over is sent again once, to learn where it stands: a
    /// resource that never heard of it must not be asked until it answers.
    fn hush_superseded(&mut self, id: u32, owner: u32, n: usize) {
        if self.contexts[owner as usize].attempts[n].state == AttemptState::Superseded
            && let ClientMachine::Invite(machine) = &mut self.transactions.client_mut(id).machine
        {
            machine.hush();
        }
    }

    fn context_due(&mut self, io: &mut Io<'_>, id: u32, serial: u32) {
        let Some(context) = self.contexts.get_mut(id as usize).filter(|c| c.serial == serial) else { return };
        context.queued = Time::NEVER;
        let answered = context.answered;
        if !answered && !self.is_answered_elsewhere(io, id) {
            let now = io.now;
            let context = &mut self.contexts[id as usize];
            let overslept = |a: &&mut Attempt| a.state == AttemptState::Sent && now.since(a.due) > LATE;
            context.attempts.iter_mut().filter(overslept).for_each(|a| a.due = now + LATE);
            for attempt in context.attempts.iter().filter(|a| a.due <= now) {
                match attempt.state {
                    AttemptState::Sent => self.stats.first_response_timeouts += 1,
                    AttemptState::Proceeding => self.stats.timer_c_expired += 1,
                    AttemptState::Superseded | AttemptState::Done => {}
                }
            }
            match context.role {
                Role::Initial { .. } => self.abandon(io, id, |attempt| attempt.due <= now, Outcome::TimedOut),
                Role::InDialog { .. } => self.re_invite_due(io, id),
            }
        }
        self.arm_context(id);
    }

    /// Timer C of a re-INVITE, which has had a provisional: it is cancelled (§16.8), and its sender gets what comes of
    /// that. A 408 of ours would end the dialog (§12.2.1.2).
    fn re_invite_due(&mut self, io: &mut Io<'_>, id: u32) {
        for n in 0..self.contexts[id as usize].attempts.len() {
            let attempt = &mut self.contexts[id as usize].attempts[n];
            if attempt.due <= io.now {
                attempt.due = Time::NEVER;
                self.cancel_attempt(io, id, n);
            }
        }
    }

    fn leg_due(&mut self, io: &mut Io<'_>, id: LegId) {
        let (inactivity, unacknowledged) = self.leases();
        let Some(leg) = self.legs.find_mut(id) else { return };
        leg.queued = Time::NEVER;
        let (due, reason) = leg.deadline(inactivity, unacknowledged);
        if due > io.now {
            return self.arm_leg(io.now, id);
        }
        if leg.owner != self.view.node {
            return;
        }
        self.record_end_of(io, id);
        self.end_leg(io, id, reason);
    }

    /// How long a leg lives unheard of, and without an ACK: its resource repeats its 2xx for 64·T1, and an ACK to the
    /// last one may be a T4 on its way.
    fn leases(&self) -> (Duration, Duration) {
        let timing = &self.transactions.timing;
        (self.view.config.inactivity, timing.t1x64() + timing.t4)
    }

    /// Queues the next deadline of a context if it is nearer than the one queued.
    pub(super) fn arm_context(&mut self, id: u32) {
        let Some(context) = self.contexts.get_mut(id as usize) else { return };
        let due = if context.answered { Time::NEVER } else { context.due() };
        if due < context.queued {
            context.queued = due;
            self.coarse.push(due, Coarse::Context(id, context.serial));
        }
    }

    /// Queues a leg's deadline, or an earlier look at it: most legs end long before their lease, and what they leave in
    /// the queue must not outlive them by hours. The looks grow apart with the age of the leg.
    pub(super) fn arm_leg(&mut self, now: Time, id: LegId) {
        let ((inactivity, unacknowledged), me) = (self.leases(), self.view.node);
        // Its owner ends it; who takes over looks at it anew.
        if let Some(leg) = self.legs.find_mut(id).filter(|leg| leg.owner == me) {
            let look = now + now.since(leg.answered).max(FIRST_LOOK);
            let due = leg.deadline(inactivity, unacknowledged).0.min(look);
            if due < leg.queued {
                leg.queued = due;
                self.coarse.push(due, Coarse::Leg(id));
            }
        }
    }
}
