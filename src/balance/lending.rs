//! Where every node serves, each limit is split between them, and what one does not need it lends: capacity goes where calls
//! come, and no port is spent twice.

use std::time::Duration;

use super::escrow::Shares;
use super::tokens::{Entry, Merged, Tokens, Want, Wants};
use crate::base::{NodeId, ResourceId, Time};

/// Resources between which loans are remembered, those that left the configuration included.
const ROOM: usize = 16_384;
/// A request that could not be met stands for so long: whoever still needs ports asks again.
const STANDS: Duration = Duration::from_secs(1);
/// A node asks for ports of one resource at most so often, unless it has fewer than when it asked.
const AGAIN: Duration = Duration::from_millis(20);

/// What this node lends and borrows.
#[derive(Debug)]
pub struct Lending {
    pub(super) tokens: Tokens,
    /// How each limit is split where nothing was lent.
    pub(super) shares: Shares,
    pub(super) wants: Wants,
    /// Whom it lends to and borrows from.
    pub(super) peer: NodeId,
    /// All that the peer knows of loans was heard since this process started: before, nobody knows what it had lent.
    heard: bool,
    /// Resources of which ports are needed.
    asks: Vec<ResourceId>,
    /// Resources of which loans are to be told.
    news: Vec<ResourceId>,
    /// When ports were asked for last, by resource, and how many were free then.
    asked: Vec<(ResourceId, Time, u32)>,
}

impl Lending {
    /// Between `me` and `peer`, of which nothing was heard yet.
    pub fn new(me: NodeId, peer: NodeId) -> Self {
        Self {
            tokens: Tokens::new(me, vec![me, peer], ROOM),
            shares: Shares::equal(me, peer),
            wants: Wants::new(ROOM, STANDS),
            peer,
            heard: false,
            asks: Vec::new(),
            news: Vec::new(),
            asked: Vec::new(),
        }
    }

    /// How many ports `node` may have in use: its floor, more or less what was lent. None before the peer was heard.
    pub fn allowance(&self, resource: ResourceId, node: NodeId, limit: u32) -> u32 {
        if self.heard { self.tokens.allowance(&self.shares, resource, node, limit) } else { 0 }
    }

    /// Whether ports may be lent.
    pub fn is_open(&self) -> bool {
        self.heard
    }

    /// Ports of `resource` are needed soon: so many are `free`.
    pub(super) fn need(&mut self, now: Time, resource: ResourceId, free: u32) {
        self.asked.retain(|(_, at, _)| now.since(*at) < AGAIN);
        let lately = self.asked.iter().any(|(id, _, then)| *id == resource && *then <= free);
        if self.heard && !lately && !self.asks.contains(&resource) {
            self.asked.push((resource, now, free));
            self.asks.push(resource);
        }
    }

    /// A loan is to be told.
    pub(super) fn tell(&mut self, resource: ResourceId) {
        if !self.news.contains(&resource) {
            self.news.push(resource);
        }
    }

    /// Takes over what the peer says; `whole`: it is all that it knows.
    pub(super) fn hear(&mut self, whole: bool, entries: impl Iterator<Item = Entry>) {
        let mut refused = false;
        for entry in entries {
            // An answer: what is still missing is asked for at once.
            self.asked.retain(|(id, ..)| *id != entry.resource);
            refused |= self.tokens.merge(entry) == Merged::Refused;
        }
        self.heard |= whole && !refused;
    }

    /// Whether there is something to tell or to ask.
    pub fn has_words(&self) -> bool {
        !self.asks.is_empty() || !self.news.is_empty()
    }

    pub(super) fn take_asks(&mut self) -> Vec<ResourceId> {
        std::mem::take(&mut self.asks)
    }

    pub(super) fn take_news(&mut self) -> Vec<ResourceId> {
        std::mem::take(&mut self.news)
    }

    /// A request of the peer's.
    pub(super) fn keep(&mut self, now: Time, resource: ResourceId, free: u32, seen: u64) {
        self.wants.keep(now, Want { resource, node: self.peer, free, seen, asked_at: now });
    }
}
