//! Ownership comes here: what a dead node, or one that stands down, owned is carried on. Both sides do the same to the
//! same records, so nothing of them need be sent again.

use std::sync::Arc;
use std::time::Duration;

use smallvec::SmallVec;

use crate::balance::{Grant, Outcome, Route};
use crate::base::{Flow, LegId, NodeId, ResourceId, SessionId, Time, Version};
use crate::replica::body::{AttemptBody, SetupBody};
use crate::replica::record::Class;
use crate::transaction::branch::Branch;
use crate::transaction::invite_client::InviteClient;
use crate::transaction::invite_server::InviteServer;
use crate::transaction::{ClientMachine, NewClient, ServerMachine};

use super::context::{Attempt, AttemptState, Cancel, Context, Role};
use super::forward::{Hop, HopKind};
use super::initial::{NOBODY, is_secure};
use super::replicate::{CANCELLED, PENDING, PROCEEDING, RANG, SUPERSEDED};
use super::shadow::{Shadow, Stage};
use super::target_set::known_service;
use super::{Io, Proxy};

/// Unfinished INVITEs are sent again this far apart, so that a takeover is no flood: 64 shards do this side by side.
const PACE: Duration = Duration::from_micros(500);
/// Nothing can leave from the address of the pair before it has moved here, which takes a few milliseconds.
const MOVE: Duration = Duration::from_millis(10);

impl Proxy {
    /// Everything of `owner` is this node's from now on: deadlines are armed, unfinished INVITEs go on. `whole`: nothing
    /// that it told anybody is unknown here.
    pub fn adopt(&mut self, io: &mut Io<'_>, owner: NodeId, whole: bool) {
        let legs: Vec<LegId> = self.legs.iter().filter(|l| l.owner == owner).map(|l| l.id).collect();
        for id in legs {
            self.adopt_leg(io, owner, id);
        }
        let mut at = io.now + MOVE;
        for invite in self.shadows.ids(|s| s.owner == owner && s.stage != Stage::Gone) {
            let Some(shadow) = self.shadows.remove(invite) else { continue };
            at = at + PACE;
            self.resume(io, shadow, at, whole);
        }
        self.record_noted(io);
    }

    fn adopt_leg(&mut self, io: &mut Io<'_>, owner: NodeId, id: LegId) {
        let (me, epoch) = (self.view.node, self.view.epoch);
        let Some(leg) = self.legs.find_mut(id) else { return };
        let (before, call) = (leg.version, leg.call);
        leg.owner = me;
        leg.version.epoch = epoch;
        // An ACK may have passed its last owner.
        (leg.taken_over, leg.acknowledged) = (true, true);
        // Nobody knows what its last owner heard since: its lease begins anew, its session interval does not.
        (leg.heard, leg.queued) = (io.now, Time::NEVER);
        if let Some(grant) = &mut leg.grant {
            io.desk.take_over(io.now, grant);
        }
        let after = leg.version;
        self.digest_leg(owner, call, id, before);
        self.digest_leg(me, call, id, after);
        self.arm_leg(io.now, id);
        self.stats.legs_taken_over += 1;
    }

    /// Goes on with an INVITE: what its caller repeats meets its transaction, what its resources answer meets theirs.
    fn resume(&mut self, io: &mut Io<'_>, mut shadow: Shadow, at: Time, whole: bool) {
        let lived = shadow.stage == Stage::Live;
        if lived {
            let (owner, bucket, id) = (shadow.owner, shadow.call.bucket(), shadow.invite.0);
            self.digests.toggle(owner, Class::Setup, bucket, id, shadow.version);
        }
        let flows = shadow.body.source.as_ref().and_then(|f| f.flow()).zip(shadow.body.upstream.as_ref());
        let flows = flows.and_then(|(source, up)| Some((self.rehome(source)?, self.rehome(up.flow()?)?)));
        let (Some((source, upstream)), true) = (flows, self.has_room()) else {
            self.stats.records_without_room += 1;
            self.ignored |= lived;
            return self.drop_shadow(io, shadow);
        };
        let rival = self.transactions.find_server(shadow.key);
        if let Some(rival) = rival {
            // Both nodes took this INVITE while they did not hear each other. Its caller is served by this one; what the
            // other asked of its resources is cancelled.
            shadow.body.flags |= CANCELLED;
            shadow.stage = Stage::Accepted;
            if self.transactions.server(rival).by_answer {
                self.conclude_answered(&mut shadow.body);
            }
        }
        let (answered, reliable) = (shadow.stage != Stage::Live, upstream.transport.reliable());
        let mut machine = InviteServer::start(reliable);
        if answered {
            machine.on_send(io.now, &self.transactions.timing, shadow.body.status as u16);
            machine.take_over(at, &self.transactions.timing);
        }
        let response = std::mem::take(&mut shadow.body.response);
        let pending = shadow.body.attempts.iter().any(|a| a.flags & PENDING != 0);
        let accepted = shadow.stage == Stage::Accepted;
        let owner = match (accepted && !pending, shadow.request.is_some()) {
            (false, true) => self.restore(io, &mut shadow, source, upstream, at, whole),
            _ => NOBODY,
        };
        // Nobody could answer an INVITE that is not known.
        let server = (rival.is_none() && (answered || owner != NOBODY))
            .then(|| self.transactions.open_server(shadow.key, ServerMachine::Invite(machine), upstream, owner));
        if let Some(server) = server.filter(|_| !response.is_empty()) {
            self.transactions.server_mut(server).last = Some(self.pool.keep(&response));
        }
        if owner != NOBODY {
            let version = Version { epoch: self.view.epoch, seq: shadow.version.seq };
            self.contexts[owner as usize].server = server;
            self.digest_setup(owner, version, !answered);
            self.stats.setups_taken_over += u64::from(!answered);
            if shadow.stage == Stage::Refused {
                self.listen_for_refusals(io.now, owner);
            }
            self.go_on(io, owner);
            // None of its attempts may have a way from here.
            self.reap(io, owner);
        }
        // Whoever gave it takes it for one that lives here.
        self.ignored |= lived && !self.contexts.get(owner as usize).is_some_and(|context| context.digested);
        self.drop_shadow(io, shadow);
    }

    /// This node asked nobody, but passed an answer on: the attempt that was answered is a call here, with a port of its own.
    fn conclude_answered(&self, body: &mut SetupBody) {
        let lives = |a: &&mut AttemptBody| {
            let leg = LegId(a.leg);
            self.legs.find(leg).is_some() || self.legs.has_ended(leg)
        };
        body.attempts.iter_mut().filter(lives).for_each(|a| a.flags &= !PENDING);
    }

    /// The response context of a shadow, with transactions for its attempts that are not over.
    fn restore(
        &mut self,
        io: &mut Io<'_>,
        shadow: &mut Shadow,
        source: Flow,
        upstream: Flow,
        at: Time,
        whole: bool,
    ) -> u32 {
        self.serial = self.serial.wrapping_add(1);
        let body = &shadow.body;
        let session = SessionId(body.session);
        let role = Role::Initial {
            invite: shadow.invite,
            call: shadow.call,
            session,
            pops: body.pops as u8,
            service: known_service(&body.service),
        };
        self.legs.join(session);
        let id = self.contexts.insert(Context {
            serial: self.serial,
            version: Version::default(),
            digested: false,
            changed: false,
            server: None,
            clients: 0,
            request: shadow.request.take(),
            joined: shadow.joined.take(),
            retry: shadow.retry,
            source,
            upstream,
            role,
            attempts: SmallVec::new(),
            answered: shadow.stage != Stage::Live,
            cancelled: body.flags & CANCELLED != 0,
            rang: body.flags & RANG != 0,
            doubtful: !whole && shadow.stage == Stage::Live,
            held: None,
            received: io.now - Duration::from_millis(body.age) - io.now.since(shadow.heard),
            queued: Time::NEVER,
        }) as u32;
        if shadow.retry != 0 {
            self.await_retries(id);
        }
        let waited = io.now.since(shadow.heard);
        for (n, body) in shadow.body.attempts.iter().enumerate() {
            let grant = shadow.grants.get_mut(n).and_then(Option::take);
            self.restore_attempt(io, id, body, grant, waited, at);
        }
        self.arm_context(id);
        id
    }

    fn restore_attempt(
        &mut self,
        io: &mut Io<'_>,
        id: u32,
        body: &AttemptBody,
        mut grant: Option<Grant>,
        waited: Duration,
        at: Time,
    ) {
        let (leg, resource) = (LegId(body.leg), ResourceId(body.resource));
        let context = &self.contexts[id as usize];
        let (pops, source, cancelled, doubtful) = match context.role {
            Role::Initial { pops, .. } => (pops, context.source, context.cancelled, context.doubtful),
            Role::InDialog { .. } => return,
        };
        let mut secure = false;
        self.with_request(id, |_, request| secure = is_secure(request));
        let hop = self.restored_hop(body, source, pops, secure);
        if let Some(grant) = &mut grant {
            io.desk.take_over(io.now, grant);
        }
        let listened = body.flags & PENDING != 0;
        let (Some(hop), Some(branch)) = (hop, Branch::literal(&body.branch)) else {
            grant.into_iter().for_each(|grant| io.desk.release(io.now, grant, Outcome::TimedOut));
            return;
        };
        let n = self.contexts[id as usize].attempts.len() as u8;
        // An answered INVITE pursues nobody (§16.7 step 10).
        let answered = self.contexts[id as usize].answered;
        let superseded = body.flags & SUPERSEDED != 0 || answered;
        let proceeding = body.flags & PROCEEDING != 0;
        let (state, due) = match (listened, superseded, proceeding, &grant) {
            (false, ..) => (AttemptState::Done, Time::NEVER),
            (true, true, ..) => (AttemptState::Superseded, Time::NEVER),
            (true, false, true, _) => {
                (AttemptState::Proceeding, io.now + Duration::from_millis(body.due).saturating_sub(waited))
            }
            (true, false, false, Some(grant)) if !doubtful => {
                (AttemptState::Sent, at + grant.terms.first_response_timeout)
            }
            (true, false, false, _) => (AttemptState::Sent, at + self.view.config.timer_c),
        };
        let client = listened.then(|| {
            let begin = if answered { InviteClient::given_up } else { InviteClient::resume };
            let machine = begin(at, &self.transactions.timing, hop.flow.transport.reliable());
            let machine = ClientMachine::Invite(machine);
            self.transactions.open_client(NewClient { machine, branch, cancel: false, owner: id, attempt: n })
        });
        let cancel = if listened && (cancelled || superseded) { Cancel::Wanted } else { Cancel::No };
        let context = &mut self.contexts[id as usize];
        context.clients += u16::from(client.is_some());
        let grant = match listened {
            true => grant,
            false => {
                grant.into_iter().for_each(|grant| io.desk.release(io.now, grant, Outcome::TimedOut));
                None
            }
        };
        let (recorded, pin, over) = (crate::base::Seq(0), body.pin(), false);
        context.attempts.push(Attempt { hop, leg, resource, grant, pin, client, state, cancel, due, recorded, over });
        if answered && listened {
            self.send_cancel(io, id, usize::from(n));
        }
    }

    /// What was refused comes again until it is acknowledged, and the ACK is written from the INVITE (§17.1.1.3).
    fn listen_for_refusals(&mut self, now: Time, id: u32) {
        for n in 0..self.contexts[id as usize].attempts.len() {
            let attempt = &self.contexts[id as usize].attempts[n];
            if attempt.client.is_some() {
                continue;
            }
            let (branch, reliable) = (attempt.hop.branch, attempt.hop.flow.transport.reliable());
            let machine = ClientMachine::Invite(InviteClient::completed(now, &self.transactions.timing, reliable));
            let new = NewClient { machine, branch, cancel: false, owner: id, attempt: n as u8 };
            let client = self.transactions.open_client(new);
            let context = &mut self.contexts[id as usize];
            context.attempts[n].client = Some(client);
            context.clients += 1;
        }
    }

    fn restored_hop(&self, body: &AttemptBody, source: Flow, pops: u8, secure: bool) -> Option<Hop> {
        let flow = self.rehome(body.target.as_ref()?.flow()?)?;
        let facing = self.facing(source, secure);
        let route = Route { authority: body.authority.as_str().into(), flow, stream: None, own: None };
        Some(Hop {
            branch: Branch::literal(&body.branch)?,
            flow,
            out: self.view.identities.by_local(flow.transport, flow.local).unwrap_or(facing),
            source: source.remote,
            kind: HopKind::Initial {
                route: Arc::new(route),
                facing,
                leg: LegId(body.leg),
                resource: ResourceId(body.resource),
                key: body.key as u8,
                pops,
            },
        })
    }

    /// The caller or a resource has shown that this INVITE waits for its answer.
    pub(super) fn dispel(&mut self, now: Time, id: u32) {
        let Some(context) = self.contexts.get_mut(id as usize).filter(|c| c.doubtful) else { return };
        context.doubtful = false;
        for attempt in context.attempts.iter_mut().filter(|a| a.state == AttemptState::Sent) {
            attempt.due = attempt.grant.as_ref().map_or(attempt.due, |g| now + g.terms.first_response_timeout);
        }
        self.arm_context(id);
    }

    /// What its last owner would have done next, had it lived.
    fn go_on(&mut self, io: &mut Io<'_>, id: u32) {
        let context = &self.contexts[id as usize];
        if context.answered || context.is_pursued() {
            return;
        }
        let listened = context.attempts.iter().any(|a| a.client.is_some());
        match (context.cancelled, listened) {
            // Its 487 comes with the last attempt that is still listened to.
            (true, true) => {}
            (true, false) => self.nobody_left(io, id),
            (false, _) => self.next_candidate(io, id, None),
        }
    }

    /// The same way from this node: its own listener, and no connection yet.
    fn rehome(&self, flow: Flow) -> Option<Flow> {
        let identities = &self.view.identities;
        let place = match self.view.shared {
            true => identities.successor(flow.transport, flow.local),
            false => identities.by_local(flow.transport, flow.local),
        };
        let place = identities.get(place?);
        Some(Flow { listener: place.listener, local: place.addr, conn: None, ..flow })
    }

    fn drop_shadow(&mut self, io: &mut Io<'_>, shadow: Shadow) {
        for grant in shadow.grants.into_iter().flatten() {
            io.desk.release(io.now, grant, Outcome::TimedOut);
        }
        shadow.request.into_iter().chain(shadow.joined).for_each(|kept| self.pool.give_back(kept));
    }
}
