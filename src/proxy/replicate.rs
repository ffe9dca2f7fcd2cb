//! What other nodes tell, put into the tables of this one; and what this one owns, for a node that joins.

use smallvec::SmallVec;

use crate::balance::Outcome;
use crate::base::{Bucket, CallKey, InviteId, LegId, NodeId, ResourceId, Seq, SessionId, Time, Version};
use crate::replica::body::{self, LegBody, Read, SetupBody};
use crate::replica::record::{self, Class, Head, Records};
use crate::session::Leg;
use crate::session::change::{Answer, Change, Interval};

use super::context::{Context, Role};
use super::journal::{state_of, with_setup};
use super::shadow::{Shadow, Stage};
use super::{Io, Proxy};

/// Of an INVITE in a record: its caller has given it up.
pub(super) const CANCELLED: u32 = 1;
/// Of an INVITE in a record: it rang.
pub(super) const RANG: u32 = 2;
/// Of an attempt in a record: it holds a port.
pub(super) const HOLDS_PORT: u32 = 1;
/// Of an attempt in a record: a final is still to come.
pub(super) const PENDING: u32 = 2;
/// Of an attempt in a record: given up.
pub(super) const SUPERSEDED: u32 = 4;
/// Of an attempt in a record: a provisional has come.
pub(super) const PROCEEDING: u32 = 8;

impl Proxy {
    /// A record of `owner`. What is older than what is known changes nothing.
    pub fn apply(&mut self, io: &mut Io<'_>, owner: NodeId, head: &Head, read: Read) {
        self.apply_of(io, Word { owner, at: None }, head, read);
    }

    fn apply_of(&mut self, io: &mut Io<'_>, word: Word, head: &Head, read: Read) {
        self.stats.records_applied += 1;
        match read {
            Read::Setup(body) => self.apply_setup(io, word, head, body),
            Read::Gone(call) => self.apply_gone(io, word.owner, head, call),
            Read::Leg(body) => self.apply_leg(io, word, head, &body),
            Read::Ended(_) => self.apply_end(io, LegId(head.id)),
            Read::Heard(interval) => self.apply_heard(io, LegId(head.id), interval),
        }
    }

    fn apply_setup(&mut self, io: &mut Io<'_>, word: Word, head: &Head, mut body: SetupBody) {
        let (invite, owner) = (InviteId(head.id), word.owner);
        let (request, joined) = (std::mem::take(&mut body.request), std::mem::take(&mut body.joined));
        let known = self.shadows.find_mut(invite).map(|shadow| (shadow.owner, shadow.version));
        match known {
            Some(known) if !word.is_news(known, head.version) && !word.is_claimed_since(known) => {
                self.ignored |= known.0 == self.view.node;
                return;
            }
            // An INVITE of which only the end is told has ended for us already, or its snapshot is on its way.
            None if request.is_empty() || !self.shadows.has_room() => return,
            None => {
                let Some((key, retry)) = self.server_key(&request) else { return };
                if self.owns(key, head.version) {
                    self.ignored = true;
                    if !self.asks_elsewhere(key, &mut body) {
                        return;
                    }
                }
                self.shadows.insert(Shadow {
                    invite,
                    call: CallKey(body.call),
                    owner,
                    version: Version::default(),
                    key,
                    retry,
                    stage: Stage::Gone,
                    request: Some(self.pool.keep(&request)),
                    joined: None,
                    body: SetupBody::default(),
                    grants: SmallVec::new(),
                    heard: io.now,
                });
            }
            Some(_) => {}
        }
        self.join_shadow(invite, &joined);
        let stage = match body.status {
            0 => Stage::Live,
            200..300 => Stage::Accepted,
            _ => Stage::Refused,
        };
        self.update_shadow(io, owner, head, body, stage);
    }

    /// Whether this node goes on with that INVITE itself, and later than `version`.
    fn owns(&self, key: u128, version: Version) -> bool {
        let server = self.transactions.find_server(key).map(|id| self.transactions.server(id));
        server.filter(|server| !server.by_answer).is_some_and(|server| {
            let later = |context: &Context| context.version >= version || self.view.epoch > version.epoch;
            self.contexts.get(server.owner as usize).is_none_or(later)
        })
    }

    /// Whether the other node asks somebody whom this one does not, for an INVITE that both took: that is to be cancelled
    /// once it is this node's. The others are not pending any more.
    fn asks_elsewhere(&mut self, key: u128, body: &mut SetupBody) -> bool {
        let own = self.transactions.find_server(key).map(|id| self.transactions.server(id).owner);
        let own = own.and_then(|owner| self.contexts.get(owner as usize));
        let attempts = own.map_or(&[][..], |context| &context.attempts);
        for theirs in &mut body.attempts {
            let asked = attempts.iter().any(|own| own.hop.branch.as_bytes() == theirs.branch);
            let leg = self.legs.find_mut(LegId(theirs.leg));
            if asked || leg.is_some_and(|leg| leg.resource == ResourceId(theirs.resource)) {
                theirs.flags &= !(PENDING | HOLDS_PORT);
            }
        }
        body.attempts.iter().any(|attempt| attempt.flags & PENDING != 0)
    }

    fn update_shadow(&mut self, io: &mut Io<'_>, owner: NodeId, head: &Head, body: SetupBody, stage: Stage) {
        let forget = io.now + self.transactions.timing.t1x64();
        let Some(shadow) = self.shadows.find_mut(InviteId(head.id)) else { return };
        let before = (shadow.owner, shadow.version, shadow.stage);
        // A port that an attempt holds in both records stays; the sets differ by little.
        let mut old: SmallVec<[_; 1]> = std::mem::take(&mut shadow.grants);
        for attempt in &body.attempts {
            let held = old.iter_mut().find(|g| g.as_ref().is_some_and(|g| g.leg.0 == attempt.leg));
            let grant = match attempt.flags & HOLDS_PORT {
                0 => None,
                _ => held.and_then(Option::take).or_else(|| {
                    let (resource, leg) = (ResourceId(attempt.resource), LegId(attempt.leg));
                    Some(io.desk.shadow(io.now, resource, leg, attempt.pin()))
                }),
            };
            shadow.grants.push(grant);
        }
        for grant in old.into_iter().flatten() {
            io.desk.release(io.now, grant, Outcome::Completed);
        }
        (shadow.owner, shadow.version, shadow.stage) = (owner, head.version, stage);
        (shadow.body, shadow.heard) = (body, io.now);
        if stage != Stage::Live {
            if before.2 == Stage::Live || before.1 == Version::default() {
                self.shadows.forget_at(forget, InviteId(head.id));
            }
            // A CANCEL may still have to be written from it, or the ACK to what was refused.
            let over =
                |s: &&mut Shadow| s.stage != Stage::Refused && s.body.attempts.iter().all(|a| a.flags & PENDING == 0);
            let request = self.shadows.find_mut(InviteId(head.id)).filter(over).and_then(|s| s.request.take());
            request.into_iter().for_each(|kept| self.pool.give_back(kept));
        }
        if before.2 == Stage::Live {
            self.digests.toggle(before.0, Class::Setup, head.bucket, head.id, before.1);
        }
        if stage == Stage::Live {
            self.digests.toggle(owner, Class::Setup, head.bucket, head.id, head.version);
        }
    }

    fn apply_gone(&mut self, io: &mut Io<'_>, owner: NodeId, head: &Head, call: CallKey) {
        let known = self.shadows.find_mut(InviteId(head.id)).map(|shadow| shadow.version);
        if known.is_some_and(|version| version < head.version) {
            let body = SetupBody { call: call.0, ..SetupBody::default() };
            self.update_shadow(io, owner, head, body, Stage::Gone);
        }
    }

    fn apply_leg(&mut self, io: &mut Io<'_>, word: Word, head: &Head, body: &LegBody) {
        let (id, now, owner) = (LegId(head.id), io.now, word.owner);
        let over = self.legs.has_ended(id) && !self.legs.revive(id);
        if over || self.legs.has_call_ended(CallKey(body.call)) {
            // Ended beats live, whatever its version: its owner has not heard of it.
            self.record_end(io, CallKey(body.call), id);
            return;
        }
        let expires = match body.expires {
            0 => Time::NEVER,
            millis => now + std::time::Duration::from_millis(millis - 1),
        };
        if let Some(leg) = self.legs.find_mut(id) {
            if !word.is_news((leg.owner, leg.version), head.version) {
                if leg.owner != owner && leg.version.seq < head.version.seq {
                    // A refresh that its last owner heard and could not tell any more.
                    leg.session_expires = leg.session_expires.max(expires);
                }
                return;
            }
            let before = (leg.owner, leg.version);
            let lost = before.0 == self.view.node && owner != before.0;
            (leg.owner, leg.version) = (owner, head.version);
            (leg.session_expires, leg.heard) = (expires, now);
            leg.taken_over |= lost;
            if leg.resource != ResourceId(body.resource) {
                // Two nodes that did not hear each other asked two resources for one INVITE, and gave both dialogs one id.
                leg.resource = ResourceId(body.resource);
                let before = leg.grant.replace(io.desk.shadow(now, leg.resource, id, body.pin()));
                before.into_iter().for_each(|grant| io.desk.release(now, grant, Outcome::Completed));
            } else if lost && let Some(grant) = &mut leg.grant {
                io.desk.hand_over(now, grant);
            }
            let call = leg.call;
            self.digest_leg(before.0, call, id, before.1);
            self.digest_leg(owner, call, id, head.version);
            return learn_hosts(io, body);
        }
        if !self.legs.has_room() {
            self.stats.records_without_room += 1;
            return;
        }
        let grant = io.desk.shadow(now, ResourceId(body.resource), id, body.pin());
        learn_hosts(io, body);
        let ago = |millis: u64| now - std::time::Duration::from_millis(millis);
        self.insert_leg(Leg {
            id,
            session: SessionId(body.session),
            resource: ResourceId(body.resource),
            grant: Some(grant),
            call_id: SmallVec::from_slice(&body.call_id),
            call: CallKey(body.call),
            owner,
            version: head.version,
            taken_over: false,
            acknowledged: true,
            invited: ago(body.invited),
            answered: ago(body.answered),
            heard: now,
            queued: Time::NEVER,
            session_expires: expires,
        });
    }

    /// A leg ended elsewhere. Whoever ended it has told so; here its port returns in silence.
    fn apply_end(&mut self, io: &mut Io<'_>, id: LegId) {
        self.forget_leg(io, id);
    }

    /// Another node has handled a message of a leg.
    fn apply_heard(&mut self, io: &mut Io<'_>, id: LegId, interval: Interval) {
        let Some(leg) = self.legs.find_mut(id) else { return };
        leg.heard = io.now;
        match interval {
            Interval::Same => return,
            Interval::None => leg.session_expires = Time::NEVER,
            Interval::EndsIn(left) => leg.session_expires = io.now + left,
        }
        self.arm_leg(io.now, id);
        self.record_leg(io, id, &[]);
    }

    /// Takes a leg out because another node said so.
    fn forget_leg(&mut self, io: &mut Io<'_>, id: LegId) {
        let forget = io.now + self.transactions.timing.t1x64();
        let times = (forget, forget);
        let Some(leg) = self.legs.remove(id, times, false) else { return self.legs.remember_end(id, times) };
        self.digest_leg(leg.owner, leg.call, id, leg.version);
        if let Some(grant) = leg.grant {
            io.desk.release(io.now, grant, Outcome::Completed);
        }
    }

    /// Everything live of `owner` in `bucket` that the whole list of it does not name and that is no younger than the
    /// list has ended, unheard by us.
    pub fn prune(&mut self, io: &mut Io<'_>, owner: NodeId, bucket: Bucket, at: Version, named: &[(Class, u64)]) {
        let absent = |class, id, version| version <= at && !named.contains(&(class, id));
        let legs: Vec<LegId> = self
            .legs
            .iter()
            .filter(|l| l.owner == owner && l.call.bucket() == bucket && absent(Class::Leg, l.id.0, l.version))
            .map(|l| l.id)
            .collect();
        legs.into_iter().for_each(|id| self.forget_leg(io, id));
        let invites = self.shadows.ids(|s| {
            let live = s.stage == Stage::Live && s.owner == owner && s.call.bucket() == bucket;
            live && absent(Class::Setup, s.invite.0, s.version)
        });
        for invite in invites {
            let Some(shadow) = self.shadows.find_mut(invite) else { continue };
            let (owner, version, call) = (shadow.owner, shadow.version, shadow.call);
            let head = Head { class: Class::Gone, ignorable: false, bucket, id: invite.0, version };
            let body = SetupBody { call: call.0, ..SetupBody::default() };
            self.update_shadow(io, owner, &head, body, Stage::Gone);
        }
    }

    /// Appends all that this node owns in `bucket`, and the legs that have ended there; how many records.
    pub fn write_bucket(&self, now: Time, bucket: Bucket, payload: &mut Vec<u8>) -> usize {
        let me = self.view.node;
        let mut count = 0;
        let mut put = |change: &Change<'_>, version: Version| {
            count += 1;
            Head { version, ..record::head(change) }.write(payload, |out| record::write_body(change, out));
        };
        for leg in self.legs.iter().filter(|l| l.owner == me && l.call.bucket() == bucket) {
            put(&Change::Leg(state_of(leg, now)), leg.version);
        }
        for (_, context) in self.contexts.iter() {
            match context.role {
                Role::Initial { call, .. } if context.digested && call.bucket() == bucket => {
                    let version = context.version;
                    let request = context.request.as_deref();
                    with_setup(now, context, request, Answer::None, |setup| put(&Change::Setup(setup), version));
                }
                _ => {}
            }
        }
        count
    }

    /// Whether a record was ignored, because this node goes on with its INVITE itself; says so once. What became of that
    /// INVITE here is not known to its writer then.
    pub fn take_ignored(&mut self) -> bool {
        std::mem::take(&mut self.ignored)
    }

    /// The digest of what `owner` has in `bucket`, as this node knows it.
    pub fn digest(&self, owner: NodeId, bucket: Bucket) -> u64 {
        self.digests.of(owner, bucket)
    }

    /// Reads one wanted bucket: records, then what they do not name is pruned.
    pub fn apply_bucket(
        &mut self,
        io: &mut Io<'_>,
        owner: NodeId,
        bucket: Bucket,
        at: Version,
        records: &[u8],
    ) -> bool {
        let mut named = Vec::new();
        for record in Records::bare(records) {
            let Ok((head, octets)) = record else { return false };
            let Ok(read) = body::read(&head, octets) else { return false };
            named.push((head.class, head.id));
            self.apply_of(io, Word { owner, at: Some(at) }, &head, read);
        }
        self.prune(io, owner, bucket, at, &named);
        true
    }

    /// What is left of shadows whose time has come.
    pub(super) fn forget_shadows(&mut self, io: &mut Io<'_>) {
        let again = self.transactions.timing.t1x64();
        while let Some(invite) = self.shadows.pop_forgotten(io.now) {
            let Some(shadow) = self.shadows.find_mut(invite) else { continue };
            let own = shadow.stage == Stage::Gone && shadow.owner == self.view.node;
            if own && self.apart.is(io.now, again) && io.now.since(shadow.heard) < self.view.config.inactivity {
                self.shadows.forget_at(io.now + again, invite);
                continue;
            }
            if shadow.stage == Stage::Live {
                continue;
            }
            let Some(shadow) = self.shadows.remove(invite) else { continue };
            for grant in shadow.grants.into_iter().flatten() {
                io.desk.release(io.now, grant, Outcome::TimedOut);
            }
            shadow.request.into_iter().for_each(|kept| self.pool.give_back(kept));
        }
    }

    /// The highest position of a record of `owner` that is known here.
    pub fn seen(&self, owner: NodeId) -> Seq {
        let legs = self.legs.iter().filter(|l| l.owner == owner).map(|l| l.version.seq);
        legs.chain(self.shadows.iter().filter(|s| s.owner == owner).map(|s| s.version.seq)).max().unwrap_or_default()
    }
}

/// Whose word a record is.
#[derive(Clone, Copy)]
struct Word {
    owner: NodeId,
    /// It is one of all that he says at this position. What is known as his up to there and is another one was never his:
    /// whoever knew it gave it to him with what he had not heard of yet.
    at: Option<Version>,
}

impl Word {
    /// Whether this changes what is `known`: owner and version.
    fn is_news(self, known: (NodeId, Version), version: Version) -> bool {
        let taken_over = |at: Version| known.0 == self.owner && known.1 != version && known.1 <= at;
        known.1 < version || self.at.is_some_and(taken_over)
    }

    /// Whether it is what he has under a claim that is newer than what is `known` of the same thing: owner and version.
    fn is_claimed_since(self, known: (NodeId, Version)) -> bool {
        known.0 != self.owner && self.at.is_some_and(|at| known.1.epoch < at.epoch)
    }
}

fn learn_hosts(io: &Io<'_>, body: &LegBody) {
    for host in body.hosts() {
        io.desk.learn(ResourceId(body.resource), &host, 0);
    }
}
