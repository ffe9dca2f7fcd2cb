//! A Farm that lends ports to another node's, and borrows from it.

use super::escrow::Budget;
use super::farm::Farm;
use super::lending::Lending;
use super::tokens::{Entry, cover, gift, is_low};
use crate::base::{NodeId, ResourceId, Time};

/// A request for ports of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Borrow {
    /// Of which.
    pub resource: ResourceId,
    /// How many the asking node has free.
    pub free: u32,
    /// What the asked one has lent it, all in all, as far as it has heard.
    pub seen: u64,
}

/// What is to be told to the other node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Words {
    /// Loans: all entries of each resource concerned.
    pub loans: Vec<Entry>,
    /// Requests.
    pub borrows: Vec<Borrow>,
}

impl Farm {
    /// From now on each limit is split between this node and `peer`, and they lend each other what they do not need.
    pub fn split(&mut self, me: NodeId, peer: NodeId) {
        self.lending = Some(Lending::new(me, peer));
        self.ration();
    }

    /// Whether there is something to tell or to ask.
    pub fn has_words(&self) -> bool {
        self.lending.as_ref().is_some_and(Lending::has_words)
    }

    /// What is to be told and asked now.
    pub fn take_words(&mut self) -> Words {
        let Some(lending) = &mut self.lending else { return Words::default() };
        let (asks, news, peer) = (lending.take_asks(), lending.take_news(), lending.peer);
        let loans = news.iter().flat_map(|id| lending.tokens.of(*id)).collect();
        let seen = |id, tokens: &super::tokens::Tokens| tokens.total(id, peer, tokens.me());
        let asked: Vec<(ResourceId, u64)> = asks.iter().map(|id| (*id, seen(*id, &lending.tokens))).collect();
        let borrow = |(resource, seen)| Some(Borrow { resource, free: self.free(resource)?, seen });
        Words { loans, borrows: asked.into_iter().filter_map(borrow).collect() }
    }

    /// All loans that this node knows of.
    pub fn loans(&self) -> Vec<Entry> {
        self.lending.iter().flat_map(|lending| lending.tokens.iter()).collect()
    }

    /// The peer tells of loans; `whole`: of all that it knows.
    pub fn hear_loans(&mut self, now: Time, whole: bool, entries: impl Iterator<Item = Entry>) {
        self.see(now);
        if let Some(lending) = &mut self.lending {
            lending.hear(whole, entries);
            self.ration();
        }
    }

    /// The peer asks for ports.
    pub fn hear_borrow(&mut self, now: Time, borrow: Borrow) {
        self.see(now);
        if let Some(lending) = &mut self.lending {
            lending.keep(now, borrow.resource, borrow.free, borrow.seen);
            self.lend(now, borrow.resource);
        }
    }

    /// What the peer asked for is of no use to it now: it cannot be told what it would get.
    pub fn forget_borrows(&mut self) {
        self.lending.iter_mut().for_each(|lending| lending.wants.clear());
    }

    /// All calls of the peer are known: what it has in use beyond its part, because it stood in for this node, is lent to it
    /// before any port is spent here.
    pub fn cover_peer(&mut self, now: Time) {
        self.see(now);
        let keys: Vec<u32> = self.members.iter().map(|(key, _)| key as u32).collect();
        for key in keys {
            let Some((limit, allowance, own)) = self.part(key) else { continue };
            let Some(lending) = &mut self.lending else { return };
            let (member, count) = (&self.members[key as usize], self.ledger.count(key));
            let theirs = lending.tokens.allowance(&lending.shares, member.id, lending.peer, limit);
            let lent = cover(allowance.saturating_sub(own), theirs, count.all - count.own);
            if lent > 0 && lending.tokens.lend(member.id, lending.peer, lent) {
                lending.tell(member.id);
            }
        }
        self.ration();
    }

    /// A call took a port of this member, or found none.
    pub(super) fn look_for_ports(&mut self, now: Time, key: u32) {
        if let Some((limit, allowance, own)) = self.part(key)
            && is_low(limit, allowance, own)
            && let Some(lending) = &mut self.lending
        {
            lending.need(now, self.members[key as usize].id, allowance.saturating_sub(own));
        }
    }

    /// Lends ports of a resource to a peer that has asked for some, if this node has more.
    pub(super) fn lend(&mut self, now: Time, resource: ResourceId) {
        let Some(key) = self.key(resource) else { return };
        let Some((limit, allowance, own)) = self.part(key) else { return };
        let serves = !matches!(self.budget, Budget::Nothing);
        let Some(lending) = &mut self.lending else { return };
        let Some(want) = lending.wants.first(now, resource).filter(|_| lending.is_open()) else { return };
        let free = allowance.saturating_sub(own);
        // Who does not serve needs none: it asks for them when it does.
        let given = if serves { gift(limit, free, lending.tokens.free_of(&want)) } else { free };
        // A hole that a reload made is filled first, or the gift would be of no use.
        let hole = lending.tokens.owes(&lending.shares, resource, lending.peer, limit);
        if given > 0 && lending.tokens.lend(resource, lending.peer, given + hole) {
            lending.wants.met(resource, lending.peer);
            lending.tell(resource);
            let member = &mut self.members[key as usize];
            member.ration(&self.budget, self.reserve, self.lending.as_ref());
        }
    }

    /// Limit, what this node may have in use of it once it serves, and what it has; `None` where nothing is split.
    fn part(&self, key: u32) -> Option<(u32, u32, u32)> {
        let lending = self.lending.as_ref().filter(|_| !matches!(self.budget, Budget::Whole))?;
        let member = &self.members[key as usize];
        let limit = member.port_capacity?;
        let used = self.ledger.count(key).own + member.unheard.at(self.seen);
        Some((limit, lending.allowance(member.id, lending.tokens.me(), limit), used))
    }

    fn free(&self, resource: ResourceId) -> Option<u32> {
        self.part(self.key(resource)?).map(|(_, allowance, own)| allowance.saturating_sub(own))
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::super::desk::{Ask, Grant, Outcome, Refusal};
    use super::super::escrow::Shares;
    use super::super::group::{Config, GroupConfig, ResourceConfig, Route, SchemeName, Terms};
    use super::super::health::Doubt;
    use super::*;
    use crate::base::{Flow, LegId, ListenerId, Transport};

    const T0: Time = Time::from_micros(1_000_000);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const R: ResourceId = ResourceId(7);

    fn config(limit: u32) -> Config {
        let addr = SocketAddr::from(([192, 0, 2, 7], 5060));
        let flow =
            Flow { transport: Transport::Udp, listener: ListenerId::default(), local: addr, remote: addr, conn: None };
        let route = Route { authority: "192.0.2.7:5060".into(), flow, stream: None, own: None };
        let aor = "sip:192.0.2.7".into();
        let resource = ResourceConfig { id: R, aor, route, aliases: Vec::new(), port_capacity: Some(limit) };
        let group = GroupConfig {
            name: "g".into(),
            service_types: Vec::new(),
            scheme: SchemeName::RoundRobin,
            monitor: None,
            noresource_response_code: 480,
            terms: Terms { first_response_timeout: Duration::from_secs(2), retry_codes: Vec::new() },
            pin_by: None,
            resources: vec![resource],
        };
        Config { groups: vec![group] }
    }

    fn farm(me: NodeId, limit: u32) -> Farm {
        let mut farm = Farm::new(config(limit));
        farm.split(me, if me == A { B } else { A });
        farm.set_budget(T0, Budget::Floor(me, Shares::new(vec![(A, 500), (B, 500)]).unwrap()));
        farm
    }

    /// Both have heard each other since they started.
    fn two(limit: u32) -> [Farm; 2] {
        let mut farms = [farm(A, limit), farm(B, limit)];
        farms.iter_mut().for_each(|farm| farm.hear_loans(T0, true, std::iter::empty()));
        farms
    }

    fn admit(farm: &mut Farm, leg: u64) -> Result<Grant, Refusal> {
        farm.admit(T0, &Ask { leg: LegId(leg), service: None, secure: false, tried: &[], shows: &() })
    }

    /// Carries what each has to say to the other, until nobody has anything; how many payloads that were.
    fn talk(farms: &mut [Farm; 2]) -> usize {
        let mut said = 0;
        while farms.iter().any(Farm::has_words) {
            for n in 0..2 {
                let Words { loans, borrows } = farms[n].take_words();
                said += usize::from(!loans.is_empty()) + usize::from(!borrows.is_empty());
                farms[1 - n].hear_loans(T0, false, loans.into_iter());
                borrows.into_iter().for_each(|asked| farms[1 - n].hear_borrow(T0, asked));
            }
            assert!(said < 100, "they talk without end");
        }
        said
    }

    fn allowances(farms: &[Farm; 2]) -> [Option<u32>; 2] {
        [0, 1].map(|n| farms[n].view()[0].allowance)
    }

    #[test]
    fn where_all_calls_come_to_one_node_it_gets_every_port() {
        let mut farms = two(10);
        let mut grants = Vec::new();
        for leg in 0..10 {
            grants.push(admit(&mut farms[0], leg).unwrap_or_else(|why| panic!("call {leg}: {why:?}")));
            talk(&mut farms);
        }
        assert_eq!(allowances(&farms), [Some(10), Some(0)]);
        assert_eq!(admit(&mut farms[0], 10).unwrap_err(), Refusal::Full { code: 480 });
        assert_eq!(admit(&mut farms[1], 11).unwrap_err(), Refusal::Full { code: 480 });
        talk(&mut farms);
        // The request of the other one stands: the first port that is free goes there.
        farms[0].release(T0, grants.pop().unwrap(), Outcome::Completed);
        talk(&mut farms);
        assert_eq!(allowances(&farms), [Some(9), Some(1)]);
        grants.push(admit(&mut farms[1], 12).unwrap());
        assert!(admit(&mut farms[0], 13).is_err());
        for grant in grants {
            let n = usize::from(grant.leg.0 == 12);
            farms[n].release(T0, grant, Outcome::Completed);
        }
    }

    #[test]
    fn ports_that_are_on_their_way_are_spent_by_nobody_and_news_twice_are_one_loan() {
        let mut farms = two(4);
        let mut taken = vec![admit(&mut farms[0], 0).unwrap()];
        let asked = farms[0].take_words().borrows;
        taken.push(admit(&mut farms[0], 1).unwrap());
        assert_eq!(asked, [Borrow { resource: R, free: 1, seen: 0 }], "ahead of need");
        let late = Borrow { free: 0, ..asked[0] };
        farms[1].hear_borrow(T0, late);
        farms[1].hear_borrow(T0, late);
        let loans = farms[1].take_words().loans;
        assert_eq!(loans, [Entry { resource: R, from: B, to: A, total: 1 }]);
        assert_eq!(allowances(&farms), [Some(2), Some(1)]);
        for _ in 0..2 {
            farms[0].hear_loans(T0, false, loans.iter().copied());
        }
        assert_eq!(allowances(&farms), [Some(3), Some(1)]);
        taken.into_iter().for_each(|grant| farms[0].release(T0, grant, Outcome::Completed));
    }

    #[test]
    fn calls_of_an_earlier_life_hold_their_ports_while_a_reload_has_the_resource_out() {
        let mut farms = two(4);
        let until = T0 + Duration::from_secs(60);
        farms[0].hear_own(T0, &Doubt { withheld: 2, withheld_until: until, ..Doubt::of(R) });
        farms[0].reconfigure(T0, Config { groups: Vec::new() });
        assert_eq!(farms[0].check(), Ok(()));
        farms[0].reconfigure(T0, config(4));
        assert_eq!(admit(&mut farms[0], 0).unwrap_err(), Refusal::Full { code: 480 });
    }

    #[test]
    fn who_does_not_serve_lends_every_port_and_borrows_again_when_it_does() {
        let mut farms = two(10);
        farms[1].set_budget(T0, Budget::Nothing);
        let grants: Vec<Grant> = (0..10)
            .map(|leg| {
                let grant = admit(&mut farms[0], leg).unwrap_or_else(|why| panic!("call {leg}: {why:?}"));
                talk(&mut farms);
                assert!([Some(5), Some(10)].contains(&allowances(&farms)[0]), "all at once");
                grant
            })
            .collect();
        assert_eq!(allowances(&farms), [Some(10), Some(0)]);
        grants.into_iter().for_each(|grant| farms[0].release(T0, grant, Outcome::Completed));
        farms[1].set_budget(T0, Budget::Floor(B, Shares::equal(A, B)));
        assert_eq!(admit(&mut farms[1], 10).unwrap_err(), Refusal::Full { code: 480 });
        talk(&mut farms);
        assert_eq!(allowances(&farms), [Some(5), Some(5)]);
    }

    #[test]
    fn a_node_that_comes_back_lends_what_the_survivor_has_before_it_serves_itself() {
        let mut farms = two(4);
        farms[0].set_budget(T0, Budget::Whole);
        let taken: Vec<Grant> = (0..3).map(|leg| admit(&mut farms[0], leg).unwrap()).collect();
        farms[0].set_budget(T0, Budget::Floor(A, Shares::equal(A, B)));
        farms[1].set_budget(T0, Budget::Nothing);
        let shadows: Vec<Grant> = taken.iter().map(|grant| farms[1].shadow(T0, R, grant.leg, None)).collect();
        farms[1].cover_peer(T0);
        talk(&mut farms);
        assert_eq!(farms[0].view()[0].allowance, Some(3));
        shadows.into_iter().for_each(|grant| farms[1].release(T0, grant, Outcome::Completed));
        taken.into_iter().for_each(|grant| farms[0].release(T0, grant, Outcome::Completed));
    }

    #[test]
    fn who_has_started_spends_nothing_before_it_knows_what_it_had_lent() {
        let mut farms = two(4);
        let taken: Vec<Grant> = (0..3)
            .map(|leg| {
                let grant = admit(&mut farms[0], leg).unwrap();
                talk(&mut farms);
                grant
            })
            .collect();
        farms[1] = farm(B, 4);
        assert_eq!((allowances(&farms)[1], admit(&mut farms[1], 9).is_err()), (Some(0), true));
        let known = farms[0].loans();
        farms[1].hear_loans(T0, true, known.into_iter());
        assert_eq!(allowances(&farms).map(Option::unwrap).iter().sum::<u32>(), 4);
        assert!(allowances(&farms)[1] < Some(2), "it had lent some");
        taken.into_iter().for_each(|grant| farms[0].release(T0, grant, Outcome::Completed));
    }

    #[test]
    fn what_a_survivor_has_in_use_beyond_its_part_is_lent_to_it_first() {
        let mut farms = two(4);
        farms[0].set_budget(T0, Budget::Whole);
        let taken: Vec<Grant> = (0..3).map(|leg| admit(&mut farms[0], leg).unwrap()).collect();
        farms[0].set_budget(T0, Budget::Floor(A, Shares::new(vec![(A, 500), (B, 500)]).unwrap()));
        let mut back = farm(B, 4);
        back.hear_loans(T0, true, std::iter::empty());
        let shadows: Vec<Grant> = taken.iter().map(|grant| back.shadow(T0, R, grant.leg, None)).collect();
        back.cover_peer(T0);
        assert_eq!(back.view()[0].allowance, Some(1));
        let told = back.take_words().loans;
        farms[0].hear_loans(T0, false, told.into_iter());
        assert_eq!(farms[0].view()[0].allowance, Some(3));
        shadows.into_iter().for_each(|grant| back.release(T0, grant, Outcome::Completed));
        taken.into_iter().for_each(|grant| farms[0].release(T0, grant, Outcome::Completed));
    }
}
