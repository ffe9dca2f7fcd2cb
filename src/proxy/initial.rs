//! A new call: admission, the first attempt and every further one (§16.5, §16.6).

use crate::balance::{Ask, Grant, Outcome, Refusal};
use crate::base::{Flow, LegId, Seq, SessionId, Time, Transport, Version, limits};
use crate::identity::IdentityId;
use crate::out::{Event, Transmit};
use crate::session::change::Answer;
use crate::sip::reply::{Reply, reason_phrase};
use crate::sip::{Message, Method, Scheme};
use crate::transaction::branch::{self, Bound};
use crate::transaction::invite_client::InviteClient;
use crate::transaction::invite_server::InviteServer;
use crate::transaction::{ClientMachine, NewClient, ServerMachine};

use super::context::{Attempt, AttemptState, Cancel, Context, Role, retry_key};
use super::forward::{self, Hop, HopKind};
use super::journal::invite_id;
use super::pin::Shown;
use super::reject::Reject;
use super::target_set::service;
use super::validate::Place;
use super::{Io, Proxy};

/// The owner of a server transaction that only repeats a refusal.
pub(super) const NOBODY: u32 = u32::MAX;

impl Proxy {
    /// An INVITE without To tag: a call for us, whatever host its Request-URI names.
    pub(super) fn initial(
        &mut self,
        io: &mut Io<'_>,
        request: &Message<'_>,
        flow: Flow,
        key: u128,
        place: &Place,
    ) -> Result<(), Reject> {
        if !self.has_room() || !self.legs.has_room() {
            return Err(Reject::Full);
        }
        let Some(upstream) = self.reply_flow(request, flow) else { return Ok(()) };
        let service = service(request);
        if self.retried(io, request, (flow, upstream), key, service) {
            return Ok(());
        }
        if !self.view.serving {
            self.refuse(io, request, flow, upstream, key, &Reject::Draining);
            return Ok(());
        }
        let leg = self.leg_id(request, 0);
        if self.legs.find(leg).is_some() {
            // The INVITE of a call that lives, long after its transaction (§8.2.2.2 as a proxy sees it).
            return Err(Reject::Loop);
        }
        let shows = &Shown { request, keys: &self.view.keys };
        let ask = Ask { leg, service, secure: is_secure(request), tried: &[], shows };
        let grant = match io.desk.admit(io.now, &ask) {
            Ok(grant) => grant,
            Err(_) if io.desk.peer_serves(&ask) && self.offer_beyond(io, request, flow) => return Ok(()),
            Err(refusal) => {
                self.refuse(io, request, flow, upstream, key, &Reject::NoResource(refusal));
                return Ok(());
            }
        };
        self.stats.calls_offered += 1;
        let call = self.view.keys.call_key(request.call_id());
        let session = SessionId(call.0);
        self.legs.join(session);
        let role = Role::Initial { invite: invite_id(leg), call, session, pops: place.pops, service };
        let id = self.open_context(io.now, request, flow, upstream, role);
        let machine = ServerMachine::Invite(InviteServer::start(flow.transport.reliable()));
        let server = self.transactions.open_server(key, machine, upstream, id);
        self.contexts[id as usize].server = Some(server);
        self.place(io, id, request, grant);
        Ok(())
    }

    /// Whether another request can be taken.
    pub(super) fn has_room(&self) -> bool {
        self.transactions.has_room() && self.contexts.len() < self.contexts.capacity()
    }

    /// A refusal that depends on the state of this node: repeated literally to every retransmission (§17.2.1), so that
    /// a caller who was refused is not served a moment later.
    pub(super) fn refuse(
        &mut self,
        io: &mut Io<'_>,
        request: &Message<'_>,
        source: Flow,
        upstream: Flow,
        key: u128,
        reject: &Reject,
    ) {
        self.stats.reject(reject.reason());
        // Before the answer: to a repetition that comes in at the other node this one answers.
        self.mark(io, request);
        let start = io.out.arena.len();
        if !io.send(upstream, |bytes| self.write_reject(request, source, reject, bytes)) {
            return;
        }
        self.stats.responses_generated += 1;
        let machine = InviteServer::refused(io.now, &self.transactions.timing, source.transport.reliable());
        let status = reject.status().unwrap_or(480);
        self.stats.invite_final(status);
        let server = self.transactions.open_server(key, ServerMachine::Invite(machine), upstream, NOBODY);
        self.transactions.server_mut(server).last = Some(self.pool.keep(&io.out.arena[start..]));
        let session = SessionId(self.view.keys.call_key(request.call_id()).0);
        io.out.events.push(Event::Failed { session, status });
    }

    /// A context whose request is kept.
    pub(super) fn open_context(
        &mut self,
        now: Time,
        request: &Message<'_>,
        source: Flow,
        upstream: Flow,
        role: Role,
    ) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        let retry = match role {
            Role::Initial { .. } => retry_key(&self.view.keys, request).unwrap_or_default(),
            Role::InDialog { .. } => 0,
        };
        let context = Context {
            serial: self.serial,
            version: Version::default(),
            digested: false,
            changed: false,
            server: None,
            clients: 0,
            request: Some(self.pool.keep(request.bytes())),
            joined: None,
            retry,
            source,
            upstream,
            role,
            attempts: smallvec::SmallVec::new(),
            answered: false,
            cancelled: false,
            rang: false,
            doubtful: false,
            held: None,
            received: now,
            queued: Time::NEVER,
        };
        let id = self.contexts.insert(context) as u32;
        if retry != 0 {
            self.await_retries(id);
        }
        id
    }

    /// Sends the INVITE to the resource of `grant`; the first one together with our 100 (§16.2, §17.2.1).
    pub(super) fn place(&mut self, io: &mut Io<'_>, id: u32, request: &Message<'_>, grant: Grant) {
        let context = &self.contexts[id as usize];
        let index = context.attempts.len() as u8;
        let (session, upstream, source) = match context.role {
            Role::Initial { session, .. } => (session, context.upstream, context.source),
            Role::InDialog { .. } => return,
        };
        let hop = self.hop(id, request, &grant, index);
        let start = io.out.arena.len();
        let (hop, length) = self.write_placed(io, request, hop, &grant);
        let flow = hop.flow;
        let (leg, resource, pin) = (grant.leg, grant.resource, grant.pin);
        io.out.events.push(Event::Placed { leg, session, resource, attempt: index });
        self.stats.attempts += 1;
        self.stats.requests_forwarded += 1;
        self.stats.retries += u64::from(index > 0);
        let machine = InviteClient::start(io.now, &self.transactions.timing, hop.flow.transport.reliable());
        let client = self.transactions.open_client(NewClient {
            machine: ClientMachine::Invite(machine),
            branch: hop.branch,
            cancel: false,
            owner: id,
            attempt: index,
        });
        let due = io.now + grant.terms.first_response_timeout;
        let context = &mut self.contexts[id as usize];
        context.clients += 1;
        context.attempts.push(Attempt {
            hop,
            leg,
            resource,
            grant: Some(grant),
            pin,
            client: Some(client),
            state: AttemptState::Sent,
            cancel: Cancel::No,
            due,
            recorded: Seq(0),
            over: false,
        });
        self.arm_context(id);
        // What the caller and the resource stop repeating once they hear of us, the peer must hold before: neither the
        // 100 nor the INVITE leaves earlier (§17.1.1.2).
        let recorded = self.record_setup(io, id, Some(request.bytes()), Answer::None);
        self.contexts[id as usize].attempts[usize::from(index)].recorded = recorded;
        let from = io.out.transmits.len();
        // First, so that no answer to the INVITE can overtake it.
        if index == 0 {
            trying(io, request, source, upstream);
        }
        let bytes = start as u32..(start + length) as u32;
        io.out.transmits.push(Transmit { flow, bytes, name: None });
        io.hold_since(from, recorded);
    }

    /// Writes the INVITE; over a stream if it does not fit a datagram and the target offers one (§18.1.1).
    fn write_placed(&mut self, io: &mut Io<'_>, request: &Message<'_>, mut hop: Hop, grant: &Grant) -> (Hop, usize) {
        let start = io.out.arena.len();
        let mut scratch = self.scratch.take().unwrap_or_default();
        forward::write(request, &hop, &self.view, &mut scratch.edits, &mut io.out.arena);
        let length = io.out.arena.len() - start;
        if !hop.flow.transport.reliable()
            && length > limits::DATAGRAM_REQUEST
            && let Some(stream) = grant.route.stream
            && let Some(out) = self.view.identities.by_local(stream.transport, stream.local)
        {
            hop.flow = stream;
            hop.out = out;
            io.out.arena.truncate(start);
            forward::write(request, &hop, &self.view, &mut scratch.edits, &mut io.out.arena);
        }
        self.scratch = Some(scratch);
        (hop, io.out.arena.len() - start)
    }

    fn hop(&self, id: u32, request: &Message<'_>, grant: &Grant, index: u8) -> Hop {
        let context = &self.contexts[id as usize];
        let pops = match context.role {
            Role::Initial { pops, .. } => pops,
            Role::InDialog { .. } => 0,
        };
        let view = &self.view;
        let fields = branch::Attempt {
            node: view.node.0,
            epoch: view.epoch.counter,
            index,
            resource: grant.resource,
            spiral: self.spiral(request),
        };
        let facing = self.facing(context.source, is_secure(request));
        let flow = grant.route.flow;
        Hop {
            branch: branch::attempt(&view.keys, &fields, &Bound::new(request, &request.via())),
            flow,
            out: view.identities.by_local(flow.transport, flow.local).unwrap_or(facing),
            source: context.source.remote,
            kind: HopKind::Initial {
                route: grant.route.clone(),
                facing,
                leg: grant.leg,
                resource: grant.resource,
                key: view.keys.id(),
                pops,
            },
        }
    }

    /// The identity that a request came to; that of its listener if the address is new to us. `secure`: a request to a
    /// SIPS URI; one that came in the clear all the same goes on securely from here (§16.6 item 4).
    pub(super) fn facing(&self, source: Flow, secure: bool) -> IdentityId {
        let identities = &self.view.identities;
        let facing = identities
            .by_local(source.transport, source.local)
            .or_else(|| identities.by_listener(source.listener))
            .unwrap_or_default();
        let open = secure && source.transport != Transport::Tls;
        open.then(|| identities.sibling(facing, Transport::Tls)).flatten().unwrap_or(facing)
    }

    /// The same on every node: a function of the INVITE and the number of the attempt.
    fn leg_id(&self, request: &Message<'_>, index: u8) -> LegId {
        let branch = request.via().branch.unwrap_or_default();
        LegId(self.view.keys.id64(&[request.call_id(), request.from_tag(), branch, &[index]]))
    }

    /// Tries the next member. `failed`: the grant of the attempt that is over, which moves on in one step.
    pub(super) fn next_candidate(&mut self, io: &mut Io<'_>, id: u32, failed: Option<(Grant, Outcome)>) {
        self.with_request(id, |proxy, request| {
            let context = &proxy.contexts[id as usize];
            let Role::Initial { service, .. } = context.role else { return };
            let tried = context.tried();
            let leg = proxy.leg_id(request, tried.len() as u8);
            let shows = &Shown { request, keys: &proxy.view.keys };
            let ask = Ask { leg, service, secure: is_secure(request), tried: &tried, shows };
            let room = tried.len() < limits::ATTEMPTS && proxy.transactions.has_room();
            let next = match failed {
                Some((grant, outcome)) if room => io.desk.advance(io.now, grant, outcome, &ask),
                None if room => io.desk.admit(io.now, &ask),
                Some((grant, outcome)) => {
                    io.desk.release(io.now, grant, outcome);
                    Err(Refusal::NoMember { code: 480 })
                }
                None => Err(Refusal::NoMember { code: 480 }),
            };
            match next {
                Ok(grant) => proxy.place(io, id, request, grant),
                Err(refusal) if !proxy.contexts[id as usize].is_pursued() => proxy.exhausted(io, id, request, refusal),
                Err(_) => {}
            }
        });
    }

    /// Our 100 again, for a retransmitted INVITE that nobody has answered yet.
    pub(super) fn repeat_trying(&mut self, io: &mut Io<'_>, server: u32) {
        let owner = self.transactions.server(server).owner;
        if !self.contexts.contains(owner as usize) {
            return;
        }
        self.dispel(io.now, owner);
        self.with_request(owner, |proxy, request| {
            let context = &proxy.contexts[owner as usize];
            let held = context.attempts.first().is_some_and(|a| io.gate.is_held(a.recorded));
            if request.method() == Method::Invite && !held {
                let (source, upstream) = (context.source, context.upstream);
                proxy.with_joined(owner, |_, joined| trying(io, joined.unwrap_or(request), source, upstream));
            }
        });
    }

    /// Lends the kept request of a context.
    pub(super) fn with_request(&mut self, id: u32, f: impl FnOnce(&mut Self, &Message<'_>)) {
        let Some(kept) = self.contexts[id as usize].request.take() else { return };
        let mut index = self.spare.take().unwrap_or_default();
        if index.parse(&kept).is_ok() {
            f(self, &index.message(&kept));
        }
        self.spare = Some(index);
        match self.contexts.get_mut(id as usize) {
            Some(context) => context.request = Some(kept),
            None => self.pool.give_back(kept),
        }
    }
}

/// Whether each hop of a request must be secure (§26.2.2).
pub(super) fn is_secure(request: &Message<'_>) -> bool {
    request.uri().is_some_and(|uri| uri.scheme == Scheme::Sips)
}

/// 100 Trying (§8.2.6.1).
pub(super) fn trying(io: &mut Io<'_>, request: &Message<'_>, source: Flow, upstream: Flow) {
    let reply = Reply { status: 100, reason: reason_phrase(100), to_tag: None, extra: &[] };
    io.send(upstream, |bytes| {
        reply.write(request, source.remote, bytes);
        true
    });
}
