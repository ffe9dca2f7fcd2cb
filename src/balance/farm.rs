//! The [`Farm`]: one value that holds groups, members and the ledger, and answers for them.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;
use smallvec::SmallVec;

use super::desk::{Ask, Grant, Outcome, Refusal, ResourceView, Vouch};
use super::escrow::{Budget, Reserve};
use super::group::{Config, Group, Member, ResourceConfig, Route, Terms};
use super::health::{Evidence, HealthChange, Monitor, Probe};
use super::ledger::{Count, Ledger};
use super::lending::Lending;
use super::pins::{Pins, Told};
use super::scheme::{self, Blocked};
use crate::base::{Flow, Host, LegId, Pin, ResourceId, Time, Transport};

/// All resources, groups and grants of a node.
///
/// Health changes come from [`Farm::evidence`] and [`Farm::probed`] alone; an [`Outcome`] is only counted. So tell the
/// evidence before the `advance` that it led to. What time changes is worked out when it is looked at: there is no
/// timer to serve.
#[derive(Debug, Default)]
pub struct Farm {
    pub(super) groups: Vec<Group>,
    pub(super) members: Slab<Member>,
    /// Keys of `members` by resource id, which is a hash already.
    index: HashTable<u32>,
    /// The calls of this node and those that it knows of its peer.
    pub(super) ledger: Ledger,
    pub(super) budget: Budget,
    pub(super) reserve: Reserve,
    /// What the nodes lend each other of their shares, where all of them serve.
    pub(super) lending: Option<Lending>,
    /// Which keys bind calls to which members.
    pub(super) pins: Pins,
    pub(super) told: Told,
    /// At most two per resource.
    changes: VecDeque<HealthChange>,
    /// The latest `now` that came in.
    pub(super) seen: Time,
}

/// A ledger reserves this many ports of a member at most; beyond, its set grows as calls come.
const RESERVED_PORTS: u32 = 1_024;

impl Farm {
    /// A Farm with these groups; all members usable until something says otherwise.
    pub fn new(config: Config) -> Self {
        let mut farm = Self::default();
        farm.reconfigure(Time::ZERO, config);
        farm
    }

    /// Replaces the groups. Grants, counts and health of resources that remain (same id) are kept; removed ones drain:
    /// they take no new call, vouch for their hosts and vanish with their last grant. A resource may sit in several
    /// groups: the first one that names it says how it is reached, monitored and limited.
    pub fn reconfigure(&mut self, now: Time, config: Config) {
        self.see(now);
        let before = std::mem::take(&mut self.groups);
        for (_, member) in &mut self.members {
            member.draining = true;
        }
        for wanted in &config.groups {
            let old = before.iter().find(|g| *g.name == *wanted.name);
            let mut group = Group::new(wanted, old);
            for resource in &wanted.resources {
                let key = self.settle(resource, &group, wanted.monitor);
                group.seat(key, old);
            }
            if let Some(old) = old {
                group.resume(old);
            }
            self.groups.push(group);
        }
        let keys: Vec<u32> = self.members.iter().map(|(key, _)| key as u32).collect();
        keys.into_iter().for_each(|key| self.bury(key));
        self.ration();
    }

    /// What this node's own calls may spend from now on; [`Budget::Whole`] at first. Calls that exist stay, also above
    /// a smaller budget.
    pub fn set_budget(&mut self, now: Time, budget: Budget) {
        self.see(now);
        self.budget = budget;
        self.ration();
    }

    /// See [`admit`](super::Desk::admit). The first group in the order of the configuration that serves the service type decides;
    /// when it is full, no other group is asked.
    pub fn admit(&mut self, now: Time, ask: &Ask<'_>) -> Result<Grant, Refusal> {
        self.see(now);
        self.place(now, ask, None)
    }

    /// See [`advance`](super::Desk::advance). The member that is left is not chosen again, whether `ask.tried` names it or not.
    pub fn advance(&mut self, now: Time, grant: Grant, outcome: Outcome, ask: &Ask<'_>) -> Result<Grant, Refusal> {
        let left = grant.resource;
        self.release(now, grant, outcome);
        self.place(now, ask, Some(left))
    }

    /// See [`release`](super::Desk::release).
    pub fn release(&mut self, now: Time, grant: Grant, outcome: Outcome) {
        self.see(now);
        let (key, own) = self.ledger.give_back(grant.slot);
        let member = &mut self.members[key as usize];
        debug_assert_eq!(member.id, grant.resource);
        // Of a call of the peer's, the peer counts how it ended.
        if own && !matches!(outcome, Outcome::Completed | Outcome::Expired) {
            member.failed += 1;
        }
        if let Some(pin) = grant.pin {
            self.pins.leave(now, pin.key);
        }
        if own && self.lending.is_some() {
            self.lend(now, grant.resource);
        }
        self.bury(key);
    }

    /// See [`evidence`](super::Desk::evidence).
    pub fn evidence(&mut self, now: Time, resource: ResourceId, evidence: Evidence) {
        self.see(now);
        let Some(key) = self.key(resource) else { return };
        let change = self.members[key as usize].health.evidence(now, evidence);
        self.changed(resource, change);
    }

    /// See [`adopt`](super::Desk::adopt).
    pub fn adopt(&mut self, now: Time, resource: ResourceId, leg: LegId, pin: Option<Pin>) -> Option<Grant> {
        self.see(now);
        let key = self.key(resource)?;
        let member = &mut self.members[key as usize];
        if member.withheld.at(now) > 0 && self.ledger.legs(key).all(|known| known != leg) {
            // One of those that nobody remembered has shown itself.
            member.withheld.ports -= 1;
            member.ration(&self.budget, self.reserve, self.lending.as_ref());
        }
        Some(self.enter(now, key, (leg, pin), true))
    }

    /// See [`shadow`](super::Desk::shadow).
    pub fn shadow(&mut self, now: Time, resource: ResourceId, leg: LegId, pin: Option<Pin>) -> Grant {
        self.see(now);
        let key = self.key(resource).unwrap_or_else(|| self.open(Member::foreign(resource), 0));
        self.enter(now, key, (leg, pin), false)
    }

    /// See [`take_over`](super::Desk::take_over).
    pub fn take_over(&mut self, now: Time, grant: &mut Grant) {
        self.see(now);
        self.ledger.set_own(grant.slot, true);
    }

    /// See [`hand_over`](super::Desk::hand_over).
    pub fn hand_over(&mut self, now: Time, grant: &mut Grant) {
        self.see(now);
        self.ledger.set_own(grant.slot, false);
    }

    /// See [`vouch`](super::Desk::vouch). Port 0 asks for the host at any port: the source port of a stream says nothing.
    pub fn vouch(&self, resource: ResourceId, host: &Host<'_>, port: u16) -> Vouch {
        match self.key(resource) {
            None => Vouch::NoResource,
            Some(key) if self.members[key as usize].hosts.know(host, port) => Vouch::Known,
            // Only its id is known, from calls of the peer.
            Some(key) if self.members[key as usize].route.authority.is_empty() => Vouch::NoResource,
            Some(_) => Vouch::Stranger,
        }
    }

    /// See [`stream`](super::Desk::stream).
    pub fn stream(&self, resource: ResourceId) -> Option<Flow> {
        self.members[self.key(resource)? as usize].route.stream
    }

    /// See [`learn`](super::Desk::learn).
    pub fn learn(&mut self, resource: ResourceId, host: &Host<'_>, port: u16) -> bool {
        self.key(resource).is_some_and(|key| self.members[key as usize].hosts.learn(host, port))
    }

    /// Hosts that resources have named.
    pub fn learnt(&self) -> impl Iterator<Item = (ResourceId, Host<'_>)> {
        self.members.iter().flat_map(|(_, member)| member.hosts.learnt().map(move |host| (member.id, host)))
    }

    /// The result of one probe.
    pub fn probed(&mut self, now: Time, resource: ResourceId, probe: Probe) {
        self.see(now);
        let Some(key) = self.key(resource) else { return };
        let member = &mut self.members[key as usize];
        member.last_probe = Some(now);
        let change = member.health.probed(now, probe);
        self.changed(resource, change);
    }

    /// Health changes since the last call, from probes and evidence alike; the Hub tells the shards. Only the way down
    /// and the way back are told: suspicion and overload leave running attempts alone.
    pub fn take_changes(&mut self) -> Option<HealthChange> {
        self.changes.pop_front()
    }

    /// Members that are to be probed: id, way, and how.
    pub fn monitored(&self) -> impl Iterator<Item = (ResourceId, &Route, Monitor)> {
        let members = self.members.iter().map(|(_, m)| m).filter(|m| !m.draining);
        members.filter_map(|m| Some((m.id, &*m.route, m.health.monitor()?)))
    }

    /// All resources, in the order of the configuration, removed ones that still drain last. Health is as of the last
    /// `now` that the Farm was told.
    pub fn view(&self) -> Vec<ResourceView> {
        let seated = self.groups.iter().flat_map(|g| g.seats.iter().map(|s| (&*g.name, s.member)));
        let drained = self.members.iter().filter(|(key, m)| m.draining && !self.is_idle(*key as u32));
        let drained = drained.map(|(key, m)| (&*m.group, key as u32));
        seated.chain(drained).map(|(group, key)| self.row(group, key)).collect()
    }

    /// Grants alive, also those of the peer's calls.
    pub fn grants(&self) -> usize {
        self.ledger.len()
    }

    /// All grants, resource by resource: what the legs and attempts of all shards together must hold.
    pub fn held(&self) -> impl Iterator<Item = (ResourceId, LegId)> {
        self.members.iter().flat_map(|(key, m)| self.ledger.legs(key as u32).map(move |leg| (m.id, leg)))
    }

    /// Whether the Farm agrees with itself. For the simulator, after each step.
    pub fn check(&self) -> Result<(), String> {
        self.ledger.check()?;
        self.pins.check()?;
        if self.index.len() != self.members.len() {
            return Err(format!("{} ids for {} members", self.index.len(), self.members.len()));
        }
        for (key, member) in &self.members {
            if self.key(member.id) != Some(key as u32) {
                return Err(format!("{:?} is not found by its id", member.id));
            }
            let left_alone = member.withheld.ports.max(member.unheard.ports);
            if member.draining && self.ledger.count(key as u32).all == 0 && left_alone == 0 {
                return Err(format!("{:?} drained and did not vanish", member.id));
            }
        }
        for seat in self.groups.iter().flat_map(|g| &g.seats) {
            if self.members.get(seat.member as usize).is_none_or(|m| m.draining) {
                return Err(format!("seat {seat:?} is of a member that was removed"));
            }
        }
        Ok(())
    }

    fn place(&mut self, now: Time, ask: &Ask<'_>, left: Option<ResourceId>) -> Result<Grant, Refusal> {
        let at = self.groups.iter().position(|g| g.serves(ask.service)).ok_or(Refusal::NoGroup)?;
        if let Some(key) = self.pin_key(at, ask) {
            return self.place_pinned(now, ask, (at, key), left);
        }
        let group = &mut self.groups[at];
        let open = |member: &Member| ask.secure && member.route.flow.transport != Transport::Tls;
        let skip = |member: &Member| left == Some(member.id) || ask.tried.contains(&member.id) || open(member);
        let choice = match scheme::choose(group, &self.members, &self.ledger, now, skip) {
            Ok(choice) => choice,
            Err(blocked) => {
                let code = group.noresource_response_code;
                let keys: SmallVec<[u32; 16]> = group.seats.iter().map(|seat| seat.member).collect();
                keys.into_iter().for_each(|key| self.look_for_ports(now, key));
                return Err(match blocked {
                    Blocked::Full => Refusal::Full { code },
                    Blocked::NoMember => Refusal::NoMember { code },
                });
            }
        };
        scheme::took(group, choice);
        let (key, terms) = (group.seats[choice.at].member, Arc::clone(&group.terms));
        let member = &mut self.members[key as usize];
        member.health.chosen(now);
        member.placed += 1;
        let grant = self.grant(key, ask.leg, (terms, None), true);
        self.look_for_ports(now, key);
        Ok(grant)
    }

    fn enter(&mut self, now: Time, key: u32, (leg, pin): (LegId, Option<Pin>), own: bool) -> Grant {
        let Member { id, ref terms, .. } = self.members[key as usize];
        let (terms, pin) = (Arc::clone(terms), pin.filter(|pin| self.pins.join(now, *pin, id)));
        self.grant(key, leg, (terms, pin), own)
    }

    /// Puts a member that is not there into the index and the ledger.
    fn open(&mut self, member: Member, ports: usize) -> u32 {
        let id = member.id;
        let key = self.members.insert(member) as u32;
        let members = &self.members;
        self.index.insert_unique(id.0, key, |k| members[*k as usize].id.0);
        self.ledger.open(key, ports);
        key
    }

    pub(super) fn grant(&mut self, key: u32, leg: LegId, (terms, pin): (Arc<Terms>, Option<Pin>), own: bool) -> Grant {
        let member = &self.members[key as usize];
        let slot = self.ledger.take(key, leg, own);
        Grant { resource: member.id, leg, route: Arc::clone(&member.route), terms, pin, slot }
    }

    pub(super) fn key(&self, resource: ResourceId) -> Option<u32> {
        self.index.find(resource.0, |key| self.members[*key as usize].id == resource).copied()
    }

    /// The member of a configured resource, new or as it was.
    fn settle(&mut self, config: &ResourceConfig, group: &Group, monitor: Option<Monitor>) -> u32 {
        let ports = config.port_capacity.unwrap_or(RESERVED_PORTS).min(RESERVED_PORTS) as usize;
        let Some(key) = self.key(config.id) else {
            return self.open(Member::new(config, group, monitor), ports);
        };
        let member = &mut self.members[key as usize];
        if member.draining {
            member.configure(config, group, monitor);
        }
        self.ledger.open(key, ports);
        key
    }

    pub(super) fn ration(&mut self) {
        for (_, member) in &mut self.members {
            member.ration(&self.budget, self.reserve, self.lending.as_ref());
        }
    }

    /// Whether no call is on a member, as far as this node knows, and none may be.
    fn is_idle(&self, key: u32) -> bool {
        let member = &self.members[key as usize];
        let left_alone = member.withheld.at(self.seen).max(member.unheard.at(self.seen));
        self.ledger.count(key).all == 0 && left_alone == 0
    }

    /// Forgets a removed member whose last grant has ended. It may come back with a reload, and with it what is left alone.
    fn bury(&mut self, key: u32) {
        let member = &self.members[key as usize];
        if !member.draining || !self.is_idle(key) {
            return;
        }
        if let Ok(entry) = self.index.find_entry(member.id.0, |k| *k == key) {
            entry.remove();
        }
        self.members.remove(key as usize);
    }

    fn changed(&mut self, resource: ResourceId, change: Option<bool>) {
        let Some(usable) = change else { return };
        // A way down must be heard even if the way back follows at once; older news are outdated.
        self.changes.retain(|c| c.resource != resource || (usable && !c.usable));
        self.changes.push_back(HealthChange { resource, usable });
    }

    fn row(&self, group: &str, key: u32) -> ResourceView {
        let member = &self.members[key as usize];
        let Count { all, own } = self.ledger.count(key);
        let unheard = member.unheard.at(self.seen);
        ResourceView {
            group: group.to_owned(),
            aor: member.name(),
            id: member.id,
            health: if member.draining { "draining" } else { member.health.name(self.seen) },
            reason: match member.health.reason(self.seen) {
                _ if member.draining => "left the configuration",
                _ if self.is_beyond(member) => "the peer alone reaches it, and takes the calls for it",
                "" if member.withheld.at(self.seen) > 0 => "ports of calls that nobody remembers are left alone",
                reason => reason,
            },
            in_use: all,
            own,
            allowance: member.ration.own.map(|most| most.saturating_sub(unheard)),
            withheld: member.withheld.at(self.seen).max(unheard),
            debt: member.port_capacity.map_or(0, |capacity| all.saturating_sub(capacity)),
            capacity: member.port_capacity,
            placed: member.placed,
            failed: member.failed,
            last_probe: member.last_probe.filter(|_| !member.draining && member.health.monitor().is_some()),
        }
    }

    pub(super) fn see(&mut self, now: Time) {
        self.seen = self.seen.max(now);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::net::SocketAddr;
    use std::time::Duration;

    use super::super::escrow::Shares;
    use super::super::group::told_apart;
    use super::super::group::{GroupConfig, ResourceConfig, SchemeName};
    use super::super::health::Doubt;
    use super::*;
    use crate::base::{Flow, ListenerId, NodeId};

    const T0: Time = Time::from_micros(1_000_000);
    const A: NodeId = NodeId(1);

    /// Of node A and one more.
    fn shares(of_a: u16) -> Shares {
        Shares::new(vec![(A, of_a), (NodeId(2), 1_000 - of_a)]).unwrap()
    }

    fn resource(n: u64, port_capacity: Option<u32>) -> ResourceConfig {
        let remote: SocketAddr = format!("192.0.2.{n}:5070").parse().unwrap();
        let local = "192.0.2.254:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local, remote, conn: None };
        let route = Route { authority: remote.to_string().into(), flow, stream: None, own: None };
        ResourceConfig { id: ResourceId(n), aor: format!("sip:{remote}"), route, aliases: Vec::new(), port_capacity }
    }

    fn group(name: &str, scheme: SchemeName, resources: Vec<ResourceConfig>) -> GroupConfig {
        GroupConfig {
            name: name.into(),
            service_types: Vec::new(),
            scheme,
            monitor: None,
            noresource_response_code: 480,
            terms: Terms { first_response_timeout: Duration::from_secs(2), retry_codes: Vec::new() },
            pin_by: None,
            resources,
        }
    }

    fn farm(scheme: SchemeName, capacities: &[Option<u32>]) -> Farm {
        let resources = (1..).zip(capacities).map(|(n, c)| resource(n, *c)).collect();
        Farm::new(Config { groups: vec![group("g", scheme, resources)] })
    }

    fn ask(leg: u64, tried: &[ResourceId]) -> Ask<'_> {
        Ask { leg: LegId(leg), service: None, secure: false, tried, shows: &() }
    }

    fn take_down(farm: &mut Farm, resource: u64) {
        for _ in 0..3 {
            farm.evidence(T0, ResourceId(resource), Evidence::Unreachable);
        }
    }

    /// Chosen resources of `count` calls that end at once.
    fn deal(farm: &mut Farm, count: u64) -> Vec<u64> {
        let one = |leg| {
            let grant = farm.admit(T0, &ask(leg, &[])).unwrap();
            let resource = grant.resource.0;
            farm.release(T0, grant, Outcome::Completed);
            resource
        };
        (0..count).map(one).collect()
    }

    /// SplitMix64: the same numbers in every run.
    struct Dice(u64);

    impl Dice {
        fn below(&mut self, bound: u64) -> u64 {
            self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = self.0;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            (z ^ (z >> 31)) % bound
        }
    }

    /// What the ledger must say: every grant that is alive, and how each resource is limited.
    struct Model {
        farm: Farm,
        /// Calls of this node's own.
        alive: Vec<Grant>,
        /// Calls of the peer's.
        shadows: Vec<Grant>,
        capacities: Vec<Option<u32>>,
        scheme: SchemeName,
        budget: Budget,
    }

    impl Model {
        fn new(scheme: SchemeName, capacities: Vec<Option<u32>>) -> Self {
            let (alive, shadows) = (Vec::new(), Vec::new());
            Model { farm: farm(scheme, &capacities), alive, shadows, capacities, scheme, budget: Budget::Whole }
        }

        fn own(&self, resource: ResourceId) -> u32 {
            self.alive.iter().filter(|g| g.resource == resource).count() as u32
        }

        fn in_use(&self, resource: ResourceId) -> u32 {
            self.own(resource) + self.shadows.iter().filter(|g| g.resource == resource).count() as u32
        }

        fn capacity(&self, resource: ResourceId) -> Option<u32> {
            self.capacities[resource.0 as usize - 1]
        }

        fn may_spend(&self, resource: ResourceId) -> bool {
            let capacity = self.capacity(resource);
            let within = match &self.budget {
                Budget::Whole => true,
                Budget::Floor(node, shares) => {
                    capacity.is_none_or(|c| self.own(resource) < shares.floor(*node, resource, c))
                }
                Budget::Nothing => false,
            };
            within && capacity.is_none_or(|c| self.in_use(resource) < c)
        }

        /// Members that may take a call: untried and with a port left that is this node's to spend.
        fn candidates(&self, tried: &[ResourceId]) -> Vec<ResourceId> {
            let all = (1..=self.capacities.len() as u64).map(ResourceId);
            all.filter(|r| !tried.contains(r) && self.may_spend(*r)).collect()
        }

        /// What the peer says, or the cluster.
        fn under_a_pair(&mut self, dice: &mut Dice, leg: u64) {
            match dice.below(8) {
                0..3 => {
                    let resource = ResourceId(1 + dice.below(self.capacities.len() as u64));
                    self.shadows.push(self.farm.shadow(T0, resource, LegId(leg), None));
                }
                3..5 if !self.shadows.is_empty() => {
                    let grant = self.shadows.swap_remove(dice.below(self.shadows.len() as u64) as usize);
                    self.farm.release(T0, grant, Outcome::TimedOut);
                }
                5 if !self.shadows.is_empty() => {
                    let mut grant = self.shadows.swap_remove(dice.below(self.shadows.len() as u64) as usize);
                    self.farm.take_over(T0, &mut grant);
                    self.alive.push(grant);
                }
                6 if !self.alive.is_empty() => {
                    let mut grant = self.alive.swap_remove(dice.below(self.alive.len() as u64) as usize);
                    self.farm.hand_over(T0, &mut grant);
                    self.shadows.push(grant);
                }
                _ => {
                    self.budget = match dice.below(4) {
                        0 => Budget::Nothing,
                        1 => Budget::Whole,
                        _ => Budget::Floor(A, shares(dice.below(1_001) as u16)),
                    };
                    self.farm.set_budget(T0, self.budget.clone());
                }
            }
        }

        fn judge(&mut self, tried: &[ResourceId], answer: Result<Grant, Refusal>) {
            let candidates = self.candidates(tried);
            match answer {
                Ok(grant) => {
                    assert!(candidates.contains(&grant.resource), "{:?} of {candidates:?}", grant.resource);
                    let share = |r: ResourceId| match self.scheme {
                        SchemeName::RoundRobin => (0, 1),
                        SchemeName::LeastUsed => (self.in_use(r), 1),
                        SchemeName::LeastPercent => self.capacity(r).map_or((0, 1), |c| (self.in_use(r), c)),
                    };
                    let (part, whole) = share(grant.resource);
                    for other in candidates {
                        let (p, w) = share(other);
                        assert!(
                            u64::from(part) * u64::from(w) <= u64::from(p) * u64::from(whole),
                            "{other:?} is less used"
                        );
                    }
                    self.alive.push(grant);
                }
                Err(refusal) => {
                    assert!(candidates.is_empty(), "{refusal:?} with {candidates:?}");
                    let untried = (1..=self.capacities.len() as u64).any(|n| !tried.contains(&ResourceId(n)));
                    let expected = if untried { Refusal::Full { code: 480 } } else { Refusal::NoMember { code: 480 } };
                    assert_eq!(refusal, expected);
                }
            }
        }

        fn compare(&self) {
            self.farm.check().unwrap();
            let all = || self.alive.iter().chain(&self.shadows);
            let mut expected: Vec<_> = all().map(|g| (g.resource, g.leg)).collect();
            let mut held: Vec<_> = self.farm.held().collect();
            expected.sort();
            held.sort();
            assert_eq!(held, expected);
            for row in self.farm.view() {
                let debt = row.capacity.map_or(0, |c| self.in_use(row.id).saturating_sub(c));
                assert_eq!((row.in_use, row.own, row.debt), (self.in_use(row.id), self.own(row.id), debt));
            }
            assert_eq!(self.farm.grants(), all().count());
        }
    }

    fn tried(dice: &mut Dice, members: u64) -> Vec<ResourceId> {
        (0..dice.below(3)).map(|_| ResourceId(1 + dice.below(members))).collect()
    }

    fn run_model(scheme: SchemeName, seed: u64, paired: bool) {
        let mut model = Model::new(scheme, vec![Some(7), Some(3), None, Some(0), Some(11)]);
        let mut dice = Dice(seed);
        for step in 0..10_000 {
            if paired && dice.below(4) == 0 {
                model.under_a_pair(&mut dice, step);
                continue;
            }
            let pick = |dice: &mut Dice, m: &Model| dice.below(m.alive.len() as u64) as usize;
            match dice.below(10) {
                0..5 => {
                    let tried = tried(&mut dice, 5);
                    let answer = model.farm.admit(T0, &ask(step, &tried));
                    model.judge(&tried, answer);
                }
                5..8 if !model.alive.is_empty() => {
                    let at = pick(&mut dice, &model);
                    let grant = model.alive.swap_remove(at);
                    model.farm.release(T0, grant, Outcome::Completed);
                }
                8..10 if !model.alive.is_empty() => {
                    let at = pick(&mut dice, &model);
                    let grant = model.alive.swap_remove(at);
                    let mut tried = tried(&mut dice, 5);
                    let left = grant.resource;
                    let answer = model.farm.advance(T0, grant, Outcome::Refused(500), &ask(step, &tried));
                    tried.push(left);
                    model.judge(&tried, answer);
                }
                _ => {}
            }
            if step % 16 == 0 {
                model.compare();
            }
        }
        model.compare();
        for grant in model.alive.drain(..).chain(model.shadows.drain(..)) {
            model.farm.release(T0, grant, Outcome::Expired);
        }
        model.compare();
        assert_eq!(model.farm.grants(), 0);
    }

    #[test]
    fn ledger_and_schemes_agree_with_the_model() {
        for (scheme, seed) in [(SchemeName::RoundRobin, 1), (SchemeName::LeastUsed, 2), (SchemeName::LeastPercent, 3)] {
            run_model(scheme, seed, false);
            run_model(scheme, seed + 3, true);
        }
    }

    #[test]
    fn round_robin_goes_round() {
        let mut farm = farm(SchemeName::RoundRobin, &[None, None, None]);
        assert_eq!(deal(&mut farm, 7), [1, 2, 3, 1, 2, 3, 1]);
    }

    #[test]
    fn round_robin_stays_even_when_calls_move_on() {
        let mut farm = farm(SchemeName::RoundRobin, &[None; 5]);
        let mut dice = Dice(4);
        let mut counts = BTreeMap::<u64, u64>::new();
        for leg in 0..10_000 {
            let mut tried = Vec::new();
            let mut grant = farm.admit(T0, &ask(leg, &tried)).unwrap();
            *counts.entry(grant.resource.0).or_default() += 1;
            while dice.below(3) == 0 && tried.len() < 2 {
                tried.push(grant.resource);
                grant = farm.advance(T0, grant, Outcome::Refused(503), &ask(leg, &tried)).unwrap();
                *counts.entry(grant.resource.0).or_default() += 1;
            }
            farm.release(T0, grant, Outcome::Completed);
            let (least, most) = (counts.values().min().unwrap(), counts.values().max().unwrap());
            assert!(counts.len() < 5 || most - least <= 1, "{counts:?}");
        }
    }

    #[test]
    fn a_turn_missed_by_a_retry_is_made_good_with_the_next_call() {
        let mut farm = farm(SchemeName::RoundRobin, &[None; 3]);
        let mut grants: Vec<Grant> = (0..3).map(|leg| farm.admit(T0, &ask(leg, &[])).unwrap()).collect();
        let third = grants.remove(2);
        let moved = [grants.remove(0), third].map(|grant| {
            let leg = grant.leg.0;
            farm.advance(T0, grant, Outcome::Refused(500), &ask(leg, &[])).unwrap()
        });
        assert_eq!(moved.each_ref().map(|g| g.resource.0), [2, 1], "1 must not serve itself, nor must 3");
        assert_eq!(deal(&mut farm, 4), [3, 1, 2, 3], "3 still had its turn");
        grants.into_iter().chain(moved).for_each(|g| farm.release(T0, g, Outcome::Completed));
    }

    #[test]
    fn round_robin_does_not_drift_when_many_calls_move_on_at_once() {
        let mut farm = farm(SchemeName::RoundRobin, &[None; 5]);
        let mut dice = Dice(5);
        let mut counts = [0u64; 5];
        let mut count = |grant: &Grant| {
            counts[grant.resource.0 as usize - 1] += 1;
            counts.iter().max().unwrap() - counts.iter().min().unwrap()
        };
        let mut alive: Vec<Grant> = Vec::new();
        for leg in 0..10_000 {
            let grant = farm.admit(T0, &ask(leg, &[])).unwrap();
            assert!(count(&grant) <= 2);
            alive.push(grant);
            if alive.len() == 20 {
                let at = dice.below(20) as usize;
                farm.release(T0, alive.swap_remove(at), Outcome::Completed);
                let grant = alive.swap_remove(dice.below(19) as usize);
                let grant = farm.advance(T0, grant, Outcome::Refused(500), &ask(leg, &[])).unwrap();
                assert!(count(&grant) <= 2);
                alive.push(grant);
            }
        }
        alive.into_iter().for_each(|g| farm.release(T0, g, Outcome::Completed));
    }

    #[test]
    fn a_member_that_was_full_or_away_is_not_flooded() {
        let mut farm = farm(SchemeName::RoundRobin, &[Some(1), None, None]);
        let first = farm.admit(T0, &ask(0, &[])).unwrap();
        assert_eq!(first.resource, ResourceId(1));
        assert_eq!(deal(&mut farm, 6), [2, 3, 2, 3, 2, 3]);
        farm.release(T0, first, Outcome::Completed);
        assert_eq!(deal(&mut farm, 6), [1, 2, 3, 1, 2, 3]);
    }

    #[test]
    fn equal_loads_are_dealt_in_turn() {
        for scheme in [SchemeName::LeastUsed, SchemeName::LeastPercent] {
            let mut farm = farm(scheme, &[Some(4), Some(4), Some(4)]);
            assert_eq!(deal(&mut farm, 6), [1, 2, 3, 1, 2, 3]);
        }
    }

    #[test]
    fn least_percent_fills_by_share() {
        let mut farm = farm(SchemeName::LeastPercent, &[Some(10), Some(30)]);
        let grants: Vec<Grant> = (0..20).map(|leg| farm.admit(T0, &ask(leg, &[])).unwrap()).collect();
        assert_eq!(grants.iter().filter(|g| g.resource == ResourceId(1)).count(), 5);
        grants.into_iter().for_each(|g| farm.release(T0, g, Outcome::Completed));
    }

    #[test]
    fn suspects_serve_before_a_refusal_and_the_dead_never() {
        let mut farm = farm(SchemeName::RoundRobin, &[None, None, None]);
        farm.evidence(T0, ResourceId(1), Evidence::Unreachable);
        assert_eq!(deal(&mut farm, 3), [2, 3, 2]);
        take_down(&mut farm, 2);
        take_down(&mut farm, 3);
        assert_eq!(deal(&mut farm, 3), [1, 1, 1]);
        take_down(&mut farm, 1);
        assert_eq!(farm.admit(T0, &ask(0, &[])).unwrap_err(), Refusal::NoMember { code: 480 });
    }

    #[test]
    fn changes_tell_the_way_down_and_the_way_back() {
        let mut farm = farm(SchemeName::RoundRobin, &[None, None]);
        let told = |resource, usable| Some(HealthChange { resource: ResourceId(resource), usable });
        take_down(&mut farm, 1);
        take_down(&mut farm, 1);
        assert_eq!(farm.take_changes(), told(1, false));
        assert_eq!(farm.take_changes(), None);
        let later = T0 + Duration::from_secs(10);
        let grant = farm.admit(later, &ask(0, &[ResourceId(2)])).unwrap();
        assert_eq!(grant.resource, ResourceId(1), "the trial call");
        farm.evidence(later, ResourceId(1), Evidence::Answered);
        take_down(&mut farm, 2);
        assert_eq!(farm.take_changes(), told(1, true));
        assert_eq!(farm.take_changes(), told(2, false));
        assert_eq!(farm.take_changes(), None);
        farm.release(later, grant, Outcome::Completed);
    }

    #[test]
    fn the_first_group_that_serves_decides() {
        let mut voice = group("voice", SchemeName::RoundRobin, vec![resource(1, Some(0))]);
        voice.service_types = vec!["voicexml".into()];
        voice.noresource_response_code = 486;
        let mut media = group("media", SchemeName::RoundRobin, vec![resource(2, None)]);
        media.service_types = vec!["VoiceXML".into(), "announcement".into()];
        let mut farm = Farm::new(Config { groups: vec![voice, media] });
        let mut admit = |service| {
            let ask = Ask { leg: LegId(0), service, secure: false, tried: &[], shows: &() };
            farm.admit(T0, &ask).map(|g| {
                let resource = g.resource.0;
                farm.release(T0, g, Outcome::Completed);
                resource
            })
        };
        assert_eq!(admit(Some("voicexml")), Err(Refusal::Full { code: 486 }));
        assert_eq!(admit(None), Err(Refusal::Full { code: 486 }));
        assert_eq!(admit(Some("announcement")), Ok(2));
        assert_eq!(admit(Some("conference")), Err(Refusal::NoGroup));
        assert_eq!(Farm::new(Config::default()).admit(T0, &ask(0, &[])).unwrap_err(), Refusal::NoGroup);
    }

    #[test]
    fn a_removed_member_drains_and_vanishes_with_its_last_grant() {
        let mut farm = farm(SchemeName::RoundRobin, &[Some(4), Some(4)]);
        let grant = farm.admit(T0, &ask(7, &[])).unwrap();
        farm.learn(ResourceId(1), &Host::Name(b"mcp1"), 5060);
        let without = || Config { groups: vec![group("g", SchemeName::RoundRobin, vec![resource(2, Some(4))])] };
        farm.reconfigure(T0, without());
        farm.check().unwrap();
        assert_eq!(deal(&mut farm, 3), [2, 2, 2]);
        let rows = farm.view();
        assert_eq!((rows[1].id, rows[1].health, rows[1].in_use), (ResourceId(1), "draining", 1));
        assert_eq!(farm.vouch(ResourceId(1), &Host::Name(b"MCP1"), 5060), Vouch::Known);
        assert_eq!(farm.vouch(ResourceId(1), &Host::Name(b"mcp2"), 5060), Vouch::Stranger);
        farm.release(T0, grant, Outcome::Completed);
        farm.check().unwrap();
        assert_eq!(farm.vouch(ResourceId(1), &Host::Name(b"mcp1"), 5060), Vouch::NoResource);
        assert!(farm.adopt(T0, ResourceId(1), LegId(8), None).is_none());
        assert_eq!(farm.view().len(), 1);
    }

    #[test]
    fn a_name_that_moved_twice_is_three_rows_by_different_names() {
        let named = |n: u64| ResourceConfig { aor: "sip:mcp.example".into(), ..resource(n, None) };
        let only = |n| Config { groups: vec![group("g", SchemeName::RoundRobin, vec![named(n)])] };
        let mut farm = Farm::new(only(1));
        let first = farm.admit(T0, &ask(1, &[])).unwrap();
        farm.reconfigure(T0, only(2));
        let second = farm.admit(T0, &ask(2, &[])).unwrap();
        farm.reconfigure(T0, only(3));
        let rows: Vec<_> = farm.view().into_iter().map(|r| (r.aor, r.health)).collect();
        let drains = |n| (format!("sip:mcp.example (192.0.2.{n}:5070)"), "draining");
        assert_eq!(rows, [("sip:mcp.example".to_owned(), "up"), drains(1), drains(2)]);
        farm.reconfigure(T0, only(1));
        assert_eq!(farm.view()[0].aor, "sip:mcp.example", "it is back");
        [first, second].into_iter().for_each(|grant| farm.release(T0, grant, Outcome::Completed));
    }

    #[test]
    fn an_address_that_the_aor_spells_is_not_told_twice() {
        let six = "[2001:db8::1]:5060".parse().unwrap();
        let four = "192.0.2.1:5060".parse().unwrap();
        for (aor, remote) in [("sip:192.0.2.1", four), ("sip:192.0.2.1:5060", four), ("sip:[2001:db8::1]", six)] {
            assert_eq!(told_apart(aor, remote), aor);
        }
        for aor in ["sip:192.0.2.1.example", "sip:mcp-192.0.2.1.example:5060", "sip:192.0.2.10"] {
            assert_eq!(told_apart(aor, four), format!("{aor} (192.0.2.1:5060)"));
        }
    }

    #[test]
    fn a_probe_counts_only_for_who_is_probed() {
        let probed = Some(Monitor {
            interval: Duration::from_secs(3),
            timeout: Duration::from_secs(1),
            down_after: 3,
            up_after: 2,
        });
        let of = |monitor| {
            let group = group("g", SchemeName::RoundRobin, vec![resource(1, None)]);
            Config { groups: vec![GroupConfig { monitor, ..group }] }
        };
        let mut farm = Farm::new(of(probed));
        farm.probed(T0, ResourceId(1), Probe::Answered);
        assert_eq!(farm.view()[0].last_probe, Some(T0));
        farm.reconfigure(T0, of(None));
        assert_eq!(farm.view()[0].last_probe, None, "not monitored any more");
        farm.reconfigure(T0, of(probed));
        assert_eq!(farm.view()[0].last_probe, Some(T0));
        let grant = farm.admit(T0, &ask(1, &[])).unwrap();
        farm.reconfigure(T0, Config::default());
        assert_eq!((farm.view()[0].health, farm.view()[0].last_probe), ("draining", None));
        farm.release(T0, grant, Outcome::Completed);
    }

    #[test]
    fn a_call_of_the_peer_on_a_member_that_is_not_configured_here_is_counted_all_the_same() {
        let mut farm = farm(SchemeName::RoundRobin, &[Some(4)]);
        let grants = [8, 9].map(|leg| farm.shadow(T0, ResourceId(2), LegId(leg), None));
        farm.check().unwrap();
        let row = farm.view().pop().unwrap();
        assert_eq!((row.id, row.health, row.in_use, row.own), (ResourceId(2), "draining", 2, 0));
        assert_eq!(deal(&mut farm, 2), [1, 1], "no new call goes there");
        let [first, second] = grants;
        farm.release(T0, first, Outcome::Completed);
        let both = (1..3).map(|n| resource(n, Some(4))).collect();
        farm.reconfigure(T0, Config { groups: vec![group("g", SchemeName::RoundRobin, both)] });
        farm.check().unwrap();
        let row = farm.view().pop().unwrap();
        assert_eq!((row.aor.as_str(), row.health, row.in_use), ("sip:192.0.2.2:5070", "up", 1));
        farm.release(T0, second, Outcome::Completed);
        let _third = farm.shadow(T0, ResourceId(3), LegId(9), None);
        assert_eq!(farm.view().len(), 3);
    }

    #[test]
    fn what_remains_keeps_grants_health_and_its_turn() {
        let config = |capacity| {
            let resources = (1..4).map(|n| resource(n, capacity)).collect();
            Config { groups: vec![group("g", SchemeName::RoundRobin, resources)] }
        };
        let mut farm = Farm::new(config(Some(4)));
        let grant = farm.admit(T0, &ask(0, &[])).unwrap();
        take_down(&mut farm, 2);
        farm.reconfigure(T0, config(Some(1)));
        farm.check().unwrap();
        assert_eq!((farm.view()[0].in_use, farm.view()[1].health), (1, "down"));
        assert_eq!(deal(&mut farm, 2), [3, 3], "1 is full, 2 is down");
        farm.release(T0, grant, Outcome::Completed);
        assert_eq!(deal(&mut farm, 3), [1, 3, 1]);
    }

    #[test]
    fn adopted_grants_are_debt_that_blocks_new_calls() {
        let mut farm = farm(SchemeName::LeastUsed, &[Some(1)]);
        let adopted: Vec<Grant> = (0..3).map(|n| farm.adopt(T0, ResourceId(1), LegId(n), None).unwrap()).collect();
        assert_eq!((farm.view()[0].in_use, farm.view()[0].placed, farm.view()[0].debt), (3, 0, 2));
        for grant in adopted {
            assert_eq!(farm.admit(T0, &ask(9, &[])).unwrap_err(), Refusal::Full { code: 480 });
            farm.release(T0, grant, Outcome::Expired);
        }
        assert_eq!(deal(&mut farm, 1), [1]);
    }

    #[test]
    fn calls_of_the_peer_take_room_and_spend_no_budget() {
        let mut farm = farm(SchemeName::LeastUsed, &[Some(10)]);
        farm.set_budget(T0, Budget::Floor(A, shares(300)));
        let mut theirs: Vec<Grant> = (0..6).map(|n| farm.shadow(T0, ResourceId(1), LegId(n), None)).collect();
        let mine: Vec<Grant> = (10..13).map(|n| farm.admit(T0, &ask(n, &[])).unwrap()).collect();
        assert_eq!(farm.admit(T0, &ask(20, &[])).unwrap_err(), Refusal::Full { code: 480 }, "3 of 10 are A's");
        let row = &farm.view()[0];
        assert_eq!((row.in_use, row.own, row.allowance, row.debt), (9, 3, Some(3), 0));
        farm.set_budget(T0, Budget::Whole);
        let last = farm.admit(T0, &ask(21, &[])).unwrap();
        assert_eq!(farm.admit(T0, &ask(22, &[])).unwrap_err(), Refusal::Full { code: 480 }, "theirs take room");
        theirs.iter_mut().for_each(|grant| farm.take_over(T0, grant));
        assert_eq!((farm.view()[0].own, farm.view()[0].allowance), (10, None));
        let end = |farm: &mut Farm, grants: Vec<Grant>| {
            grants.into_iter().for_each(|g| farm.release(T0, g, Outcome::Unreachable));
        };
        end(&mut farm, mine);
        theirs.iter_mut().for_each(|grant| farm.hand_over(T0, grant));
        end(&mut farm, theirs);
        assert_eq!((farm.view()[0].failed, farm.view()[0].own), (3, 1), "how theirs ended, the peer counts");
        end(&mut farm, vec![last]);
    }

    #[test]
    fn a_node_without_a_budget_keeps_its_calls_and_takes_no_other() {
        let mut farm = farm(SchemeName::RoundRobin, &[Some(2), None]);
        let grant = farm.admit(T0, &ask(1, &[])).unwrap();
        farm.set_budget(T0, Budget::Nothing);
        let refusal = farm.advance(T0, grant, Outcome::Refused(500), &ask(1, &[])).unwrap_err();
        assert_eq!(refusal, Refusal::Full { code: 480 }, "unlimited is not its to spend either");
        let adopted = farm.adopt(T0, ResourceId(1), LegId(2), None).unwrap();
        farm.set_budget(T0, Budget::Floor(A, shares(0)));
        let grant = farm.admit(T0, &ask(3, &[])).unwrap();
        assert_eq!(grant.resource, ResourceId(2), "a floor does not bound what is unlimited");
        for grant in [adopted, grant] {
            farm.release(T0, grant, Outcome::Completed);
        }
    }

    #[test]
    fn what_a_dead_node_may_have_spent_is_left_alone_for_a_lease_and_so_by_the_next_node() {
        let farm_of = || farm(SchemeName::LeastUsed, &[Some(10), None]);
        let full = |farm: &mut Farm, now| {
            let most = |farm: &mut Farm, leg| farm.admit(now, &ask(leg, &[ResourceId(2)])).ok();
            (0..20).map_while(|leg| most(farm, 100 + leg)).collect::<Vec<Grant>>()
        };
        let (mut here, mut next) = (farm_of(), farm_of());
        // B's share is 7; two of its calls are known, and one is this node's own.
        let theirs: Vec<Grant> = (0..2).map(|n| here.shadow(T0, ResourceId(1), LegId(n), None)).collect();
        let own = here.admit(T0, &ask(9, &[ResourceId(2)])).unwrap();
        let until = T0 + Duration::from_secs(60);
        here.withhold(T0, &Budget::Floor(NodeId(2), shares(300)), until);
        let row = &here.view()[0];
        assert_eq!((row.in_use, row.withheld, row.allowance), (3, 5, None));
        assert!(row.reason.contains("left alone") && here.view()[1].reason.is_empty(), "{}", row.reason);
        let new = full(&mut here, T0);
        assert_eq!(new.len(), 2, "of ten three are in use and five left alone");

        let told: Vec<Doubt> = here.doubts(T0).collect();
        assert_eq!(told, [Doubt { withheld: 5, withheld_until: until, ..Doubt::of(ResourceId(1)) }]);
        told.iter().for_each(|doubt| next.hear(T0, doubt));
        let there = full(&mut next, T0);
        assert_eq!((there.len(), next.view()[0].withheld), (5, 5));

        assert_eq!(here.doubts(until).count(), 0);
        let last = full(&mut here, until);
        assert_eq!((last.len(), here.view()[0].withheld, here.view()[0].reason), (5, 0, ""));
        new.into_iter().chain(last).chain(theirs).chain([own]).for_each(|g| here.release(until, g, Outcome::Completed));
        there.into_iter().for_each(|g| next.release(until, g, Outcome::Completed));
    }

    #[test]
    fn a_call_that_shows_itself_is_one_of_those_that_ports_were_left_alone_for() {
        let mut farm = farm(SchemeName::LeastUsed, &[Some(10)]);
        let until = T0 + Duration::from_secs(60);
        let known = farm.shadow(T0, ResourceId(1), LegId(1), None);
        farm.withhold(T0, &Budget::Floor(NodeId(2), shares(300)), until);
        let counts = |farm: &Farm| (farm.view()[0].in_use, farm.view()[0].withheld);
        let again = farm.adopt(T0, ResourceId(1), LegId(1), None).unwrap();
        assert_eq!(counts(&farm), (2, 6), "that one was known");
        farm.release(T0, again, Outcome::Completed);
        let found: Vec<Grant> = (2..5).map(|leg| farm.adopt(T0, ResourceId(1), LegId(leg), None).unwrap()).collect();
        assert_eq!(counts(&farm), (4, 3));
        let new: Vec<Grant> = (20..).map_while(|leg| farm.admit(T0, &ask(leg, &[])).ok()).collect();
        assert_eq!(new.len(), 3);
        found.into_iter().chain(new).chain([known]).for_each(|grant| farm.release(T0, grant, Outcome::Completed));
    }

    #[test]
    fn what_is_left_alone_outlives_a_reload_without_the_member() {
        let mut farm = farm(SchemeName::LeastUsed, &[Some(10), Some(10)]);
        let config = |members: u64| {
            let resources = (1..=members).map(|n| resource(n, Some(10))).collect();
            Config { groups: vec![group("g", SchemeName::LeastUsed, resources)] }
        };
        let until = T0 + Duration::from_secs(60);
        farm.withhold(T0, &Budget::Floor(NodeId(2), shares(300)), until);
        farm.reconfigure(T0, config(1));
        farm.check().unwrap();
        assert_eq!((farm.view()[1].health, farm.view()[1].withheld), ("draining", 7));
        farm.reconfigure(T0, config(2));
        assert_eq!((farm.view()[1].health, farm.view()[1].withheld), ("up", 7));
        farm.reconfigure(T0, config(1));
        farm.probed(until, ResourceId(1), Probe::Answered);
        farm.check().unwrap();
        assert_eq!(farm.view().len(), 1, "a lease has passed");
        farm.reconfigure(until, config(1));
        assert_eq!(farm.members.len(), 1);
    }

    #[test]
    fn a_budget_outlives_a_reload() {
        let mut farm = farm(SchemeName::RoundRobin, &[Some(100)]);
        farm.set_budget(T0, Budget::Floor(A, shares(250)));
        let until = T0 + Duration::from_secs(60);
        farm.set_reserve(T0, Reserve { per_mille: 900, until });
        let resources = vec![resource(1, Some(20)), resource(2, Some(40))];
        farm.reconfigure(T0, Config { groups: vec![group("g", SchemeName::RoundRobin, resources)] });
        let allowances: Vec<_> = farm.view().iter().map(|r| r.allowance).collect();
        assert_eq!(allowances, [Some(5), Some(10)]);
        let cold: Vec<Grant> = (0..).map_while(|leg| farm.admit(T0, &ask(leg, &[])).ok()).collect();
        assert_eq!(cold.len(), 2 + 4, "nine tenths are held back");
        let warm: Vec<Grant> = (0..).map_while(|leg| farm.admit(until, &ask(leg, &[])).ok()).collect();
        assert_eq!(warm.len(), 3 + 6);
        cold.into_iter().chain(warm).for_each(|g| farm.release(until, g, Outcome::Completed));
    }

    #[test]
    fn placed_and_failed_count_invites() {
        let mut farm = farm(SchemeName::RoundRobin, &[None, None]);
        let grant = farm.admit(T0, &ask(1, &[])).unwrap();
        let grant = farm.advance(T0, grant, Outcome::TimedOut, &ask(1, &[])).unwrap();
        farm.release(T0, grant, Outcome::Completed);
        let counts: Vec<_> = farm.view().iter().map(|r| (r.placed, r.failed)).collect();
        assert_eq!(counts, [(1, 1), (1, 0)]);
    }
}
