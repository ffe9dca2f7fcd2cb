//! Tokens: what nodes have lent each other of their shares. Capacity goes where calls come, and no port is spent twice.

use std::time::Duration;

use super::escrow::Shares;
use crate::base::{NodeId, ResourceId, Time};

/// Who has lent whom how many ports of what, as far as this node has heard. Its own row nobody knows better.
///
/// Totals only grow, and only the lender raises its row, before it tells. So what a node believes it may spend is at most
/// what it may, and over all nodes that is at most the limit, however late, lost, doubled or reordered the news are.
/// Three things are up to the caller. All entries of a resource travel in one payload ([`Tokens::of`]) and are merged
/// before anything is admitted: a credit never comes without the debits that its lender knew. Nothing is merged that a
/// process said which has died, once its death was told or answered. A node that has started spends and lends nothing
/// before it has merged what every peer that may live said to this start of it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tokens {
    me: NodeId,
    /// Who may lend and borrow.
    nodes: Vec<NodeId>,
    /// Most entries that are kept.
    room: usize,
    /// Ascending by resource, lender, borrower; a total of zero is no entry.
    entries: Vec<Entry>,
}

/// What `from` has lent `to`, all in all. What came back counts in the entry the other way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The resource.
    pub resource: ResourceId,
    /// The lender, the only one that raises it.
    pub from: NodeId,
    /// The borrower.
    pub to: NodeId,
    /// Ports, 1 up to 2^40.
    pub total: u64,
}

/// What became of an entry that was heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Merged {
    /// It was news.
    Changed,
    /// As much or more was known.
    Known,
    /// It names a node that is none of this cluster's, or there is no room. Who said it has not been heard out: a node
    /// that has just started does not spend on the strength of it.
    Refused,
}

/// A node asks for ports. Kept by who is asked, so that it stands until it is met or has lapsed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Want {
    /// The resource.
    pub resource: ResourceId,
    /// Who asks.
    pub node: NodeId,
    /// Its free ports when it asked.
    pub free: u32,
    /// The total of the asked one's entry for it, as it knew it then: a request that comes late or twice is seen through.
    pub seen: u64,
    /// When it came, by the clock of who is asked.
    pub asked_at: Time,
}

/// Requests that stand: one per resource and node, as many as there is room for.
#[derive(Clone, Debug)]
pub struct Wants {
    room: usize,
    stands: Duration,
    list: Vec<Want>,
}

/// Octets of an entry on the wire: resource 8, lender 2, borrower 2, total 8; big-endian.
pub const ROW: usize = 20;

/// No total gets so far: a thousand loans of a whole resource per second for years. Sums of totals fit an `i64`.
const TOTAL: u64 = 1 << 40;

impl Tokens {
    /// No loans yet between `nodes`, of which this one is `me`; room for `resources`, those that left the configuration
    /// included.
    pub fn new(me: NodeId, mut nodes: Vec<NodeId>, resources: usize) -> Self {
        nodes.sort_unstable();
        nodes.dedup();
        let pairs = nodes.len() * nodes.len().saturating_sub(1);
        Self { me, nodes, room: resources.saturating_mul(pairs), entries: Vec::new() }
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.me
    }

    /// What `node` has borrowed, less what it has lent.
    pub fn net(&self, resource: ResourceId, node: NodeId) -> i64 {
        let signed = |e: &Entry| i64::from(e.to == node) - i64::from(e.from == node);
        self.slice(resource).iter().map(|e| signed(e) * e.total as i64).sum()
    }

    /// How many ports `node` may have in use of `resource`, ports that are left alone for a dead one included. Over all nodes
    /// they add up to `limit`, or to less among three and more while one owes.
    pub fn allowance(&self, shares: &Shares, resource: ResourceId, node: NodeId, limit: u32) -> u32 {
        let held = self.held(shares, resource, node, limit);
        // What one owes another one has too much, and each takes itself for that one: a view may be too old to tell.
        let owed: i64 = self.nodes.iter().map(|n| self.held(shares, resource, *n, limit).min(0)).sum();
        if held < 0 { 0 } else { clamp(held + owed).min(limit) }
    }

    /// How many ports `node` has lent that a reload took away: they fill a hole before they are of use to it.
    pub fn owes(&self, shares: &Shares, resource: ResourceId, node: NodeId, limit: u32) -> u32 {
        clamp(-self.held(shares, resource, node, limit))
    }

    /// Lends `count` ports, which this node must have free. Only then may anybody be told; nothing has happened if `false`:
    /// there is no such node, or no room.
    #[must_use]
    pub fn lend(&mut self, resource: ResourceId, to: NodeId, count: u32) -> bool {
        let total = self.total(resource, self.me, to) + u64::from(count);
        count > 0 && self.merge(Entry { resource, from: self.me, to, total }) == Merged::Changed
    }

    /// Takes over what somebody said. A node that has started gets its own row back this way, as far as anybody credited it.
    pub fn merge(&mut self, entry: Entry) -> Merged {
        let known = |node| self.nodes.contains(&node);
        if entry.from == entry.to || !known(entry.from) || !known(entry.to) || entry.total > TOTAL {
            return Merged::Refused;
        }
        match self.find(entry.resource, entry.from, entry.to) {
            Ok(at) if self.entries[at].total < entry.total => self.entries[at].total = entry.total,
            Ok(_) => return Merged::Known,
            Err(_) if entry.total == 0 => return Merged::Known,
            Err(_) if self.entries.len() >= self.room => return Merged::Refused,
            Err(at) => self.entries.insert(at, entry),
        }
        Merged::Changed
    }

    /// What `from` has lent `to`, all in all.
    pub fn total(&self, resource: ResourceId, from: NodeId, to: NodeId) -> u64 {
        self.find(resource, from, to).map_or(0, |at| self.entries[at].total)
    }

    /// Free ports of who asks, with those on their way to it since.
    pub fn free_of(&self, want: &Want) -> u32 {
        let given = self.total(want.resource, self.me, want.node).saturating_sub(want.seen);
        want.free.saturating_add(u32::try_from(given).unwrap_or(u32::MAX))
    }

    /// All entries of a resource: what is told when one of them has changed.
    pub fn of(&self, resource: ResourceId) -> impl Iterator<Item = Entry> {
        self.slice(resource).iter().copied()
    }

    /// All entries, resource by resource: what a peer is told that has just been met.
    pub fn iter(&self) -> impl Iterator<Item = Entry> {
        self.entries.iter().copied()
    }

    /// Forgets resources. Exact only while no peer may live, which would still know what it was lent; so nothing but the model
    /// does it: a resource that a reload removes may come back with the next one.
    #[cfg(test)]
    pub fn retain(&mut self, mut keep: impl FnMut(ResourceId) -> bool) {
        self.entries.retain(|entry| keep(entry.resource));
    }

    fn held(&self, shares: &Shares, resource: ResourceId, node: NodeId, limit: u32) -> i64 {
        i64::from(shares.floor(node, resource, limit)) + self.net(resource, node)
    }

    fn slice(&self, resource: ResourceId) -> &[Entry] {
        let from = self.entries.partition_point(|e| e.resource < resource);
        let len = self.entries[from..].partition_point(|e| e.resource == resource);
        &self.entries[from..from + len]
    }

    fn find(&self, resource: ResourceId, from: NodeId, to: NodeId) -> Result<usize, usize> {
        self.entries.binary_search_by_key(&(resource, from, to), |e| (e.resource, e.from, e.to))
    }
}

impl Wants {
    /// None yet; at most `room` at a time, each of which stands for `stands`.
    pub fn new(room: usize, stands: Duration) -> Self {
        Self { room, stands, list: Vec::new() }
    }

    /// Keeps a request in place of an earlier one of the same node. `false` if there is no room: the node asks again.
    pub fn keep(&mut self, now: Time, want: Want) -> bool {
        self.met(want.resource, want.node);
        if self.list.len() >= self.room {
            self.lapse(now);
        }
        let room = self.list.len() < self.room;
        if room {
            self.list.push(want);
        }
        room
    }

    /// The longest-standing request for ports of `resource`.
    pub fn first(&self, now: Time, resource: ResourceId) -> Option<Want> {
        self.list.iter().find(|w| w.resource == resource && self.stands(now, w)).copied()
    }

    /// A request was met, or the node is gone.
    pub fn met(&mut self, resource: ResourceId, node: NodeId) {
        self.list.retain(|w| (w.resource, w.node) != (resource, node));
    }

    /// Forgets all of them.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// Forgets what has stood for too long.
    pub fn lapse(&mut self, now: Time) {
        let stands = self.stands;
        self.list.retain(|w| now < w.asked_at + stands);
    }

    fn stands(&self, now: Time, want: &Want) -> bool {
        now < want.asked_at + self.stands
    }
}

/// Whether a node asks for ports, ahead of need. To be looked at when a call took a port or found none, never when ports
/// were lent: two nodes without calls would pass the last port to and fro.
pub fn is_low(limit: u32, allowance: u32, own: u32) -> bool {
    // Who has all of them asks nobody.
    allowance < limit && allowance.saturating_sub(own) <= low_water(limit)
}

/// How many of its free ports a node lends, so that both have about as many: at least one to who has none. Ports that a
/// waiting call is about to take are not free.
pub fn gift(limit: u32, own_free: u32, their_free: u32) -> u32 {
    if their_free > low_water(limit) {
        return 0;
    }
    let even = own_free.saturating_sub(their_free) / 2;
    let least = u32::from(their_free == 0).min(own_free);
    even.max(least)
}

/// What a node that has started lends before it spends: the peer that stood in for it has more in use than it is allowed.
/// From then on the limit holds by allowances alone, whatever this node forgets of the peer's calls.
pub fn cover(own_free: u32, their_allowance: u32, their_use: u32) -> u32 {
    their_use.saturating_sub(their_allowance).min(own_free)
}

/// Appends entries as they go on the wire.
pub fn write(entries: impl Iterator<Item = Entry>, out: &mut Vec<u8>) {
    for Entry { resource, from, to, total } in entries {
        out.extend_from_slice(&resource.0.to_be_bytes());
        out.extend_from_slice(&from.0.to_be_bytes());
        out.extend_from_slice(&to.0.to_be_bytes());
        out.extend_from_slice(&total.to_be_bytes());
    }
}

/// The entries of a payload; `None` if it is not made of whole ones. What they say is judged by `Tokens::merge`.
pub fn read(payload: &[u8]) -> Option<impl Iterator<Item = Entry>> {
    let (rows, rest) = payload.as_chunks::<ROW>();
    rest.is_empty().then(|| rows.iter().map(entry))
}

fn entry(row: &[u8; ROW]) -> Entry {
    let [r @ .., f0, f1, t0, t1, n0, n1, n2, n3, n4, n5, n6, n7] = *row;
    Entry {
        resource: ResourceId(u64::from_be_bytes(r)),
        from: NodeId(u16::from_be_bytes([f0, f1])),
        to: NodeId(u16::from_be_bytes([t0, t1])),
        total: u64::from_be_bytes([n0, n1, n2, n3, n4, n5, n6, n7]),
    }
}

fn low_water(limit: u32) -> u32 {
    (limit / 16).max(1)
}

fn clamp(ports: i64) -> u32 {
    u32::try_from(ports.max(0)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const R: ResourceId = ResourceId(7);

    fn pair() -> Shares {
        Shares::new(vec![(A, 500), (B, 500)]).unwrap()
    }

    fn of(me: NodeId) -> Tokens {
        Tokens::new(me, vec![A, B], 2)
    }

    fn entry(from: NodeId, to: NodeId, total: u64) -> Entry {
        Entry { resource: R, from, to, total }
    }

    #[test]
    fn what_one_lends_the_other_may_spend_once_it_has_heard() {
        let (mut a, mut b) = (of(A), of(B));
        let both = |a: &Tokens, b: &Tokens| (a.allowance(&pair(), R, A, 10), b.allowance(&pair(), R, B, 10));
        assert!(a.lend(R, B, 3));
        assert_eq!(both(&a, &b), (2, 5));
        assert_eq!(b.merge(a.of(R).next().unwrap()), Merged::Changed);
        assert_eq!((both(&a, &b), b.net(R, A), b.net(R, B)), ((2, 8), -3, 3));
        assert!(b.lend(R, A, 1));
        for said in b.of(R) {
            a.merge(said);
        }
        assert_eq!((both(&a, &b), a.total(R, A, B), a.total(R, B, A)), ((3, 7), 3, 1));
        assert_eq!(a.iter().collect::<Vec<_>>(), b.iter().collect::<Vec<_>>());
        assert_eq!(b.net(ResourceId(8), B), 0);
    }

    #[test]
    fn old_news_change_nothing_and_strangers_are_refused() {
        let mut b = of(B);
        let mut merge = |from, to, total| b.merge(entry(from, to, total));
        assert_eq!((merge(A, B, 4), merge(A, B, 4), merge(A, B, 3)), (Merged::Changed, Merged::Known, Merged::Known));
        assert_eq!(
            (merge(A, A, 1), merge(C, B, 1), merge(A, C, 1)),
            (Merged::Refused, Merged::Refused, Merged::Refused)
        );
        assert_eq!((merge(A, B, TOTAL + 1), merge(B, A, 0)), (Merged::Refused, Merged::Known));
        assert_eq!((b.net(R, B), b.iter().count()), (4, 1));
        assert!(!b.lend(R, B, 1) && !b.lend(R, C, 1) && !b.lend(R, A, 0));
    }

    #[test]
    fn there_is_room_for_as_many_resources_as_were_named() {
        let mut a = of(A);
        let entries = (0..3).flat_map(|n| [(A, B), (B, A)].map(|(from, to)| (ResourceId(n), from, to)));
        let kept: Vec<Merged> =
            entries.map(|(resource, from, to)| a.merge(Entry { resource, from, to, total: 1 })).collect();
        assert_eq!(kept, [vec![Merged::Changed; 4], vec![Merged::Refused; 2]].concat());
        assert!(!a.lend(ResourceId(2), B, 1) && a.lend(ResourceId(1), B, 1));
        a.retain(|resource| resource != ResourceId(0));
        assert!(a.lend(ResourceId(2), B, 1));
        assert_eq!((a.net(ResourceId(0), A), a.net(ResourceId(1), A), a.net(ResourceId(2), A)), (0, -1, -1));
    }

    #[test]
    fn a_lowered_limit_leaves_no_more_than_it_says() {
        let mut a = of(A);
        assert!(a.lend(R, B, 4));
        let at = |a: &Tokens, limit| [A, B].map(|n| (a.allowance(&pair(), R, n, limit), a.owes(&pair(), R, n, limit)));
        assert_eq!(at(&a, 10), [(1, 0), (9, 0)]);
        assert_eq!(at(&a, 4), [(0, 2), (4, 0)], "two that A has lent are no more");
        a.merge(entry(B, A, 3));
        assert_eq!(at(&a, 4), [(1, 0), (3, 0)]);
    }

    #[test]
    fn who_was_stood_in_for_leaves_the_other_what_it_has_in_use() {
        assert_eq!((cover(2, 2, 4), cover(2, 2, 3), cover(2, 2, 1), cover(2, 2, 9)), (2, 1, 0, 2));
    }

    #[test]
    fn a_node_asks_before_it_has_none() {
        assert!(is_low(1, 0, 0) && is_low(10, 5, 4) && is_low(10, 5, 9) && is_low(320, 100, 80));
        assert!(!is_low(10, 5, 3) && !is_low(320, 100, 79));
        assert!(!is_low(0, 0, 0) && !is_low(4, 4, 4), "nobody else has any");
    }

    #[test]
    fn a_gift_is_half_of_what_one_has_more_and_the_last_port_to_who_has_none() {
        let gifts = |limit| [(0, 0), (1, 0), (2, 0), (2, 1), (3, 1), (9, 0), (9, 2)].map(|(a, b)| gift(limit, a, b));
        assert_eq!(gifts(10), [0, 1, 1, 0, 1, 4, 0]);
        assert_eq!(gifts(32), [0, 1, 1, 0, 1, 4, 3]);
    }

    #[test]
    fn a_request_that_comes_twice_is_met_once() {
        let mut a = of(A);
        let want = Want { resource: R, node: B, free: 0, seen: 0, asked_at: Time::ZERO };
        let mut free = 16;
        let gifts = [(); 3].map(|()| {
            let count = gift(32, free, a.free_of(&want));
            free -= count;
            assert_eq!(a.lend(R, B, count), count > 0);
            count
        });
        assert_eq!((gifts, free), ([8, 0, 0], 8));
        assert_eq!(a.free_of(&Want { seen: 8, ..want }), 0, "it has heard, and spent them");
    }

    #[test]
    fn a_request_stands_until_it_is_met_or_has_lapsed() {
        let at = Time::from_micros;
        let want = |node, n, asked| Want { resource: ResourceId(n), node, free: 0, seen: 0, asked_at: at(asked) };
        let mut wants = Wants::new(2, Duration::from_micros(10));
        assert!(wants.keep(at(0), want(A, 1, 0)) && wants.keep(at(4), want(B, 1, 4)));
        assert!(!wants.keep(at(5), want(A, 2, 5)), "no room");
        let first = |wants: &Wants, now| wants.first(at(now), ResourceId(1)).map(|w| w.node);
        assert_eq!((first(&wants, 9), first(&wants, 10), first(&wants, 14)), (Some(A), Some(B), None));
        assert!(wants.keep(at(10), want(A, 2, 10)), "what lapsed made room");
        wants.met(ResourceId(1), B);
        assert_eq!(first(&wants, 11), None);
        assert!(wants.keep(at(11), want(A, 2, 11)) && wants.first(at(20), ResourceId(2)).is_some(), "asked again");
    }

    #[test]
    fn a_payload_with_a_broken_tail_is_no_payload() {
        let mut out = Vec::new();
        write([entry(A, B, 0x0102), entry(B, A, 1)].into_iter(), &mut out);
        assert_eq!(out[..ROW], [0, 0, 0, 0, 0, 0, 0, 7, 0, 1, 0, 2, 0, 0, 0, 0, 0, 0, 1, 2]);
        for len in 0..=out.len() {
            let entries = read(&out[..len]).map(Iterator::count);
            assert_eq!(entries, (len % ROW == 0).then_some(len / ROW));
        }
    }

    fn entries() -> impl Strategy<Value = Vec<Entry>> {
        let total = prop_oneof![0..9u64, any::<u64>()];
        let entry = (0..4u64, 0..5u16, 0..5u16, total);
        let made = |(r, from, to, total)| Entry { resource: ResourceId(r), from: NodeId(from), to: NodeId(to), total };
        prop::collection::vec(entry.prop_map(made), 0..40)
    }

    fn merged(entries: impl Iterator<Item = Entry>) -> Tokens {
        let mut tokens = Tokens::new(A, vec![A, B, C], 9);
        entries.for_each(|e| {
            tokens.merge(e);
        });
        tokens
    }

    proptest! {
        #[test]
        fn what_was_written_is_read(entries in entries()) {
            let mut out = Vec::new();
            write(entries.iter().copied(), &mut out);
            prop_assert_eq!(out.len(), entries.len() * ROW);
            prop_assert_eq!(read(&out).unwrap().collect::<Vec<_>>(), entries);
        }

        #[test]
        fn any_octets_are_read_without_harm(octets in prop::collection::vec(any::<u8>(), 0..100)) {
            if let Some(entries) = read(&octets) {
                let tokens = merged(entries);
                prop_assert!(tokens.iter().all(|e| e.total <= TOTAL && e.from != e.to));
            }
        }

        #[test]
        fn the_order_and_number_of_merges_do_not_matter(entries in entries(), twice in any::<usize>()) {
            let at = twice % (entries.len() + 1);
            let other = entries[at..].iter().chain(&entries).rev().copied();
            prop_assert_eq!(merged(entries.iter().copied()), merged(other));
        }

        #[test]
        fn allowances_of_one_view_never_exceed_the_limit(
            entries in entries(),
            limit in prop_oneof![0u32..20, any::<u32>()],
            third in 0u16..=500,
        ) {
            let shares = Shares::new(vec![(A, 500), (B, 500 - third), (C, third)]).unwrap();
            let tokens = merged(entries.into_iter());
            let held: i64 = [A, B, C].iter().map(|n| tokens.held(&shares, ResourceId(1), *n, limit)).sum();
            prop_assert_eq!(held, i64::from(limit));
            let sum: u64 =
                [A, B, C].iter().map(|n| u64::from(tokens.allowance(&shares, ResourceId(1), *n, limit))).sum();
            let owes = [A, B, C].iter().any(|n| tokens.owes(&shares, ResourceId(1), *n, limit) > 0);
            prop_assert!(sum == u64::from(limit) || owes && sum < u64::from(limit), "{} of {}", sum, limit);
        }

        #[test]
        fn one_that_asks_again_and_again_gets_half(limit in 1u32..2_000, free in 0u32..1_000) {
            let (mut mine, mut theirs, mut gifts) = (free, 0, 0);
            while let count @ 1.. = gift(limit, mine, theirs) {
                prop_assert!(count <= mine);
                (mine, theirs, gifts) = (mine - count, theirs + count, gifts + 1);
                prop_assert!(gifts <= 1 || mine >= theirs, "{} and {}", mine, theirs);
            }
            prop_assert!(gifts == u32::from(free > 0) && mine.abs_diff(theirs) <= 1, "{} and {}", mine, theirs);
        }
    }
}
