//! RFC 3261 §16, a file per sub-section. Knows calls, not roles or modes: who serves is written in the [`View`].
#![forbid(unsafe_code)]

pub mod reject;
pub mod stats;
pub mod route_token;
mod view;
mod io;
pub mod forward;
pub mod context;
pub mod target_set;
mod shadow;
mod marks;
mod state;
mod journal;
mod pin;
pub mod validate;
pub mod own;
pub mod initial;
pub mod in_dialog;
pub mod upstream;
pub mod ends;
pub mod stray;
pub mod cancel;
pub mod response_context;
pub mod timers;
pub mod replicate;
mod retried;
mod elsewhere;
pub mod adopt;
pub mod give_up;

use std::sync::Arc;

use crate::balance::Outcome;
use crate::base::{Bucket, CallKey, Flow, LegId, Pin, ResourceId, Seq, Time};
use crate::session::Legs;
use crate::sip::{Index, Message, Method};
use crate::transaction::Transactions;
use crate::transaction::timer::Timing;

use context::Context;
use reject::Reject;

pub use io::{Gate, Io};
pub use state::Proxy;
pub use view::{Commit, Config, Retried, Taken, View};

/// One call as an operator sees it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Its leg, or what would become one.
    pub leg: LegId,
    /// Its Call-ID.
    pub call_id: &'a [u8],
    /// Where it is.
    pub resource: ResourceId,
    /// `trying`, `ringing` or `answered`.
    pub state: &'static str,
    /// When its INVITE came in.
    pub since: Time,
    /// What binds it there.
    pub pin: Option<Pin>,
}

impl Proxy {
    /// A new view; calls go on.
    pub fn set_view(&mut self, now: Time, view: Arc<View>) {
        self.apart.look(now, &view);
        self.transactions.timing = Timing { t1: view.config.t1, t2: view.config.t2, t4: view.config.t4 };
        self.view = view;
    }

    /// One sound message.
    pub fn handle(&mut self, io: &mut Io<'_>, message: &Message<'_>, flow: Flow) {
        let (request, acts) = (message.is_request(), self.view.acts());
        let count = if request { &mut self.stats.requests } else { &mut self.stats.responses };
        *count += 1;
        if cfg!(feature = "next") {
            // What a fault of ours does to the message that meets it, and to the others.
            assert!(message.headers().all(|header| header.name_text != b"X-Tandem-Stumble"), "asked to stumble");
        }
        match (request, acts) {
            (true, true) => self.request(io, message, flow),
            (false, true) => self.response(io, message, flow),
            // Another node knows the call, and it alone may change it.
            (true, false) => {
                self.stats.reject(Reject::Draining.reason());
                self.answer_statelessly(io, message, flow, Reject::Draining);
            }
            (false, false) => {}
        }
        self.record_noted(io);
    }

    /// A request of ours could not be delivered: a transport error of the transaction with this branch (§16.9). Whether
    /// it is one of this shard.
    pub fn undelivered(&mut self, io: &mut Io<'_>, branch: &[u8], cancel: bool) -> bool {
        let Some(id) = self.transactions.find_client(branch, cancel).filter(|_| self.view.acts()) else {
            return false;
        };
        self.stats.transport_errors += 1;
        self.client_failed(io, id, Outcome::Unreachable);
        self.record_noted(io);
        true
    }

    /// Nothing is asked of `resource` any more: its unanswered attempts are cancelled and tried elsewhere.
    pub fn resource_down(&mut self, io: &mut Io<'_>, resource: ResourceId) {
        if !self.view.acts() {
            return;
        }
        let asks = |context: &Context| context.is_ringing() && context.attempts.iter().any(|a| a.resource == resource);
        let asking: Vec<u32> = self.contexts.iter().filter(|(_, c)| asks(c)).map(|(id, _)| id as u32).collect();
        for id in asking {
            self.abandon(io, id, |attempt| attempt.resource == resource, Outcome::Unreachable);
        }
        self.record_noted(io);
    }

    fn request(&mut self, io: &mut Io<'_>, request: &Message<'_>, flow: Flow) {
        let method = request.method();
        let key = self.transactions.key(request, method);
        if let Some(id) = self.transactions.find_server(key) {
            if method != Method::Ack {
                return self.retransmitted_request(io, id);
            }
            if self.ack_of_transaction(io, id) {
                return;
            }
        }
        if self.is_of_other(io, request, flow, key) {
            return;
        }
        let handled = match method {
            Method::Cancel => self.cancel(io, request, flow, key),
            _ => self.new_request(io, request, flow, key),
        };
        if let Err(reject) = handled {
            self.stats.reject(reject.reason());
            self.answer_statelessly(io, request, flow, reject);
        }
    }

    /// §16.3 to §16.6 for a request without a transaction.
    fn new_request(&mut self, io: &mut Io<'_>, request: &Message<'_>, flow: Flow, key: u128) -> Result<(), Reject> {
        let place = self.preprocess(request);
        if request.to_tag().is_some() {
            self.validate(request)?;
            return self.in_dialog(io, request, flow, key, &place);
        }
        match request.method() {
            Method::Ack => Err(Reject::StrayAck),
            Method::Invite => {
                self.validate(request)?;
                self.check_loop(request)?;
                self.initial(io, request, flow, key, &place)
            }
            Method::Options => self.options(io, request, flow),
            method => {
                self.validate(request)?;
                Err(reject::not_served(method))
            }
        }
    }

    /// A retransmission ends here (§17.2): the last response again, or nothing.
    fn retransmitted_request(&mut self, io: &mut Io<'_>, id: u32) {
        self.stats.retransmissions_absorbed += 1;
        let server = self.transactions.server(id);
        let repeats = match &server.machine {
            crate::transaction::ServerMachine::Invite(m) => m.repeats_to_invite(),
            crate::transaction::ServerMachine::Other(_) => true,
        };
        if !repeats {
            return;
        }
        match &server.last {
            Some(last) => {
                io.send(server.upstream, |bytes| {
                    bytes.extend_from_slice(last);
                    true
                });
            }
            None => self.repeat_trying(io, id),
        }
    }

    /// Whether indexes, slabs and counts agree; if not, which do not. Run after a failed assertion, and by the simulator
    /// after every step.
    pub fn check(&self) -> Result<(), &'static str> {
        let contexts = self.contexts.iter().all(|(_, c)| c.check());
        let parts = [
            (self.transactions.check(), "transactions"),
            (self.legs.check(), "legs"),
            (self.shadows.check(), "shadows"),
            (contexts, "an attempt that holds a port and waits for nothing"),
        ];
        parts.into_iter().find(|(sound, _)| !sound).map_or(Ok(()), |(_, part)| Err(part))
    }

    /// The sessions and legs of this shard.
    pub fn legs(&self) -> &Legs {
        &self.legs
    }

    /// Whether this shard may change calls and send for them.
    pub fn acts(&self) -> bool {
        self.view.acts()
    }

    /// INVITEs without a final answer.
    pub fn ringing(&self) -> impl Iterator<Item = &Context> {
        self.contexts.iter().map(|(_, c)| c).filter(|c| c.is_ringing())
    }

    /// Every call of this shard: answered legs, then INVITEs without a final answer.
    pub fn each_call(&self, f: &mut dyn FnMut(Call<'_>)) {
        for leg in self.legs.iter() {
            let (id, resource, since) = (leg.id, leg.resource, leg.invited);
            let pin = leg.grant.as_ref().and_then(|grant| grant.pin);
            f(Call { leg: id, call_id: &leg.call_id, resource, state: "answered", since, pin });
        }
        let mut index = Index::new();
        for context in self.ringing() {
            let (Some(request), Some(attempt)) = (&context.request, context.attempts.last()) else { continue };
            let state = if context.rang { "ringing" } else { "trying" };
            if index.parse(request).is_ok() {
                let call_id = index.message(request).call_id();
                let (leg, resource, since) = (attempt.leg, attempt.resource, context.received);
                f(Call { leg, call_id, resource, state, since, pin: attempt.pin });
            }
        }
    }

    /// Ports held by this shard's legs and attempts, and by what it knows of another node's; and how many of them are of calls
    /// that a key binds.
    pub fn grants(&self) -> (usize, usize) {
        let attempts = self.contexts.iter().flat_map(|(_, c)| &c.attempts).filter_map(|a| a.grant.as_ref());
        let shadows = self.shadows.iter().flat_map(|s| &s.grants).flatten();
        let legs = self.legs.iter().filter_map(|leg| leg.grant.as_ref());
        legs.chain(attempts)
            .chain(shadows)
            .fold((0, 0), |(all, bound), grant| (all + 1, bound + usize::from(grant.pin.is_some())))
    }

    /// Calls that another node sets up, also those that are only remembered.
    pub fn shadows(&self) -> usize {
        self.shadows.len()
    }

    /// What another node sets up and has not finished.
    pub fn shadows_ringing(&self) -> usize {
        self.shadows.iter().filter(|s| s.stage == shadow::Stage::Live).count()
    }

    /// INVITEs without a final answer whose last record stands behind `acked`.
    pub fn ringing_beyond(&self, acked: Seq) -> usize {
        let initial = |c: &&Context| matches!(c.role, context::Role::Initial { .. });
        self.ringing().filter(initial).filter(|c| c.version.seq > acked).count()
    }

    /// Calls in any of these buckets, which are sorted: answered, in set-up, in set-up elsewhere.
    pub fn calls_in(&self, buckets: &[Bucket]) -> usize {
        let among = |call: CallKey| buckets.binary_search_by_key(&call.bucket().0, |bucket| bucket.0).is_ok();
        if buckets.is_empty() {
            return 0;
        }
        let begun = self.ringing().filter(|c| matches!(c.role, context::Role::Initial { call, .. } if among(call)));
        let shadows = self.shadows.iter().filter(|s| s.stage == shadow::Stage::Live && among(s.call));
        self.legs.iter().filter(|leg| among(leg.call)).count() + begun.count() + shadows.count()
    }

    /// The transactions of this shard.
    pub fn transactions(&self) -> &Transactions {
        &self.transactions
    }

    /// Response contexts alive.
    pub fn contexts(&self) -> usize {
        self.contexts.len()
    }

    /// Coarse deadlines queued, also of what is gone.
    pub fn coarse_timers(&self) -> usize {
        self.coarse.len()
    }
}
