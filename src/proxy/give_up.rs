//! Ownership goes to another node: what this one owns becomes what it knows of the other one's calls, as if that had
//! recorded them.

use smallvec::SmallVec;

use crate::balance::Outcome;
use crate::base::{Epoch, NodeId, Version};
use crate::replica::body::{Read, read};
use crate::replica::record::{self, Class};
use crate::session::change::{Answer, Change};

use super::context::{Context, Role};
use super::journal::with_setup;
use super::replicate::HOLDS_PORT;
use super::shadow::{Shadow, Stage};
use super::{Io, Proxy};

impl Proxy {
    /// Everything that this node owns is `to`'s from now on, in its epoch. What was being done here is left to it:
    /// transactions go in silence.
    pub fn give_up(&mut self, io: &mut Io<'_>, to: NodeId, epoch: Epoch) {
        let me = self.view.node;
        self.changed.clear();
        let mut digests = Vec::new();
        for leg in self.legs.iter_mut().filter(|leg| leg.owner == me) {
            let before = leg.version;
            (leg.owner, leg.version.epoch) = (to, epoch);
            if let Some(grant) = &mut leg.grant {
                io.desk.hand_over(io.now, grant);
            }
            digests.push((leg.call, leg.id, before, leg.version));
        }
        for (call, id, before, after) in digests {
            self.digest_leg(me, call, id, before);
            self.digest_leg(to, call, id, after);
        }
        let ids: Vec<u32> = self.contexts.iter().map(|(id, _)| id as u32).collect();
        for id in ids {
            self.hand_over_context(io, id, to, epoch);
        }
        self.coarse.clear();
        for server in self.transactions.clear() {
            server.last.into_iter().for_each(|kept| self.pool.give_back(kept));
        }
    }

    fn hand_over_context(&mut self, io: &mut Io<'_>, id: u32, to: NodeId, epoch: Epoch) {
        let mut context = self.contexts.remove(id as usize);
        self.forget_retries(id, context.retry);
        let held = context.held.take();
        held.into_iter().for_each(|(_, kept)| self.pool.give_back(kept));
        let mut octets = Vec::new();
        if let Role::Initial { invite, call, session, .. } = context.role {
            self.legs.leave(session);
            if context.digested {
                self.digests.toggle(self.view.node, Class::Setup, call.bucket(), invite.0, context.version);
            }
            if context.digested && self.shadows.find_mut(invite).is_none() {
                with_setup(io.now, &context, context.request.as_deref(), Answer::None, |setup| {
                    record::write_body(&Change::Setup(setup), &mut octets);
                });
            }
        }
        let shadow = self.shadow_of(io, &mut context, &octets, to, epoch);
        for attempt in context.attempts {
            attempt.grant.into_iter().for_each(|grant| io.desk.release(io.now, grant, Outcome::TimedOut));
        }
        context.request.into_iter().chain(context.joined).for_each(|kept| self.pool.give_back(kept));
        if let Some(shadow) = shadow {
            self.digests.toggle(to, Class::Setup, shadow.call.bucket(), shadow.invite.0, shadow.version);
            self.shadows.insert(shadow);
        }
    }

    /// A live context as what another node would know of it. Ports and INVITE move along.
    fn shadow_of(
        &mut self,
        io: &mut Io<'_>,
        context: &mut Context,
        octets: &[u8],
        owner: NodeId,
        epoch: Epoch,
    ) -> Option<Shadow> {
        let Role::Initial { invite, call, .. } = context.role else { return None };
        let head = record::Head {
            class: Class::Setup,
            ignorable: false,
            bucket: call.bucket(),
            id: invite.0,
            version: context.version,
        };
        let Read::Setup(mut body) = read(&head, octets).ok().filter(|_| !octets.is_empty())? else {
            return None;
        };
        (body.request, body.joined) = (Vec::new(), Vec::new());
        if self.became_leg(context).is_some() {
            // Whoever has that leg knows the end of this INVITE.
            return None;
        }
        let key = self.transactions.server(context.server?).key();
        let (request, joined, retry) = (Some(context.request.take()?), context.joined.take(), context.retry);
        let mut grants = SmallVec::new();
        for (attempt, body) in context.attempts.iter_mut().zip(&body.attempts) {
            debug_assert_eq!(attempt.grant.is_some(), body.flags & HOLDS_PORT != 0);
            let mut grant = attempt.grant.take();
            if let Some(grant) = &mut grant {
                io.desk.hand_over(io.now, grant);
            }
            grants.push(grant);
        }
        let version = Version { epoch, seq: context.version.seq };
        let (stage, heard) = (Stage::Live, io.now);
        Some(Shadow { invite, call, owner, version, key, retry, stage, request, joined, body, grants, heard })
    }

    /// Whether this node owns calls: it must not be forgotten before somebody else does.
    pub fn owns_calls(&self) -> bool {
        let me = self.view.node;
        self.legs.iter().any(|leg| leg.owner == me) || self.ringing().next().is_some()
    }
}
