//! What is owed to the sender of a request: the best answer (§16.7 step 6), sent through its server transaction.

use crate::balance::Refusal;
use crate::out::Event;
use crate::session::change::Answer;
use crate::sip::Message;
use crate::sip::reply::{Reply, reason_phrase};
use crate::transaction::ServerMachine;

use super::context::Role;
use super::{Io, Proxy};

impl Proxy {
    /// Keeps the best final so far (§16.7 step 6: 6xx, else the lowest class; the first of equals).
    pub(super) fn hold(&mut self, id: u32, response: &Message<'_>, status: u16) {
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
        self.with_joined(id, |proxy, joined| proxy.answer_final(io, id, joined.unwrap_or(request), status));
    }

    fn answer_final(&mut self, io: &mut Io<'_>, id: u32, request: &Message<'_>, status: u16) {
        let context = &self.contexts[id as usize];
        let (source, upstream) = (context.source, context.upstream);
        let tag = self.own_tag(request);
        let view = self.view.clone();
        let extra = [("Server", view.config.server.as_bytes())];
        let shown = usize::from(!view.config.server.is_empty());
        let reply = Reply { status, reason: reason_phrase(status), to_tag: Some(&tag), extra: &extra[..shown] };
        let start = io.out.arena.len();
        self.send_final(io, id, status, |_, io| {
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
    pub(super) fn final_upstream(&mut self, io: &mut Io<'_>, id: u32, response: &Message<'_>, status: u16) {
        if status == 503 && matches!(self.contexts[id as usize].role, Role::Initial { .. }) {
            return self.with_request(id, |proxy, request| proxy.own_final(io, id, request, 500));
        }
        self.forward_final(io, id, response, status);
    }

    /// Relays a final.
    pub(super) fn forward_final(&mut self, io: &mut Io<'_>, id: u32, response: &Message<'_>, status: u16) {
        self.send_final(io, id, status, |proxy, io| proxy.send_upstream(io, id, response));
        self.stats.responses_forwarded += 1;
    }

    /// Moves the server transaction and lets the final go; keeps its octets if they may have to be repeated.
    pub(super) fn send_final(
        &mut self,
        io: &mut Io<'_>,
        id: u32,
        status: u16,
        send: impl FnOnce(&mut Self, &mut Io<'_>),
    ) {
        let context = &mut self.contexts[id as usize];
        let first = !context.answered;
        context.answered = true;
        let (server, role) = (context.server, context.role);
        if status >= 300 && matches!(role, Role::InDialog { .. }) {
            // Its ACK may come in elsewhere, long after the request.
            self.with_request(id, |proxy, request| proxy.mark(io, request));
        }
        let (now, timing) = (io.now, self.transactions.timing);
        let start = io.out.arena.len();
        let Some(server) = server else {
            // RFC 4320 §4.2 drops a late non-INVITE final; a 2xx to an INVITE still goes (§16.7 step 5).
            if (200..300).contains(&status) && matches!(role, Role::Initial { .. }) {
                send(self, io);
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
        let from = io.out.transmits.len();
        send(self, io);
        if status >= 300 && matches!(role, Role::Initial { .. }) {
            // Otherwise a survivor would bring the call back to life that its caller was told has failed.
            let response = std::mem::take(&mut io.out.arena);
            let answer = Answer::Refused { status, response: &response[start..] };
            let recorded = self.record_setup(io, id, None, answer);
            io.out.arena = response;
            io.hold_since(from, recorded);
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

    pub(super) fn forward_provisional(&mut self, io: &mut Io<'_>, id: u32, response: &Message<'_>) {
        let Some(server) = self.contexts[id as usize].server else { return };
        let start = io.out.arena.len();
        self.send_upstream(io, id, response);
        self.stats.responses_forwarded += 1;
        let kept = self.pool.keep(&io.out.arena[start..]);
        if let Some(old) = self.transactions.server_mut(server).last.replace(kept) {
            self.pool.give_back(old);
        }
    }
}
