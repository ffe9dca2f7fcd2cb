//! Ports on which calls may live of which this node does not know: they are left alone until such a call would have shown
//! itself.

use super::escrow::{Budget, Reserve, Withheld};
use super::farm::Farm;
use super::health::Doubt;
use crate::base::{ResourceId, Time};

impl Farm {
    /// What is left alone after a cold start; replaces what was.
    pub fn set_reserve(&mut self, now: Time, reserve: Reserve) {
        self.see(now);
        self.reserve = reserve;
        self.ration();
    }

    /// A node is dead, and may have given so much to calls that nobody has heard of: what is not known of that is left alone
    /// until then. To be told before its calls become this node's own.
    pub fn withhold(&mut self, now: Time, spent: &Budget, until: Time) {
        self.see(now);
        for (key, member) in &mut self.members {
            let Some(limit) = member.port_capacity else { continue };
            let count = self.ledger.count(key as u32);
            let theirs = match (&self.lending, spent) {
                // What it had been lent as well, and not what it had lent.
                (Some(lending), Budget::Floor(node, _)) if lending.is_open() => {
                    lending.allowance(member.id, *node, limit).min(limit)
                }
                // Nobody here knows what it had been lent.
                (Some(_), Budget::Floor(..)) => limit,
                _ => spent.own(member.id, Some(limit)).unwrap_or(limit),
            };
            member.withheld = member.withheld.and(now, theirs, limit, count, until);
        }
        self.ration();
    }

    /// Ports that calls of this node's own hold, of each resource where there are any.
    pub fn own_ports(&self) -> impl Iterator<Item = (ResourceId, u32)> {
        let held = self.members.iter().map(|(key, member)| (member.id, self.ledger.count(key as u32).own));
        held.filter(|(_, own)| *own > 0)
    }

    /// Calls of the peer hold `ports` of a resource: those that are not known are left alone until then.
    pub fn leave_of_peer(&mut self, now: Time, resource: ResourceId, ports: u32, until: Time) {
        self.see(now);
        let Some(key) = self.key(resource) else { return };
        let count = self.ledger.count(key);
        let member = &mut self.members[key as usize];
        let unknown = ports.saturating_sub(count.all - count.own);
        if unknown > member.withheld.at(now) {
            member.withheld = Withheld { ports: unknown, until: member.withheld.until.max(until) };
            member.ration(&self.budget, self.reserve, self.lending.as_ref());
        }
    }

    /// The peer leaves ports alone on which calls of an earlier life of this node may be, of which nobody knows: they are of
    /// this node's own share.
    pub fn hear_own(&mut self, now: Time, doubt: &Doubt) {
        self.see(now);
        if let Some(key) = self.key(doubt.resource) {
            let member = &mut self.members[key as usize];
            if doubt.withheld > member.unheard.at(now) {
                member.unheard = Withheld { ports: doubt.withheld, until: doubt.withheld_until };
                member.ration(&self.budget, self.reserve, self.lending.as_ref());
            }
        }
    }
}
