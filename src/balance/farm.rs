//! The [`Farm`]: one value that holds groups, members and the ledger, and answers for them.

use std::collections::VecDeque;
use std::sync::Arc;

use hashbrown::HashTable;
use slab::Slab;

use super::desk::{Ask, Grant, Outcome, Refusal, ResourceView, Vouch};
use super::group::{Config, Group, Member, ResourceConfig, Route, Terms};
use super::health::{Evidence, HealthChange, Monitor, Probe};
use super::ledger::Ledger;
use super::scheme::{self, Blocked};
use crate::base::{Host, LegId, ResourceId, Time};

/// All resources, groups and grants of a node.
///
/// Health changes come from [`Farm::evidence`] and [`Farm::probed`] alone; an [`Outcome`] is only counted. So tell the
/// evidence before the `advance` that it led to. What time changes is worked out when it is looked at: there is no
/// timer to serve.
#[derive(Debug, Default)]
pub struct Farm {
    groups: Vec<Group>,
    members: Slab<Member>,
    /// Keys of `members` by resource id, which is a hash already.
    index: HashTable<u32>,
    ledger: Ledger,
    /// At most two per resource.
    changes: VecDeque<HealthChange>,
    /// The latest `now` that came in.
    seen: Time,
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
        let key = self.ledger.give_back(grant.slot);
        let member = &mut self.members[key as usize];
        debug_assert_eq!(member.id, grant.resource);
        if !matches!(outcome, Outcome::Completed | Outcome::Expired) {
            member.failed += 1;
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
    pub fn adopt(&mut self, now: Time, resource: ResourceId, leg: LegId) -> Option<Grant> {
        self.see(now);
        let key = self.key(resource)?;
        let terms = Arc::clone(&self.members[key as usize].terms);
        Some(self.grant(key, leg, terms))
    }

    /// See [`vouch`](super::Desk::vouch). Port 0 asks for the host at any port: the source port of a stream says nothing.
    pub fn vouch(&self, resource: ResourceId, host: &Host<'_>, port: u16) -> Vouch {
        match self.key(resource) {
            None => Vouch::NoResource,
            Some(key) if self.members[key as usize].hosts.know(host, port) => Vouch::Known,
            Some(_) => Vouch::Stranger,
        }
    }

    /// See [`learn`](super::Desk::learn).
    pub fn learn(&mut self, resource: ResourceId, host: &Host<'_>) {
        if let Some(key) = self.key(resource) {
            self.members[key as usize].hosts.learn(host);
        }
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
        let drained = self.members.iter().filter(|(_, m)| m.draining).map(|(key, m)| (&*m.group, key as u32));
        seated.chain(drained).map(|(group, key)| self.row(group, key)).collect()
    }

    /// Grants alive.
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
        if self.index.len() != self.members.len() {
            return Err(format!("{} ids for {} members", self.index.len(), self.members.len()));
        }
        for (key, member) in &self.members {
            if self.key(member.id) != Some(key as u32) {
                return Err(format!("{:?} is not found by its id", member.id));
            }
            if member.draining && self.ledger.count(key as u32) == 0 {
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
        let group = self.groups.iter_mut().find(|g| g.serves(ask.service)).ok_or(Refusal::NoGroup)?;
        let skip = |id| left == Some(id) || ask.tried.contains(&id);
        let at = scheme::choose(group, &self.members, &self.ledger, now, skip).map_err(|blocked| {
            let code = group.noresource_response_code;
            match blocked {
                Blocked::Full => Refusal::Full { code },
                Blocked::NoMember => Refusal::NoMember { code },
            }
        })?;
        scheme::took(group, at);
        let (key, terms) = (group.seats[at].member, Arc::clone(&group.terms));
        let member = &mut self.members[key as usize];
        member.health.chosen(now);
        member.placed += 1;
        Ok(self.grant(key, ask.leg, terms))
    }

    fn grant(&mut self, key: u32, leg: LegId, terms: Arc<Terms>) -> Grant {
        let member = &self.members[key as usize];
        let slot = self.ledger.take(key, leg);
        Grant { resource: member.id, leg, route: Arc::clone(&member.route), terms, slot }
    }

    fn key(&self, resource: ResourceId) -> Option<u32> {
        self.index.find(resource.0, |key| self.members[*key as usize].id == resource).copied()
    }

    /// The member of a configured resource, new or as it was.
    fn settle(&mut self, config: &ResourceConfig, group: &Group, monitor: Option<Monitor>) -> u32 {
        let key = match self.key(config.id) {
            Some(key) => {
                let member = &mut self.members[key as usize];
                if member.draining {
                    member.configure(config, group, monitor);
                }
                key
            }
            None => {
                let key = self.members.insert(Member::new(config, group, monitor)) as u32;
                let members = &self.members;
                self.index.insert_unique(config.id.0, key, |k| members[*k as usize].id.0);
                key
            }
        };
        self.ledger.open(key, config.port_capacity.unwrap_or(RESERVED_PORTS).min(RESERVED_PORTS) as usize);
        key
    }

    /// Forgets a removed member whose last grant has ended.
    fn bury(&mut self, key: u32) {
        let member = &self.members[key as usize];
        if !member.draining || self.ledger.count(key) > 0 {
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
        ResourceView {
            group: group.to_owned(),
            aor: member.aor.clone(),
            id: member.id,
            health: if member.draining { "draining" } else { member.health.name(self.seen) },
            in_use: self.ledger.count(key),
            capacity: member.port_capacity,
            placed: member.placed,
            failed: member.failed,
            last_probe: member.last_probe,
        }
    }

    fn see(&mut self, now: Time) {
        self.seen = self.seen.max(now);
    }
}
