//! What is known of calls that another node sets up: enough to go on with them, nothing that acts.

use std::collections::VecDeque;

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use crate::balance::Grant;
use crate::base::{CallKey, InviteId, NodeId, Time, Version, index_room, table_hash};
use crate::replica::body::SetupBody;
use crate::transaction::kept::Kept;

/// An initial INVITE of another node.
#[derive(Debug)]
pub struct Shadow {
    /// Which.
    pub invite: InviteId,
    /// The hash of its Call-ID.
    pub call: CallKey,
    /// Who acts for it.
    pub owner: NodeId,
    /// Its last record.
    pub version: Version,
    /// The key of its server transaction here.
    pub key: u128,
    /// What it has in common with its repetition in another transaction; 0: nothing.
    pub retry: u64,
    /// What its caller was told.
    pub stage: Stage,
    /// The INVITE as received, while it may still have to be written.
    pub request: Option<Kept>,
    /// The INVITE again in the transaction that is answered, if that is not the first one's.
    pub joined: Option<Kept>,
    /// The rest of the record.
    pub body: SetupBody,
    /// The ports of its attempts, in their order.
    pub grants: SmallVec<[Option<Grant>; 1]>,
    /// When the record came.
    pub heard: Time,
}

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Nothing final.
    Live,
    /// A 300-699, which stands in the record.
    Refused,
    /// A 2xx.
    Accepted,
    /// It is over; remembered, so that an old record does not bring it back.
    Gone,
}

/// The shadows of one shard.
#[derive(Debug)]
pub struct Shadows {
    slab: Slab<Shadow>,
    by_invite: HashTable<u32>,
    /// By the key of the server transaction that it would have here.
    by_key: HashTable<u32>,
    /// By what its repetition in another transaction has in common with it.
    by_retry: HashTable<u32>,
    /// In the order in which those that are not live are forgotten.
    forget: VecDeque<(Time, InviteId)>,
    limit: usize,
    seed: u64,
}

impl Shadows {
    /// Room for `limit` shadows, which is set aside when it is needed.
    pub fn new(limit: usize, seed: u64) -> Self {
        let by_invite = HashTable::with_capacity(index_room(limit).min(64));
        let by_key = HashTable::with_capacity(index_room(limit).min(64));
        let by_retry = HashTable::with_capacity(index_room(limit).min(64));
        Self { slab: Slab::new(), by_invite, by_key, by_retry, forget: VecDeque::new(), limit, seed }
    }

    /// Whether another one fits.
    pub fn has_room(&self) -> bool {
        self.slab.len() < self.limit
    }

    /// The shadow of an INVITE.
    pub fn find_mut(&mut self, invite: InviteId) -> Option<&mut Shadow> {
        let slot = *self.by_invite.find(hash(self.seed, invite), |s| self.slab[*s as usize].invite == invite)?;
        self.slab.get_mut(slot as usize)
    }

    /// The shadow whose INVITE has a server transaction of this key.
    pub fn find_by_key(&self, key: u128) -> Option<&Shadow> {
        let slot = *self.by_key.find(key as u64, |s| self.slab[*s as usize].key == key)?;
        self.slab.get(slot as usize)
    }

    /// The shadow of an INVITE that this one repeats.
    pub fn find_by_retry(&self, retry: u64) -> Option<&Shadow> {
        let same = |s: &u32| self.slab[*s as usize].retry == retry && self.slab[*s as usize].stage == Stage::Live;
        self.slab.get(*self.by_retry.find(retry, same)? as usize)
    }

    /// The INVITE again in the transaction of this key is the one that is answered; the octets that stood in its place.
    pub fn join(&mut self, invite: InviteId, key: u128, joined: Kept) -> Option<Kept> {
        let slab = &self.slab;
        let slot = *self.by_invite.find(hash(self.seed, invite), |s| slab[*s as usize].invite == invite)?;
        if let Ok(entry) = self.by_key.find_entry(slab[slot as usize].key as u64, |s| *s == slot) {
            entry.remove();
        }
        let shadow = &mut self.slab[slot as usize];
        shadow.key = key;
        let before = shadow.joined.replace(joined);
        let slab = &self.slab;
        self.by_key.insert_unique(key as u64, slot, |s| slab[*s as usize].key as u64);
        before
    }

    /// Adds a shadow. One of this INVITE must not be there.
    pub fn insert(&mut self, shadow: Shadow) {
        let (invite, key, retry) = (shadow.invite, shadow.key, shadow.retry);
        let slot = self.slab.insert(shadow) as u32;
        let (slab, seed) = (&self.slab, self.seed);
        self.by_invite.insert_unique(hash(seed, invite), slot, |s| hash(seed, slab[*s as usize].invite));
        // A fingerprint needs no hash. What is only remembered as gone has none.
        if key != 0 {
            self.by_key.insert_unique(key as u64, slot, |s| slab[*s as usize].key as u64);
        }
        if retry != 0 {
            self.by_retry.insert_unique(retry, slot, |s| slab[*s as usize].retry);
        }
    }

    /// Takes a shadow out.
    pub fn remove(&mut self, invite: InviteId) -> Option<Shadow> {
        let slab = &self.slab;
        let entry = self.by_invite.find_entry(hash(self.seed, invite), |s| slab[*s as usize].invite == invite).ok()?;
        let slot = entry.remove().0;
        let shadow = self.slab.remove(slot as usize);
        if let Ok(entry) = self.by_key.find_entry(shadow.key as u64, |s| *s == slot) {
            entry.remove();
        }
        if let Ok(entry) = self.by_retry.find_entry(shadow.retry, |s| *s == slot) {
            entry.remove();
        }
        Some(shadow)
    }

    /// One that is not live any more will be forgotten at `due`.
    pub fn forget_at(&mut self, due: Time, invite: InviteId) {
        self.forget.push_back((due, invite));
    }

    /// The next one whose time has come.
    pub fn pop_forgotten(&mut self, now: Time) -> Option<InviteId> {
        self.forget.front().filter(|(due, _)| *due <= now)?;
        self.forget.pop_front().map(|(_, invite)| invite)
    }

    /// When [`Shadows::pop_forgotten`] has work.
    pub fn next_forget(&self) -> Option<Time> {
        self.forget.front().map(|(due, _)| *due)
    }

    /// The INVITEs of those that `which` picks.
    pub fn ids(&self, which: impl Fn(&Shadow) -> bool) -> Vec<InviteId> {
        self.slab.iter().filter(|(_, s)| which(s)).map(|(_, s)| s.invite).collect()
    }

    /// All shadows.
    pub fn iter(&self) -> impl Iterator<Item = &Shadow> {
        self.slab.iter().map(|(_, s)| s)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.slab.len()
    }

    /// Whether index and slab agree.
    pub fn check(&self) -> bool {
        let keyed = self.slab.iter().filter(|(_, s)| s.key != 0).count();
        let repeatable = self.slab.iter().filter(|(_, s)| s.retry != 0).count();
        (self.by_invite.len(), self.by_key.len(), self.by_retry.len()) == (self.slab.len(), keyed, repeatable)
    }
}

fn hash(seed: u64, invite: InviteId) -> u64 {
    table_hash(seed, &invite.0.to_le_bytes())
}
