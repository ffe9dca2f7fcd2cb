//! Which member the calls of a key are on. It is the first one in the order of the key that is not down; once a call with the
//! key lives, it is that call's member, until that one is down: then the key moves as a whole, and the number of the decision
//! grows by the members that are passed over. So members and what is down determine the decision and its number, and nodes
//! that see the same decide alike without a word.
//!
//! Where two nodes place calls, one of them decides of a key: its home. The other one goes by what the home has said is down;
//! while it does not hear it, only by what both saw alike. What cannot be decided so is refused: a call that is tried again
//! is better than one on its own.

use std::sync::Arc;
use std::time::Duration;

use super::desk::{Ask, Grant, Refusal};
use super::escrow::Budget;
use super::farm::Farm;
use super::group::{Group, Member};
use super::pins::{self, PinStats, Place, Told};
use crate::base::{NodeId, Pin, PinKey, ResourceId, Time, Transport};

/// Whose eyes a decision is made with.
enum View<'a> {
    /// This node's.
    Own,
    /// The other node's.
    Theirs(&'a [ResourceId]),
    /// Both, as far as they saw the same.
    Both(&'a [ResourceId]),
    /// Nobody knows what the other node sees: what is up here is taken for up there.
    Hidden,
}

/// Why there is no member for a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unplaced {
    /// Its member takes no call, or no member is up, or it is not this node's to say which.
    Undecided,
    /// Its member has no port for this node.
    Full,
}

impl Farm {
    /// How long keys are remembered after their last call; none at first.
    pub fn set_pin_linger(&mut self, linger: Duration) {
        self.pins.linger = linger;
    }

    /// Keys that calls hold.
    pub fn live_pins(&self) -> usize {
        self.pins.live()
    }

    /// Ports that calls with a key hold.
    pub fn pinned(&self) -> usize {
        self.pins.holders()
    }

    /// What happened to keys.
    pub fn pin_stats(&self) -> PinStats {
        self.pins.stats
    }

    /// Members that are down, for the other node.
    pub fn down(&self) -> impl Iterator<Item = ResourceId> {
        self.members.iter().filter(|(_, m)| !m.draining && !m.health.usable()).map(|(_, m)| m.id)
    }

    /// The other node has said whether it places calls, and what is down for it.
    pub fn hear_sight(&mut self, places: bool, down: impl Iterator<Item = ResourceId>) {
        let mut down: Vec<ResourceId> = down.collect();
        down.sort_unstable();
        self.told = Told { linked: true, places, down: Some(down) };
    }

    /// The other node is not heard any more.
    pub fn lose_sight(&mut self) {
        self.told.linked = false;
    }

    /// See [`peer_serves`](super::Desk::peer_serves).
    pub fn peer_serves(&self, ask: &Ask<'_>) -> bool {
        let group = self.groups.iter().find(|group| group.serves(ask.service));
        let fits = |member: &Member| {
            let secure = !ask.secure || member.route.flow.transport == Transport::Tls;
            secure && member.port_capacity != Some(0) && self.is_beyond(member)
        };
        group.is_some_and(|group| group.seats.iter().any(|seat| fits(&self.members[seat.member as usize])))
    }

    /// See [`peer_reaches`](super::Desk::peer_reaches).
    pub fn peer_reaches(&self, resource: ResourceId) -> bool {
        self.key(resource).is_some_and(|key| self.is_beyond(&self.members[key as usize]))
    }

    /// Whether a member is down here, and not where the peer places calls.
    pub(super) fn is_beyond(&self, member: &Member) -> bool {
        let told = |down: &Vec<ResourceId>| down.binary_search(&member.id).is_err();
        let peer = self.told.linked && self.told.places && self.told.down.as_ref().is_some_and(told);
        peer && !member.draining && !member.health.usable()
    }

    /// The key of a call of the group at `at`, if that group has keys and the call shows one.
    pub(super) fn pin_key(&self, at: usize, ask: &Ask<'_>) -> Option<PinKey> {
        let group = &self.groups[at];
        group.pin_by.as_ref().and_then(|by| ask.shows.key(&group.name, by))
    }

    /// A port of the member that the calls of `key` are on, and of no other one.
    pub(super) fn place_pinned(
        &mut self,
        now: Time,
        ask: &Ask<'_>,
        (at, key): (usize, PinKey),
        left: Option<ResourceId>,
    ) -> Result<Grant, Refusal> {
        let before = self.pins.find(now, key);
        let placed = self.choose_pinned(now, ask, (at, key), (left, before));
        placed.map_err(|why| {
            self.pins.stats.refused += 1;
            let code = self.groups[at].noresource_response_code;
            match why {
                Unplaced::Undecided => Refusal::NoMember { code },
                Unplaced::Full => Refusal::Full { code },
            }
        })
    }

    fn choose_pinned(
        &mut self,
        now: Time,
        ask: &Ask<'_>,
        (at, key): (usize, PinKey),
        (left, before): (Option<ResourceId>, Option<Place>),
    ) -> Result<Grant, Unplaced> {
        let (slot, generation) =
            decide(&self.groups[at], |slot| &self.members[slot as usize], key, before, &self.eyes(key))
                .ok_or(Unplaced::Undecided)?;
        let member = &self.members[slot as usize];
        let tried = left == Some(member.id) || ask.tried.contains(&member.id);
        let open = ask.secure && member.route.flow.transport != Transport::Tls;
        if tried || open || !member.health.usable() || member.health.rank(now).is_none() {
            return Err(Unplaced::Undecided);
        }
        if !member.ration.admits(now, self.ledger.count(slot)) {
            self.look_for_ports(now, slot);
            return Err(Unplaced::Full);
        }
        let pin = Pin { key, generation };
        if !self.pins.join(now, pin, member.id) {
            return Err(Unplaced::Full);
        }
        self.pins.stats.moved += u64::from(before.is_some_and(|before| before.generation != generation));
        let member = &mut self.members[slot as usize];
        member.health.chosen(now);
        member.placed += 1;
        let terms = Arc::clone(&self.groups[at].terms);
        let grant = self.grant(slot, ask.leg, (terms, Some(pin)), true);
        self.look_for_ports(now, slot);
        Ok(grant)
    }

    fn eyes(&self, key: PinKey) -> View<'_> {
        let Told { linked, places, down } = &self.told;
        let (Some((me, peer)), false) = (self.nodes(), self.budget == Budget::Whole) else { return View::Own };
        // Who is heard and places no calls decides of none.
        if (*linked && !places) || pins::home(key, me, peer) == me {
            return View::Own;
        }
        match down {
            Some(down) if *linked => View::Theirs(down),
            Some(down) => View::Both(down),
            None => View::Hidden,
        }
    }

    /// This node and the other one that places calls, where two do.
    fn nodes(&self) -> Option<(NodeId, NodeId)> {
        self.lending.as_ref().map(|lending| (lending.tokens.me(), lending.peer))
    }
}

impl View<'_> {
    /// Whether a member is up; `None`: that is not to be said here.
    fn is_up(&self, member: &Member) -> Option<bool> {
        let own = member.health.usable();
        let up = |down: &[ResourceId]| down.binary_search(&member.id).is_err();
        match self {
            View::Own => Some(own),
            View::Theirs(down) => Some(up(down)),
            View::Both(down) => (up(down) == own).then_some(own),
            View::Hidden => own.then_some(true),
        }
    }
}

/// The member of a key, and the number of that decision. `None`: no member is up, or it is not to be said which, or calls with
/// the key live on one that has left the configuration.
fn decide<'a>(
    group: &Group,
    member: impl Fn(u32) -> &'a Member,
    key: PinKey,
    before: Option<Place>,
    view: &View<'_>,
) -> Option<(u32, u32)> {
    // A capacity of 0 is how an operator says that a member shall have no calls.
    let enabled = || group.seats.iter().map(|seat| seat.member).filter(|slot| member(*slot).port_capacity != Some(0));
    let (mut from, mut generation) = (None, 0);
    if let Some(place) = before {
        match enabled().find(|slot| member(*slot).id == place.resource) {
            Some(slot) if view.is_up(member(slot))? => return Some((slot, place.generation)),
            None if place.live => return None,
            _ => {}
        }
        (from, generation) = (Some(pins::rank(key, place.resource)), place.generation);
    }
    for _ in 0..group.seats.len() {
        let ranked = || enabled().map(|slot| (pins::rank(key, member(slot).id), slot));
        let below = ranked().filter(|(rank, _)| from.is_none_or(|from| *rank < from)).max();
        // Behind the last one the first one comes again.
        let (rank, slot) = below.or_else(|| ranked().max())?;
        generation = u32::saturating_add(generation, 1);
        from = Some(rank);
        if view.is_up(member(slot))? {
            return Some((slot, generation));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use super::super::desk::{Outcome, Shows};
    use super::super::escrow::Shares;
    use super::super::group::{Config, GroupConfig, ResourceConfig, Route, SchemeName, Terms};
    use super::super::health::{Monitor, Probe};
    use super::super::pins::PinBy;
    use super::*;
    use crate::base::{Flow, LegId, ListenerId};

    const T0: Time = Time::from_micros(1_000_000);
    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const FULL: Refusal = Refusal::Full { code: 480 };
    const NOBODY: Refusal = Refusal::NoMember { code: 480 };

    impl Shows for PinKey {
        fn key(&self, _: &str, by: &PinBy) -> Option<PinKey> {
            (*by == PinBy::Header("X-Room".into())).then_some(*self)
        }
    }

    fn resource(n: u64, port_capacity: Option<u32>) -> ResourceConfig {
        let remote: SocketAddr = format!("192.0.2.{n}:5070").parse().unwrap();
        let (transport, local) = (Transport::Udp, "192.0.2.254:5060".parse().unwrap());
        let flow = Flow { transport, listener: ListenerId(0), local, remote, conn: None };
        let route = Route { authority: remote.to_string().into(), flow, stream: None, own: None };
        ResourceConfig { id: ResourceId(n), aor: format!("sip:{remote}"), route, aliases: Vec::new(), port_capacity }
    }

    fn config(capacities: &[Option<u32>]) -> Config {
        let second = Duration::from_secs(1);
        let group = GroupConfig {
            name: "g".into(),
            service_types: Vec::new(),
            scheme: SchemeName::RoundRobin,
            monitor: Some(Monitor { interval: second, timeout: second, down_after: 1, up_after: 1 }),
            noresource_response_code: 480,
            terms: Terms { first_response_timeout: second, retry_codes: Vec::new() },
            pin_by: Some(PinBy::Header("X-Room".into())),
            resources: (1..).zip(capacities).map(|(n, c)| resource(n, *c)).collect(),
        };
        Config { groups: vec![group] }
    }

    fn farm(capacities: &[Option<u32>]) -> Farm {
        let mut farm = Farm::new(config(capacities));
        farm.set_pin_linger(Duration::from_secs(32));
        farm
    }

    /// One of two that place calls.
    fn beside(me: NodeId, members: usize) -> Farm {
        let mut farm = farm(&vec![None; members]);
        farm.split(me, if me == A { B } else { A });
        farm.set_budget(T0, Budget::Floor(me, Shares::equal(A, B)));
        farm
    }

    /// Each tells the other what it sees.
    fn meet(farms: &mut [Farm; 2]) {
        for n in 0..2 {
            let down: Vec<ResourceId> = farms[n].down().collect();
            farms[1 - n].hear_sight(true, down.into_iter());
        }
    }

    fn ask(farm: &mut Farm, key: u64, leg: u64) -> Result<Grant, Refusal> {
        let shows = &PinKey(key);
        farm.admit(T0, &Ask { leg: LegId(leg), service: None, secure: false, tried: &[], shows })
    }

    /// Where a call with the key goes that ends at once.
    fn goes(farm: &mut Farm, key: u64) -> Result<(u64, u32), Refusal> {
        let grant = ask(farm, key, 0)?;
        let gone = (grant.resource.0, grant.pin.unwrap().generation);
        farm.release(T0, grant, Outcome::Completed);
        Ok(gone)
    }

    fn end(farm: &mut Farm, grants: impl IntoIterator<Item = Grant>) {
        grants.into_iter().for_each(|grant| farm.release(T0, grant, Outcome::Completed));
    }

    fn set_up(farm: &mut Farm, resource: u64, up: bool) {
        farm.probed(T0, ResourceId(resource), if up { Probe::Answered } else { Probe::Failed });
    }

    /// A key that A decides of, and one that B does, both of this member among so many.
    fn keys_of(resource: u64, members: u64) -> [u64; 2] {
        [A, B].map(|node| {
            let first = |key| (1..=members).map(ResourceId).max_by_key(|id| pins::rank(PinKey(key), *id));
            let fits = |key: &u64| first(*key) == Some(ResourceId(resource)) && pins::home(PinKey(*key), A, B) == node;
            (0..).find(fits).unwrap()
        })
    }

    #[test]
    fn calls_with_one_key_are_on_one_member_and_those_without_are_dealt() {
        let mut farm = farm(&[None; 5]);
        for key in 0..50 {
            let grants: Vec<Grant> = (0..6).map(|leg| ask(&mut farm, key, leg).unwrap()).collect();
            assert!(grants.iter().all(|g| g.resource == grants[0].resource), "key {key}");
            assert_eq!((farm.live_pins(), farm.pinned()), (1, 6));
            end(&mut farm, grants);
        }
        let dealt = |n| Ask { leg: LegId(n), service: None, secure: false, tried: &[], shows: &() };
        let grants: Vec<Grant> = (0..5).map(|n| farm.admit(T0, &dealt(n)).unwrap()).collect();
        assert_eq!(grants.iter().map(|g| g.resource.0).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
        assert!(grants.iter().all(|g| g.pin.is_none()));
        end(&mut farm, grants);
        farm.check().unwrap();
    }

    #[test]
    fn farms_that_see_the_same_decide_alike_and_the_keys_of_a_dead_member_move_as_a_whole() {
        for dead in 1..=7 {
            let mut farms = [beside(A, 7), beside(B, 7)];
            meet(&mut farms);
            let before: Vec<_> = (0..200).map(|key| goes(&mut farms[0], key).unwrap()).collect();
            let there: Vec<_> = (0..200).map(|key| goes(&mut farms[1], key).unwrap()).collect();
            assert_eq!(before, there);
            farms.iter_mut().for_each(|farm| set_up(farm, dead, false));
            meet(&mut farms);
            for (key, before) in (0..200).zip(before) {
                let now = [0, 1].map(|n| goes(&mut farms[n], key).unwrap());
                assert_eq!(now[0], now[1], "key {key}");
                let stays = before.0 != dead;
                assert_eq!((now[0] == before, now[0].1), (stays, if stays { 1 } else { 2 }), "key {key}");
                assert_eq!([0, 1].map(|n| goes(&mut farms[n], key).unwrap()), now, "key {key}");
            }
            // Who never knew them before finds them where they are.
            let mut fresh = beside(A, 7);
            set_up(&mut fresh, dead, false);
            fresh.hear_sight(true, [ResourceId(dead)].into_iter());
            assert!((0..200).all(|key| goes(&mut fresh, key) == goes(&mut farms[0], key)));
        }
    }

    #[test]
    fn a_key_whose_member_is_full_is_refused_and_waits_for_it() {
        let mut farm = farm(&[Some(2), Some(2)]);
        let taken: Vec<Grant> = (0..2).map(|leg| ask(&mut farm, 7, leg).unwrap()).collect();
        assert_eq!(ask(&mut farm, 7, 2).unwrap_err(), FULL);
        assert_eq!(farm.pin_stats(), PinStats { refused: 1, moved: 0 });
        end(&mut farm, taken);
        assert!(ask(&mut farm, 7, 3).map(|grant| end(&mut farm, [grant])).is_ok());
    }

    #[test]
    fn an_invite_that_failed_at_its_member_tries_no_other_one_until_the_key_has_moved() {
        let mut farm = farm(&[None, None, None]);
        let grant = ask(&mut farm, 7, 0).unwrap();
        let first = grant.resource;
        let (tried, shows) = ([first], &PinKey(7));
        let again = Ask { leg: LegId(1), service: None, secure: false, tried: &tried, shows };
        assert_eq!(farm.advance(T0, grant, Outcome::TimedOut, &again).unwrap_err(), NOBODY);
        let grant = ask(&mut farm, 7, 2).unwrap();
        assert_eq!(grant.resource, first);
        set_up(&mut farm, first.0, false);
        let moved = farm.advance(T0, grant, Outcome::TimedOut, &again).unwrap();
        assert_ne!(moved.resource, first);
        assert_eq!((moved.pin.unwrap().generation, farm.pin_stats().moved), (2, 1));
        set_up(&mut farm, first.0, true);
        assert_eq!(goes(&mut farm, 7), Ok((moved.resource.0, 2)), "a call lives there");
        end(&mut farm, [moved]);
    }

    #[test]
    fn a_call_of_the_peer_binds_its_key_here_and_stays_bound_when_it_is_taken_over() {
        let mut farm = farm(&[None; 4]);
        let [key, _] = keys_of(1, 4);
        let pin = Pin { key: PinKey(key), generation: 3 };
        let mut theirs = farm.shadow(T0, ResourceId(3), LegId(1), Some(pin));
        assert_eq!(goes(&mut farm, key), Ok((3, 3)));
        farm.take_over(T0, &mut theirs);
        assert_eq!(goes(&mut farm, key), Ok((3, 3)));
        let rebuilt = farm.adopt(T0, ResourceId(3), LegId(2), theirs.pin).unwrap();
        end(&mut farm, [theirs]);
        assert_eq!((goes(&mut farm, key), farm.live_pins()), (Ok((3, 3)), 1));
        end(&mut farm, [rebuilt]);
        assert_eq!(farm.live_pins(), 0);
    }

    #[test]
    fn where_two_nodes_see_different_things_the_home_of_a_key_decides() {
        let [of_a, of_b] = keys_of(1, 3);
        let mut farms = [beside(A, 3), beside(B, 3)];
        set_up(&mut farms[0], 1, false);
        meet(&mut farms);
        // A, which does not reach it, moves its own key, and B follows.
        let moved = goes(&mut farms[0], of_a).unwrap();
        assert_eq!((moved.0 == 1, goes(&mut farms[1], of_a)), (false, Ok(moved)));
        // B, which does, leaves its own where it is, and A sends nothing elsewhere.
        assert_eq!((goes(&mut farms[1], of_b), goes(&mut farms[0], of_b)), (Ok((1, 1)), Err(NOBODY)));
        // Who is alone decides of all.
        farms[0].set_budget(T0, Budget::Whole);
        assert_ne!(goes(&mut farms[0], of_b).unwrap().0, 1);
    }

    #[test]
    fn a_peer_that_places_no_calls_decides_of_none() {
        let [_, of_b] = keys_of(1, 3);
        let mut farm = beside(A, 3);
        farm.hear_sight(false, [].into_iter());
        set_up(&mut farm, 1, false);
        assert_ne!(goes(&mut farm, of_b).unwrap().0, 1);
        farm.lose_sight();
        let mut again = beside(A, 3);
        again.hear_sight(false, [].into_iter());
        again.lose_sight();
        set_up(&mut again, 1, false);
        assert_eq!(goes(&mut again, of_b), Err(NOBODY), "it may place some by now");
    }

    #[test]
    fn apart_the_node_that_does_not_decide_goes_by_what_both_saw() {
        let [_, of_b] = keys_of(1, 3);
        let apart = |down: &[u64]| {
            let mut farm = beside(A, 3);
            farm.hear_sight(true, down.iter().map(|n| ResourceId(*n)));
            farm.lose_sight();
            farm
        };
        let mut farm = apart(&[]);
        assert_eq!(goes(&mut farm, of_b), Ok((1, 1)), "both saw all of them");
        set_up(&mut farm, 1, false);
        assert_eq!(goes(&mut farm, of_b), Err(NOBODY), "nobody knows whether B sees that");
        let mut farm = apart(&[1]);
        assert_eq!(goes(&mut farm, of_b), Err(NOBODY), "nor whether it is still down there");
        set_up(&mut farm, 1, false);
        assert_eq!(goes(&mut farm, of_b).map(|(_, generation)| generation), Ok(2), "both saw it die");
        let mut unheard = beside(A, 3);
        assert_eq!(goes(&mut unheard, of_b), Ok((1, 1)));
        set_up(&mut unheard, 1, false);
        assert_eq!(goes(&mut unheard, of_b), Err(NOBODY));
    }

    #[test]
    fn a_member_that_left_the_configuration_keeps_its_key_while_a_call_lives_there() {
        let [key, _] = keys_of(2, 2);
        let mut farm = farm(&[None, None]);
        let grant = ask(&mut farm, key, 1).unwrap();
        assert_eq!(grant.resource, ResourceId(2));
        farm.reconfigure(T0, config(&[None]));
        assert_eq!(ask(&mut farm, key, 2).unwrap_err(), NOBODY);
        end(&mut farm, [grant]);
        assert_eq!(goes(&mut farm, key), Ok((1, 2)));
        farm.reconfigure(T0, config(&[None, Some(0)]));
        assert!((0..50).all(|key| goes(&mut farm, 1_000 + key) == Ok((1, 1))), "0 ports are no member");
    }
}
