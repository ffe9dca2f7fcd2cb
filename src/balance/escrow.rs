//! Escrow: how much of each limit a node may spend, so that nodes that cannot hear each other keep it together.

use std::time::Duration;

use super::ledger::Count;
use crate::base::{NodeId, ResourceId, Time};

/// What calls of this node's own may spend. Calls that exist are never touched by it; it is asked when a port is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Budget {
    /// Every free port.
    #[default]
    Whole,
    /// This node's floor of each limit; of `unlimited` as much as it likes.
    Floor(NodeId, Shares),
    /// No port at all, not even an unlimited one.
    Nothing,
}

/// How the nodes split every limit. Nodes that hold the same shares have floors that add up to the limit, exactly.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shares {
    /// Node and per mille, ascending by node.
    nodes: Vec<(NodeId, u16)>,
}

/// Ports that are left alone after a cold start: calls of the time before may live on them that nobody has heard of
/// yet. By default nothing is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reserve {
    /// Of each limit, rounded down: a limit of 1 stays usable.
    pub per_mille: u16,
    /// From then on nothing is left alone: a lease has passed, so every call that lives has shown itself.
    pub until: Time,
}

/// Ports of one resource on which calls may live that only a dead node knew of: they are left alone for a lease.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// How many.
    pub ports: u32,
    /// From then on every call that lives has shown itself.
    pub until: Time,
}

/// What the escrow leaves of one member's ports; worked out when the budget changes, not per call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Ration {
    limit: Option<u32>,
    /// For this node's own calls.
    pub own: Option<u32>,
    /// For all calls, while the reserve is held.
    cold: Option<u32>,
    until: Time,
    withheld: Withheld,
    /// Of the own part.
    pub unheard: Withheld,
}

/// All of a limit.
const WHOLE: u32 = 1_000;

impl Shares {
    /// Per mille of the active in a pair of which the other one stands by (`cluster.floor`).
    pub const ACTIVE: u16 = 900;

    /// These shares, per mille; `None` if a node is named twice or they exceed the whole. Less than the whole is no
    /// loss: what is left belongs to the node with the greatest share.
    pub fn new(mut nodes: Vec<(NodeId, u16)>) -> Option<Self> {
        nodes.sort_unstable();
        let twice = nodes.windows(2).any(|pair| pair[0].0 == pair[1].0);
        let sum: u32 = nodes.iter().map(|(_, share)| u32::from(*share)).sum();
        (!twice && sum <= WHOLE).then_some(Self { nodes })
    }

    /// The same for both.
    pub fn equal(one: NodeId, other: NodeId) -> Self {
        let half = WHOLE as u16 / 2;
        let mut nodes = vec![(one, half), (other, half)];
        nodes.sort_unstable();
        Self { nodes }
    }

    /// What `node` may spend of a limit: its share rounded down, and at the node with the greatest share what rounding
    /// left over: a limit of 1 is of use to who serves. A node that has no share gets nothing. No floor shrinks where the
    /// limit grows: while nodes do not have a new limit at the same moment they keep to the greater one.
    pub fn floor(&self, node: NodeId, resource: ResourceId, limit: u32) -> u32 {
        let keeper = self.keeper(resource);
        // Split off one by one: of a remainder that grows with the limit each part does, too.
        let (mut rest, mut whole) = (limit, WHOLE);
        for (id, share) in self.nodes.iter().filter(|(id, _)| Some(*id) != keeper) {
            let own = (u64::from(rest) * u64::from(*share) / u64::from(whole.max(1))) as u32;
            if *id == node {
                return own;
            }
            (rest, whole) = (rest - own, whole - u32::from(*share));
        }
        if keeper == Some(node) { rest } else { 0 }
    }

    /// Who has of `resource` what cannot be split: the greatest share, among equals by rendezvous hashing, alike on all
    /// nodes.
    pub fn keeper(&self, resource: ResourceId) -> Option<NodeId> {
        let rank = |(id, share): &(NodeId, u16)| (*share, affinity(resource, *id), *id);
        self.nodes.iter().max_by_key(|node| rank(node)).map(|(id, _)| *id)
    }
}

impl Budget {
    /// How much that is of `limit` (`None`: unlimited).
    pub fn own(&self, resource: ResourceId, limit: Option<u32>) -> Option<u32> {
        match self {
            Budget::Whole => None,
            Budget::Floor(node, shares) => limit.map(|limit| shares.floor(*node, resource, limit)),
            Budget::Nothing => Some(0),
        }
    }
}

impl Withheld {
    /// A node has died that may have spent so much on calls of which nobody here has heard. What it shares out between the
    /// nodes adds up, so what this node has taken beyond the rest was the dead one's and is counted already. Of earlier
    /// deaths other calls live.
    pub fn and(self, now: Time, theirs: u32, limit: u32, count: Count, until: Time) -> Self {
        let known = count.all - count.own.min(limit - theirs);
        let ports = self.at(now).saturating_add(theirs.saturating_sub(known)).min(limit);
        Self { ports, until: if ports > self.at(now) { self.until.max(until) } else { self.until } }
    }

    /// How many at `now`.
    pub fn at(self, now: Time) -> u32 {
        if now < self.until { self.ports } else { 0 }
    }
}

impl Reserve {
    /// For one lease from `now` on.
    pub fn for_lease(now: Time, per_mille: u16, lease: Duration) -> Self {
        Self { per_mille, until: now + lease }
    }
}

impl Ration {
    /// What is left of `limit` (`None`: unlimited).
    pub fn new(
        budget: &Budget,
        reserve: Reserve,
        withheld: Withheld,
        resource: ResourceId,
        limit: Option<u32>,
    ) -> Self {
        let per_mille = reserve.per_mille.min(WHOLE as u16);
        let cold = limit.map(|limit| limit - part(limit, per_mille));
        let own = budget.own(resource, limit);
        Self { limit, own, cold, until: reserve.until, withheld, unheard: Withheld::default() }
    }

    /// Whether one more port may be taken.
    pub fn admits(&self, now: Time, count: Count) -> bool {
        let all = if now < self.until { self.cold } else { self.limit };
        let unheard = self.unheard.at(now);
        // Either may be told of the same calls.
        let taken = count.all.saturating_add(self.withheld.at(now).max(unheard));
        let own = count.own.saturating_add(unheard);
        all.is_none_or(|most| taken < most) && self.own.is_none_or(|most| own < most)
    }
}

fn part(limit: u32, per_mille: u16) -> u32 {
    (u64::from(limit) * u64::from(per_mille) / u64::from(WHOLE)) as u32
}

/// The same number on every node and in every version: they must agree without asking.
fn affinity(resource: ResourceId, node: NodeId) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("tandem home of a resource");
    hasher.update(&resource.0.to_be_bytes());
    hasher.update(&node.0.to_be_bytes());
    let hash = hasher.finalize();
    let (words, _) = hash.as_bytes().as_chunks::<8>();
    u64::from_be_bytes(words[0])
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn pair(a: u16) -> Shares {
        Shares::new(vec![(A, a), (B, 1_000 - a)]).unwrap()
    }

    proptest! {
        #[test]
        fn floors_of_two_nodes_add_up_to_the_limit(
            limit in prop_oneof![0u32..4, 0u32..1_000, any::<u32>()],
            share in 0u16..=1_000,
            ids in (any::<u16>(), any::<u16>()).prop_filter("two nodes", |(a, b)| a != b),
            resource in any::<u64>(),
        ) {
            let (a, b, resource) = (NodeId(ids.0), NodeId(ids.1), ResourceId(resource));
            let here = Shares::new(vec![(a, share), (b, 1_000 - share)]).unwrap();
            let there = Shares::new(vec![(b, 1_000 - share), (a, share)]).unwrap();
            let (mine, theirs) = (here.floor(a, resource, limit), there.floor(b, resource, limit));
            prop_assert_eq!(u64::from(mine) + u64::from(theirs), u64::from(limit));
            let fair = f64::from(limit) * f64::from(share) / 1_000.0;
            prop_assert!((f64::from(mine) - fair).abs() < 1.0, "{} of {}, {} would be fair", mine, limit, fair);
        }

        #[test]
        fn floors_of_many_nodes_add_up_to_the_limit(
            limit in prop_oneof![0u32..20, any::<u32>()],
            shares in prop::collection::btree_map(any::<u16>(), 0u16..=142, 1..=7),
            resource in any::<u64>(),
        ) {
            let nodes: Vec<_> = shares.into_iter().map(|(id, share)| (NodeId(id), share)).collect();
            let shares = Shares::new(nodes.clone()).unwrap();
            let sum: u64 = nodes.iter().map(|(id, _)| u64::from(shares.floor(*id, ResourceId(resource), limit))).sum();
            prop_assert_eq!(sum, u64::from(limit));
        }

        #[test]
        fn no_floor_shrinks_where_the_limit_grows(
            less in 0u32..200,
            share in 0u16..=142,
            others in prop::collection::btree_map(0u16..9, 0u16..=142, 0..=5),
        ) {
            let equals = [(NodeId(10), share), (NodeId(11), share)];
            let nodes: Vec<_> = others.into_iter().map(|(id, share)| (NodeId(id), share)).chain(equals).collect();
            let shares = Shares::new(nodes.clone()).unwrap();
            let floor = |node, limit| shares.floor(node, ResourceId(1), limit);
            prop_assert!(nodes.iter().all(|(id, _)| floor(*id, less) <= floor(*id, less + 1)));
        }
    }

    #[test]
    fn what_cannot_be_split_lies_with_who_has_the_greater_share() {
        for (shares, keeper, other) in [(pair(Shares::ACTIVE), A, B), (pair(100), B, A)] {
            for resource in (0..1_000).map(ResourceId) {
                let floors = |limit| (shares.floor(keeper, resource, limit), shares.floor(other, resource, limit));
                assert_eq!([0, 1, 2, 3].map(floors), [(0, 0), (1, 0), (2, 0), (3, 0)]);
                assert_eq!((floors(10), floors(19)), ((9, 1), (18, 1)));
            }
        }
    }

    #[test]
    fn among_equals_it_lies_with_either_and_the_same_in_every_version() {
        let shares = pair(500);
        let keeps = |node, n| shares.floor(node, ResourceId(n), 3) == 2;
        let of_a = (0..1_000).filter(|n| keeps(A, *n)).count();
        assert!((400..600).contains(&of_a) && (0..1_000).all(|n| keeps(A, n) != keeps(B, n)), "{of_a}");
        let keepers: String = (0..16).map(|n| if keeps(A, n) { 'a' } else { 'b' }).collect();
        assert_eq!(keepers, "abaaabaaabaaaabb");
    }

    #[test]
    fn what_is_left_alone_is_what_a_dead_node_may_have_spent_unheard() {
        let (now, soon, later) = (Time::from_micros(1), Time::from_micros(50), Time::from_micros(100));
        let share = Budget::Floor(B, pair(100));
        let and = |before: Withheld, spent: &Budget, all, own| {
            let theirs = spent.own(ResourceId(1), Some(10)).unwrap_or(10);
            let withheld = before.and(now, theirs, 10, Count { all, own }, later);
            (withheld.ports, withheld.until)
        };
        let none = Withheld::default();
        assert_eq!(and(none, &share, 3, 0), (6, later), "three of its nine are known");
        assert_eq!(and(none, &share, 4, 1), (6, later), "one is of this node's own");
        assert_eq!(and(none, &share, 4, 4), (6, later), "and no more can be: it took three over");
        assert_eq!(and(none, &share, 10, 10), (0, Time::ZERO));
        assert_eq!(and(none, &Budget::Whole, 4, 4), (6, later), "it had no share to keep to");
        let before = Withheld { ports: 3, until: soon };
        assert_eq!(and(before, &share, 4, 1), (9, later), "two have died");
        assert_eq!(and(before, &share, 10, 10), (3, soon));
        assert_eq!(and(Withheld { ports: 3, until: now }, &share, 4, 1), (6, later), "a lease has passed");
        assert_eq!(and(before, &Budget::Whole, 0, 0), (10, later), "no more than there are");
    }

    #[test]
    fn shares_that_would_spend_a_port_twice_are_refused() {
        assert_eq!(Shares::new(vec![(A, 501), (B, 500)]), None);
        assert_eq!(Shares::new(vec![(A, 500), (A, 500)]), None);
        assert_eq!(pair(900).floor(NodeId(3), ResourceId(1), 100), 0, "a node without a share");
        assert_eq!(Shares::new(Vec::new()).unwrap().floor(A, ResourceId(1), 100), 0);
    }

    #[test]
    fn a_reserve_is_held_back_until_its_lease_has_passed() {
        let t0 = Time::from_micros(1_000_000);
        let reserve = Reserve::for_lease(t0, 250, Duration::from_secs(60));
        let ration = |limit| Ration::new(&Budget::Whole, reserve, Withheld::default(), ResourceId(1), limit);
        let count = |all| Count { all, own: 0 };
        let last = reserve.until - Duration::from_micros(1);
        assert!(ration(Some(10)).admits(last, count(7)));
        assert!(!ration(Some(10)).admits(last, count(8)), "2 of 10 are held back");
        assert!(ration(Some(10)).admits(reserve.until, count(9)));
        assert!(!ration(Some(10)).admits(reserve.until, count(10)));
        assert!(ration(Some(1)).admits(last, count(0)), "a limit of 1 stays usable");
        assert!(ration(None).admits(last, count(1_000)));
        let all = Reserve { per_mille: u16::MAX, ..reserve };
        let withheld = Withheld { ports: 4, until: reserve.until };
        let both = Ration::new(&Budget::Whole, reserve, withheld, ResourceId(1), Some(10));
        assert!(both.admits(last, count(3)) && !both.admits(last, count(4)) && both.admits(reserve.until, count(9)));
        assert!(!Ration::new(&Budget::Whole, all, Withheld::default(), ResourceId(1), Some(10)).admits(last, count(0)));
    }
}
