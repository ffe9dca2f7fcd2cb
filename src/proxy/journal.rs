//! Writes down what changed, so that another node can carry on. What is written is always the whole state of one thing.

use smallvec::SmallVec;

use crate::base::{CallKey, Host, InviteId, LegId, NodeId, Seq, Time, Version};
use crate::replica::body::SetupBody;
use crate::replica::record::Class;
use crate::session::Leg;
use crate::session::change::{Answer, AttemptState as AttemptRecord, Change, Interval, LegState, Setup};

use super::context::{Attempt, AttemptState, Cancel, Context, Role};
use super::forward::HopKind;
use super::shadow::{Shadow, Stage};
use super::{Io, Proxy};

impl Proxy {
    /// Something of a context changed; it is recorded before this call into the proxy ends.
    pub(super) fn note(&mut self, id: u32) {
        let Some(context) = self.contexts.get_mut(id as usize) else { return };
        if !context.changed && matches!(context.role, Role::Initial { .. }) {
            context.changed = true;
            self.changed.push(id);
        }
    }

    /// Records what was noted and not recorded since.
    pub(super) fn record_noted(&mut self, io: &mut Io<'_>) {
        while let Some(id) = self.changed.pop() {
            if self.contexts.get(id as usize).is_some_and(|c| c.changed) {
                self.record_setup(io, id, None, Answer::None);
            }
        }
    }

    /// Records an INVITE and what became of it. `request`: its octets, while they are lent out of the context. `answer`:
    /// what its caller is told with this; what he was told before need not be repeated.
    pub(super) fn record_setup(&mut self, io: &mut Io<'_>, id: u32, request: Option<&[u8]>, answer: Answer<'_>) -> Seq {
        let context = &mut self.contexts[id as usize];
        context.changed = false;
        let Role::Initial { .. } = context.role else { return Seq(0) };
        let live = !context.answered && answer == Answer::None;
        let version = if !io.gate.is_recording() {
            io.gate.skip()
        } else if context.answered && answer == Answer::None {
            // Its caller has his answer; ports of attempts that are not over yet return without a survivor, too.
            return context.version.seq;
        } else {
            // The first record is the one without a version.
            let whole = !io.gate.is_synced() || context.version == Version::default();
            let request = request.or(context.request.as_deref()).filter(|_| whole);
            with_setup(io.now, context, request, answer, |setup| io.gate.record(&Change::Setup(setup)))
        };
        self.digest_setup(id, version, live);
        if !live {
            self.remember_gone(io.now, id);
        }
        version.seq
    }

    /// An INVITE is over here. While the nodes are apart the other one may go on with it: what it says of it later must not
    /// bring it back.
    fn remember_gone(&mut self, now: Time, id: u32) {
        let Context { version, received, role: Role::Initial { invite, call, .. }, .. } = self.contexts[id as usize]
        else {
            return;
        };
        let forget = self.transactions.timing.t1x64();
        let believed = self.apart.is(now, forget) && received <= self.apart.since;
        if !believed || !self.shadows.has_room() || self.shadows.find_mut(invite).is_some() {
            return;
        }
        let (body, grants) = (SetupBody { call: call.0, ..SetupBody::default() }, SmallVec::new());
        let (owner, stage) = (self.view.node, Stage::Gone);
        self.shadows.insert(Shadow {
            invite,
            call,
            owner,
            version,
            key: 0,
            retry: 0,
            stage,
            request: None,
            joined: None,
            body,
            grants,
            heard: now,
        });
        self.shadows.forget_at(now + forget, invite);
    }

    /// An INVITE was answered or is gone: nothing of it lives.
    pub(super) fn digest_setup(&mut self, id: u32, version: Version, live: bool) {
        let context = &mut self.contexts[id as usize];
        let Role::Initial { invite, call, .. } = context.role else { return };
        let me = self.view.node;
        if context.digested {
            self.digests.toggle(me, Class::Setup, call.bucket(), invite.0, context.version);
        }
        context.version = version;
        context.digested = live;
        if live {
            self.digests.toggle(me, Class::Setup, call.bucket(), invite.0, version);
        }
    }

    /// A context is about to go; tells the peer, if it does not know yet that nothing is left to do.
    pub(super) fn record_gone(&mut self, io: &mut Io<'_>, context: &Context) {
        let Role::Initial { invite, call, .. } = context.role else { return };
        if !context.digested {
            return;
        }
        self.digests.toggle(self.view.node, Class::Setup, call.bucket(), invite.0, context.version);
        io.gate.record(&Change::Gone { call, invite });
    }

    /// Records a leg; the position of the record.
    pub(super) fn record_leg(&mut self, io: &mut Io<'_>, id: LegId, hosts: &[Host<'_>]) -> Seq {
        let now = io.now;
        // One writer: what another node owns, it records.
        let Some(leg) = self.legs.find_mut(id).filter(|leg| leg.owner == self.view.node) else { return Seq(0) };
        let version = match io.gate.is_recording() {
            true => io.gate.record(&Change::Leg(LegState { hosts, ..state_of(leg, now) })),
            false => io.gate.skip(),
        };
        let before = std::mem::replace(&mut leg.version, version);
        let (owner, call) = (leg.owner, leg.call);
        self.digest_leg(owner, call, id, before);
        self.digest_leg(owner, call, id, version);
        version.seq
    }

    /// Records the end of a leg, whether this node knew it or not.
    pub(super) fn record_end(&mut self, io: &mut Io<'_>, call: CallKey, leg: LegId) -> Seq {
        io.gate.record(&Change::Ended { call, leg }).seq
    }

    /// Tells the owner of a leg that it was heard of here.
    pub(super) fn tell_heard(&mut self, io: &mut Io<'_>, id: LegId, interval: Interval) {
        let Some(beside) = self.view.beside else { return };
        if let Some(call) = self.legs.find_mut(id).filter(|leg| leg.owner == beside).map(|leg| leg.call) {
            io.gate.record(&Change::Heard { call, leg: id, interval });
        }
    }

    /// Records the end of a leg that this node knows.
    pub(super) fn record_end_of(&mut self, io: &mut Io<'_>, id: LegId) {
        if let Some(call) = self.legs.find_mut(id).map(|leg| leg.call) {
            self.record_end(io, call, id);
        }
    }

    /// A leg came into being or went: its digest.
    pub(super) fn digest_leg(&mut self, owner: NodeId, call: CallKey, leg: LegId, version: Version) {
        self.digests.toggle(owner, Class::Leg, call.bucket(), leg.0, version);
    }
}

/// A leg as a value.
pub(super) fn state_of(leg: &Leg, now: Time) -> LegState<'_> {
    LegState {
        leg: leg.id,
        call: leg.call,
        session: leg.session,
        resource: leg.resource,
        call_id: &leg.call_id,
        invited: now.since(leg.invited),
        answered: now.since(leg.answered),
        expires_in: (leg.session_expires != Time::NEVER).then(|| leg.session_expires.since(now)),
        hosts: &[],
        pin: leg.grant.as_ref().and_then(|grant| grant.pin),
    }
}

/// Lends an initial context as a value.
pub(super) fn with_setup<R>(
    now: Time,
    context: &Context,
    request: Option<&[u8]>,
    answer: Answer<'_>,
    f: impl FnOnce(Setup<'_>) -> R,
) -> R {
    let Role::Initial { invite, call, session, pops, service } = context.role else {
        unreachable!("only initial INVITEs are lent");
    };
    let attempts: SmallVec<[AttemptRecord<'_>; 4]> = context.attempts.iter().map(|a| attempt(now, a)).collect();
    f(Setup {
        invite,
        call,
        request,
        joined: context.joined.as_deref(),
        source: context.source,
        upstream: context.upstream,
        session,
        pops,
        service,
        age: now.since(context.received),
        cancelled: context.cancelled,
        rang: context.rang,
        answer,
        attempts: &attempts,
    })
}

fn attempt(now: Time, attempt: &Attempt) -> AttemptRecord<'_> {
    let (authority, key) = match &attempt.hop.kind {
        HopKind::Initial { route, key, .. } => (&*route.authority, *key),
        HopKind::InDialog { .. } => ("", 0),
    };
    AttemptRecord {
        leg: attempt.leg,
        resource: attempt.resource,
        branch: attempt.hop.branch.as_bytes(),
        target: attempt.hop.flow,
        authority,
        key,
        holds_port: attempt.grant.is_some(),
        pending: attempt.state != AttemptState::Done,
        superseded: attempt.state == AttemptState::Superseded || attempt.cancel != Cancel::No,
        proceeding: attempt.state == AttemptState::Proceeding,
        due_in: attempt.due.since(now),
        pin: attempt.pin,
    }
}

/// The id of an INVITE, alike on every node.
pub(super) fn invite_id(first_leg: LegId) -> InviteId {
    InviteId(first_leg.0)
}
