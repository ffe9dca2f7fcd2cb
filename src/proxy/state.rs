//! What one shard holds: all that happens per call is about these tables.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashTable;
use slab::Slab;

use crate::base::{LegId, Time, index_room};
use crate::replica::digest::Digests;
use crate::session::Legs;
use crate::sip::{Edits, Index};
use crate::transaction::Transactions;
use crate::transaction::kept::Pool;
use crate::transaction::timer::{Queue, Timing};

use super::context::Context;
use super::marks::Marks;
use super::shadow::Shadows;
use super::stats::Stats;
use super::view::View;

/// All that happens per call, for the calls of one shard.
pub struct Proxy {
    pub(super) view: Arc<View>,
    pub(super) transactions: Transactions,
    pub(super) contexts: Slab<Context>,
    /// Contexts of new calls, by what their INVITE has in common with its repetition in another transaction.
    pub(super) by_retry: HashTable<u32>,
    pub(super) legs: Legs,
    pub(super) apart: Apart,
    pub(super) pool: Pool,
    pub(super) coarse: Queue<Coarse>,
    pub(super) scratch: Option<Box<Scratch>>,
    /// Index of a kept request that is written again.
    pub(super) spare: Option<Box<Index>>,
    /// Index of a held response.
    pub(super) spare_response: Option<Box<Index>>,
    /// A record was ignored, because this node goes on with its INVITE itself.
    pub(super) ignored: bool,
    pub(super) digests: Digests,
    /// Transactions of re-INVITEs that another node has.
    pub(super) marks: Marks,
    /// Calls that others set up.
    pub(super) shadows: Shadows,
    /// Contexts that changed during this call into the proxy.
    pub(super) changed: Vec<u32>,
    pub(super) serial: u32,
    /// Plain counters since the start.
    pub stats: Stats,
}

/// Whether the peer may not know which calls have ended here.
#[derive(Clone, Copy, Debug)]
pub(super) struct Apart {
    /// When the nodes parted last, or `NEVER` while they can tell each other: what began later only this one knows.
    pub(super) since: Time,
    /// Until when they count as apart: a moment longer than they are, for words that are still on their way.
    until: Time,
}

impl Apart {
    /// Nobody else has ever known of a call.
    pub(super) fn alone() -> Self {
        Self { since: Time::ZERO, until: Time::ZERO }
    }

    /// What the hub says now.
    pub(super) fn look(&mut self, now: Time, view: &View) {
        if view.armed {
            self.until = self.until.min(now);
            self.since = Time::NEVER;
        } else if view.peer.is_some() {
            self.until = Time::NEVER;
            // What is told is known there, be it that it could not take over.
            self.since = if view.linked { Time::NEVER } else { self.since.min(now) };
        }
    }

    /// Whether they are apart, or were within `moment`.
    pub(super) fn is(&self, now: Time, moment: Duration) -> bool {
        self.until == Time::NEVER || now < self.until + moment
    }
}

/// Reused by every message, so that none allocates.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) edits: Edits,
    /// Index of a message that was just written.
    pub(super) written: Index,
    /// A message that is only written to derive another one from it.
    pub(super) octets: Vec<u8>,
}

/// A coarse deadline: of a response context or of a leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Coarse {
    /// Slot and serial of a context.
    Context(u32, u32),
    /// A leg.
    Leg(LegId),
}

impl Proxy {
    /// One of `shards` shards, with room for `transactions` and `legs`.
    pub fn new(view: Arc<View>, shards: usize, transactions: usize, legs: usize, seed: u64) -> Self {
        let timing = Timing { t1: view.config.t1, t2: view.config.t2, t4: view.config.t4 };
        Self {
            view,
            transactions: Transactions::new(timing, transactions, seed),
            contexts: Slab::with_capacity(transactions),
            by_retry: HashTable::with_capacity(index_room(transactions)),
            legs: Legs::new(legs, seed),
            apart: Apart::alone(),
            pool: Pool::default(),
            coarse: Queue::default(),
            scratch: None,
            spare: None,
            spare_response: None,
            ignored: false,
            digests: Digests::new(shards),
            marks: Marks::default(),
            shadows: Shadows::new(transactions, seed),
            changed: Vec::new(),
            serial: 0,
            stats: Stats::default(),
        }
    }
}
