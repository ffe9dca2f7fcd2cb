//! Answered legs and the sessions that group them. A leg is one call pinned to one resource and holds one port; a
//! session is the model's unit of profile, tenant and limits, and may span several Call-IDs.
#![forbid(unsafe_code)]

pub mod change;

use std::collections::VecDeque;
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use crate::balance::Grant;
use crate::base::{CallKey, LegId, NodeId, ResourceId, SessionId, Time, Version, index_room, table_hash};

/// An answered call on one resource.
#[derive(Debug)]
pub struct Leg {
    /// Its id, as in its Route token.
    pub id: LegId,
    /// The session it belongs to.
    pub session: SessionId,
    /// Where it lives.
    pub resource: ResourceId,
    /// Its port. Taken out when it ends.
    pub grant: Option<Grant>,
    /// Its Call-ID, for operators.
    pub call_id: SmallVec<[u8; 64]>,
    /// The hash of its Call-ID.
    pub call: CallKey,
    /// The node that writes its records and ends it when its time comes.
    pub owner: NodeId,
    /// Its last record.
    pub version: Version,
    /// Its owner died or gave it away since it was answered.
    pub taken_over: bool,
    /// Its ACK, or anything later, passed this node; a call that another node answered counts as acknowledged.
    pub acknowledged: bool,
    /// When its INVITE came in.
    pub invited: Time,
    /// When it was answered.
    pub answered: Time,
    /// When it was last heard of.
    pub heard: Time,
    /// The deadline that is queued.
    pub queued: Time,
    /// When its session interval ends (RFC 4028); `Time::NEVER` without one.
    pub session_expires: Time,
}

/// Why an answered leg ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndReason {
    /// A BYE was answered (or timed out).
    Bye,
    /// Its Session-Expires passed without a refresh (RFC 4028 §10).
    SessionExpired,
    /// Nothing was heard of it for the inactivity lease.
    Inactive,
    /// No ACK came for its 2xx, and its resource has given up (RFC 3261 §13.3.1.4).
    Unacknowledged,
}

impl Leg {
    /// When the leg ends unless it is heard of, and why then. `unacknowledged`: how long after its 2xx a resource surely
    /// waits for the ACK no more.
    pub fn deadline(&self, inactivity: Duration, unacknowledged: Duration) -> (Time, EndReason) {
        let (silent, reason) = match self.acknowledged {
            true => (self.heard + inactivity, EndReason::Inactive),
            false => (self.answered + unacknowledged.min(inactivity), EndReason::Unacknowledged),
        };
        if self.session_expires <= silent {
            (self.session_expires, EndReason::SessionExpired)
        } else {
            (silent, reason)
        }
    }
}

/// The legs and sessions of one shard. Slot numbers are stable while a leg lives.
#[derive(Debug)]
pub struct Legs {
    legs: Slab<Leg>,
    by_id: HashTable<u32>,
    sessions: Slab<Session>,
    by_session: HashTable<u32>,
    ended: HashTable<Past>,
    /// In the order in which they are forgotten.
    forget: VecDeque<(Time, LegId)>,
    limit: usize,
    seed: u64,
}

/// A leg that has ended.
#[derive(Clone, Copy, Debug)]
struct Past {
    id: LegId,
    forget: Time,
    /// Until when another node that was not told may believe that it lives.
    believed: Time,
    /// Nobody said so: its time had run out here.
    lapsed: bool,
}

/// What is known of a session: how many legs and attempts belong to it.
#[derive(Debug)]
struct Session {
    id: SessionId,
    members: u32,
}

impl Legs {
    /// Room for `limit` legs, set aside at once but for the indexes.
    pub fn new(limit: usize, seed: u64) -> Self {
        Self {
            legs: Slab::with_capacity(limit),
            by_id: HashTable::with_capacity(index_room(limit)),
            sessions: Slab::with_capacity(limit),
            by_session: HashTable::with_capacity(index_room(limit)),
            ended: HashTable::new(),
            forget: VecDeque::new(),
            limit,
            seed,
        }
    }

    /// Whether another leg fits.
    pub fn has_room(&self) -> bool {
        self.legs.len() < self.limit
    }

    /// Adds a leg and joins its session. A leg with this id must not be there.
    pub fn insert(&mut self, leg: Leg) -> u32 {
        let (id, session) = (leg.id, leg.session);
        debug_assert!(self.find(id).is_none(), "a leg is counted once");
        let slot = self.legs.insert(leg) as u32;
        let (legs, seed) = (&self.legs, self.seed);
        self.by_id.insert_unique(hash(seed, id.0), slot, |s| hash(seed, legs[*s as usize].id.0));
        self.join(session);
        slot
    }

    /// The leg with this id.
    pub fn find(&self, id: LegId) -> Option<u32> {
        self.by_id.find(hash(self.seed, id.0), |s| self.legs[*s as usize].id == id).copied()
    }

    /// The leg in a slot, if it is this one.
    pub fn get_mut(&mut self, slot: u32, id: LegId) -> Option<&mut Leg> {
        self.legs.get_mut(slot as usize).filter(|leg| leg.id == id)
    }

    /// The leg with this id.
    pub fn find_mut(&mut self, id: LegId) -> Option<&mut Leg> {
        let slot = self.find(id)?;
        self.legs.get_mut(slot as usize)
    }

    /// Takes a leg out, leaves its session, and remembers the id until `forget` so that no late message revives it, and
    /// while nodes are apart until `believed`, so that no copy does; `lapsed`: its time had run out.
    pub fn remove(&mut self, id: LegId, (forget, believed): (Time, Time), lapsed: bool) -> Option<Leg> {
        let legs = &self.legs;
        let entry = self.by_id.find_entry(hash(self.seed, id.0), |s| legs[*s as usize].id == id).ok()?;
        let leg = self.legs.remove(entry.remove().0 as usize);
        self.leave(leg.session);
        self.remember(Past { id, forget, believed, lapsed });
        Some(leg)
    }

    /// Remembers as [`Legs::remove`] does that a leg has ended that is not known here: an older word of it may still be on
    /// its way.
    pub fn remember_end(&mut self, id: LegId, (forget, believed): (Time, Time)) {
        self.remember(Past { id, forget, believed, lapsed: false });
    }

    /// The same of a call of which no leg is known: nothing but its Call-ID said so.
    pub fn remember_call_end(&mut self, call: CallKey, times: (Time, Time)) {
        self.remember_end(LegId(call.0), times);
    }

    /// Whether a call has ended a short while ago of which no leg was known.
    pub fn has_call_ended(&self, call: CallKey) -> bool {
        self.has_ended(LegId(call.0))
    }

    fn remember(&mut self, past: Past) {
        if self.has_ended(past.id) || self.ended.len() >= self.limit {
            return;
        }
        let seed = self.seed;
        self.ended.insert_unique(hash(seed, past.id.0), past, |past| hash(seed, past.id.0));
        self.forget.push_back((past.forget, past.id));
    }

    /// Whether this leg has ended a short while ago.
    pub fn has_ended(&self, id: LegId) -> bool {
        self.ended.find(hash(self.seed, id.0), |past| past.id == id).is_some()
    }

    /// Another node has heard of a leg that ended here because nothing was heard of it any more: it lives. Whether that
    /// is so.
    pub fn revive(&mut self, id: LegId) -> bool {
        let lapsed = self.ended.find_entry(hash(self.seed, id.0), |past| past.id == id && past.lapsed);
        lapsed.map(hashbrown::hash_table::OccupiedEntry::remove).is_ok()
    }

    /// Ended legs that are remembered.
    pub fn ended(&self) -> impl Iterator<Item = LegId> {
        self.ended.iter().map(|past| past.id)
    }

    /// Forgets the ended legs whose time has come. `apart`: another node may not have been told; those in which it may
    /// believe are looked at again after this time.
    pub fn forget(&mut self, now: Time, apart: Option<Duration>) {
        while let Some(&(due, id)) = self.forget.front().filter(|(due, _)| *due <= now) {
            self.forget.pop_front();
            let found = self.ended.find_entry(hash(self.seed, id.0), |past| past.id == id && past.forget == due);
            let Ok(mut entry) = found else { continue };
            match apart.filter(|_| now < entry.get().believed) {
                Some(again) => {
                    entry.get_mut().forget = now + again;
                    self.forget.push_back((now + again, id));
                }
                None => _ = entry.remove(),
            }
        }
    }

    /// When `forget` has work.
    pub fn next_forget(&self) -> Option<Time> {
        self.forget.front().map(|(due, _)| *due)
    }

    /// A leg or an attempt joins a session; the first one founds it.
    pub fn join(&mut self, id: SessionId) {
        let (sessions, seed) = (&self.sessions, self.seed);
        match self.by_session.find(hash(seed, id.0), |s| sessions[*s as usize].id == id) {
            Some(&slot) => self.sessions[slot as usize].members += 1,
            None => {
                let slot = self.sessions.insert(Session { id, members: 1 }) as u32;
                let sessions = &self.sessions;
                self.by_session.insert_unique(hash(seed, id.0), slot, |s| hash(seed, sessions[*s as usize].id.0));
            }
        }
    }

    /// A leg or an attempt leaves; the last one ends the session.
    pub fn leave(&mut self, id: SessionId) {
        let sessions = &mut self.sessions;
        let found = self.by_session.find_entry(hash(self.seed, id.0), |s| sessions[*s as usize].id == id);
        if let Ok(entry) = found {
            let slot = *entry.get() as usize;
            sessions[slot].members -= 1;
            if sessions[slot].members == 0 {
                entry.remove();
                sessions.remove(slot);
            }
        }
    }

    /// All legs, in slot order, to be changed. Ids stay.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Leg> {
        self.legs.iter_mut().map(|(_, leg)| leg)
    }

    /// All legs, in slot order.
    pub fn iter(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter().map(|(_, leg)| leg)
    }

    /// Legs alive.
    pub fn len(&self) -> usize {
        self.legs.len()
    }

    /// Whether no leg is alive.
    pub fn is_empty(&self) -> bool {
        self.legs.is_empty()
    }

    /// Sessions alive.
    pub fn sessions(&self) -> usize {
        self.sessions.len()
    }

    /// Ended legs still remembered.
    pub fn remembered(&self) -> usize {
        self.ended.len()
    }

    /// Whether indexes and slabs agree.
    pub fn check(&self) -> bool {
        self.by_id.len() == self.legs.len()
            && self.by_session.len() == self.sessions.len()
            && self.ended.len() <= self.forget.len()
            && self.legs.iter().all(|(slot, leg)| self.find(leg.id) == Some(slot as u32) && leg.grant.is_some())
    }
}

fn hash(seed: u64, id: u64) -> u64 {
    table_hash(seed, &id.to_le_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leg(id: u64, session: u64) -> Leg {
        Leg {
            id: LegId(id),
            session: SessionId(session),
            resource: ResourceId(1),
            grant: None,
            call_id: SmallVec::new(),
            call: CallKey(session),
            owner: NodeId(1),
            version: Version::default(),
            taken_over: false,
            acknowledged: true,
            invited: Time::ZERO,
            answered: Time::ZERO,
            heard: Time::ZERO,
            session_expires: Time::NEVER,
            queued: Time::NEVER,
        }
    }

    fn soon(micros: u64) -> (Time, Time) {
        (Time::from_micros(micros), Time::from_micros(micros))
    }

    #[test]
    fn a_session_lives_as_long_as_its_last_leg() {
        let mut legs = Legs::new(4, 1);
        legs.insert(leg(1, 7));
        legs.insert(leg(2, 7));
        assert_eq!((legs.len(), legs.sessions()), (2, 1));
        assert!(legs.remove(LegId(1), soon(10), false).is_some());
        assert_eq!(legs.sessions(), 1);
        assert!(legs.remove(LegId(2), soon(20), false).is_some());
        assert_eq!((legs.len(), legs.sessions(), legs.remembered()), (0, 0, 2));
    }

    #[test]
    fn an_ended_leg_is_remembered_until_its_time() {
        let mut legs = Legs::new(4, 1);
        legs.insert(leg(1, 1));
        legs.remove(LegId(1), soon(10), false);
        assert!(legs.has_ended(LegId(1)));
        legs.forget(Time::from_micros(9), None);
        assert!(legs.has_ended(LegId(1)));
        legs.forget(Time::from_micros(10), None);
        assert!(!legs.has_ended(LegId(1)) && legs.next_forget().is_none());
    }

    #[test]
    fn an_end_that_another_node_may_not_know_is_remembered_while_they_are_apart() {
        let (mut legs, at) = (Legs::new(4, 1), Time::from_micros);
        (1..=3).for_each(|id| _ = legs.insert(leg(id, id)));
        legs.remove(LegId(1), (at(10), at(100)), false);
        legs.remove(LegId(2), (at(11), at(11)), false);
        legs.remove(LegId(3), (at(12), at(30)), false);
        let apart = Some(Duration::from_micros(10));
        legs.forget(at(12), apart);
        assert_eq!([1, 2, 3].map(|id| legs.has_ended(LegId(id))), [true, false, true]);
        legs.forget(at(32), apart);
        assert_eq!([1, 2, 3].map(|id| legs.has_ended(LegId(id))), [true, false, false], "the copy has lapsed there");
        legs.forget(at(41), None);
        assert!(legs.has_ended(LegId(1)), "not at the moment in which they meet");
        legs.forget(at(42), None);
        assert!(legs.remembered() == 0 && legs.next_forget().is_none() && legs.check());
    }

    #[test]
    fn only_a_leg_that_nobody_ended_is_revived() {
        let (mut legs, at) = (Legs::new(4, 1), Time::from_micros);
        legs.insert(leg(1, 1));
        legs.insert(leg(2, 1));
        legs.remove(LegId(1), soon(10), true);
        legs.remove(LegId(2), soon(10), false);
        assert!(legs.revive(LegId(1)) && !legs.revive(LegId(1)) && !legs.revive(LegId(2)));
        assert!(!legs.has_ended(LegId(1)) && legs.has_ended(LegId(2)));
        legs.insert(leg(1, 1));
        legs.remove(LegId(1), soon(20), false);
        legs.forget(at(10), None);
        assert!(legs.has_ended(LegId(1)) && !legs.has_ended(LegId(2)), "its second end counts");
        legs.forget(at(20), None);
        assert!(!legs.has_ended(LegId(1)) && legs.check());
    }

    #[test]
    fn the_end_of_a_leg_that_is_not_known_is_remembered_once() {
        let mut legs = Legs::new(4, 1);
        legs.remember_end(LegId(9), soon(10));
        legs.remember_end(LegId(9), soon(20));
        assert!(legs.has_ended(LegId(9)) && legs.remembered() == 1 && legs.check());
        legs.forget(Time::from_micros(10), None);
        assert!(!legs.has_ended(LegId(9)) && legs.check());
    }

    #[test]
    fn the_nearer_deadline_gives_the_reason() {
        let mut leg = leg(1, 1);
        let deadline = |leg: &Leg| leg.deadline(Duration::from_secs(60), Duration::from_secs(37));
        assert_eq!(deadline(&leg), (Time::from_micros(60_000_000), EndReason::Inactive));
        leg.session_expires = Time::from_micros(5);
        assert_eq!(deadline(&leg), (Time::from_micros(5), EndReason::SessionExpired));
        (leg.session_expires, leg.acknowledged) = (Time::NEVER, false);
        assert_eq!(deadline(&leg), (Time::from_micros(37_000_000), EndReason::Unacknowledged));
    }
}
