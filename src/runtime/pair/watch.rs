//! What is watched beside the peer: the guard of the addresses, this process itself, what it reaches.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use super::facts::Facts;
use super::machine::{Pair, REACH, STUCK, WORK};
use crate::base::{Epoch, Time};
use crate::cluster::{self, Input, Level, Notice, Role, Word};
use crate::runtime::snmp::{self, Trap};
use crate::runtime::sys;
use crate::runtime::vip::{self, Event, Mac};
use crate::runtime::witness::Watch;

/// Whose addresses a guard has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    /// Those that are here while this node serves.
    Own = 0,
    /// Those of the peer, where each node has its own.
    Peer = 1,
    /// Those that are with who is active, where each node has its own, too.
    Lead = 2,
}

impl Pair {
    pub(super) fn notice(&self, notice: &Notice) {
        match notice.level() {
            Level::Info => tracing::info!("{notice}"),
            Level::Warn => tracing::warn!("{notice}"),
        }
        match *notice {
            Notice::PathSilent(peer, path) => self.links.path(peer, path, false),
            Notice::PathHeard(peer, path) => self.links.path(peer, path, true),
            _ => {}
        }
        let event = match notice {
            Notice::Claimed(..) => snmp::Event::BecameActive,
            Notice::Follows(_)
            | Notice::Yielded(_)
            | Notice::HandedOver(_)
            | Notice::Withdrew
            | Notice::StoodDown(_) => snmp::Event::BecameStandby,
            Notice::PeerSilent(_) | Notice::PeerDead(..) => snmp::Event::PeerLost,
            Notice::PeerHeard(_) => snmp::Event::PeerBack,
            Notice::Stranger => snmp::Event::VipConflict,
            _ => return,
        };
        self.trap(event, notice.to_string());
    }

    fn trap(&self, event: snmp::Event, cause: String) {
        let facts = self.facts.lock();
        let role = if facts.role == Role::Active { snmp::Role::Active } else { snmp::Role::Standby };
        self.traps.send(Trap { event, role, epoch: facts.epoch, cause });
    }

    /// Who is asked which node goes on when they do not hear each other. Comes before the heart.
    pub fn watch_by(&self, witness: Watch) {
        let _ = self.witness.set(witness);
    }

    /// What the witness said; `None`: it is silent.
    pub fn witnessed(&self, word: Option<Word>) {
        self.tell(sys::now(), Input::Witness(word));
        self.nudge();
    }

    /// What the guards say of the addresses.
    pub(super) fn hear_guard(&self, now: Time) {
        // What makes this node claim again comes last: it puts back what both have lost.
        while let Some(event) = self.guest.as_ref().and_then(vip::Vip::event) {
            self.guard_says(now, Whose::Peer, event);
        }
        while let Some(event) = self.lead.as_ref().and_then(vip::Vip::event) {
            self.guard_says(now, Whose::Lead, event);
        }
        while let Some(event) = self.vip.event() {
            self.guard_says(now, Whose::Own, event);
        }
    }

    fn guard_says(&self, now: Time, whose: Whose, event: Event) {
        let n = whose as usize;
        match event {
            Event::Held { epoch } if whose == Whose::Own => self.held(now, epoch),
            Event::Held { .. } if whose == Whose::Lead => {}
            Event::Held { .. } => {
                tracing::info!("the service addresses of the peer are here: this node stands in for it")
            }
            Event::Dropped { cause: vip::Cause::Wished } if whose == Whose::Peer => {
                tracing::debug!("the service addresses of the peer are not here");
            }
            Event::Quiet | Event::Dropped { cause: vip::Cause::Wished } => {}
            Event::ProbeAnswered { ip, mac } => self.answered(now, ip, mac),
            Event::ProbeEnded => {
                let strange = self.cards.lock().strange();
                self.probed(now, if strange { cluster::Answer::Stranger } else { cluster::Answer::Nobody });
            }
            Event::CarrierBack { .. } => self.mended(now, &event, |facts| facts.dark[n] = false),
            Event::GuardBack => self.mended(now, &event, |facts| facts.guarded[n] = true),
            Event::AddressDeleted { ip } => {
                tracing::warn!("somebody deleted the virtual address {ip} from this host; it was put back");
            }
            // Each node has had the addresses of both: who gives them back hears who gets them.
            Event::Stranger { mac, .. } if self.guest.is_some() && !self.cards.lock().is_strange(mac) => {}
            Event::Stranger { ip, mac } => self.name_stranger(ip, mac),
            Event::CarrierLost { .. } => {
                tracing::warn!("the virtual addresses cannot be held here: {event}");
                if let Ok(carried) = sys::carried_addresses() {
                    // What would be said over that cable now would be waited for in vain.
                    self.links.leave(&carried);
                }
                self.usable(now, |facts| facts.dark[n] = true);
            }
            Event::GuardDied => {
                tracing::warn!("the virtual addresses cannot be held here: {event}");
                self.usable(now, |facts| facts.guarded[n] = false);
            }
            Event::Dropped { .. } | Event::Failed { .. } => {
                tracing::warn!("the virtual addresses are not held here any more: {event}");
                self.tell(now, if whose == Whose::Peer { Input::GuestDropped } else { Input::Dropped });
            }
            Event::Hindered { reason } => tracing::warn!("{reason}"),
        }
    }

    /// Something that holding addresses here depends on is there again; something else may still be missing.
    fn mended(&self, now: Time, event: &Event, learn: impl FnOnce(&mut Facts)) {
        if self.usable(now, learn) {
            tracing::info!("the virtual addresses can be held here again: {event}");
        } else {
            tracing::info!("{event}");
        }
    }

    /// Something that holding addresses here depends on has changed; whether they can be held.
    fn usable(&self, now: Time, learn: impl FnOnce(&mut Facts)) -> bool {
        let mut facts = self.facts.lock();
        learn(&mut facts);
        let usable = facts.guarded == [true; 3] && facts.dark == [false; 3];
        drop(facts);
        self.tell(now, Input::Usable(usable));
        usable
    }

    /// The addresses are here, as the claim of `epoch` wanted.
    fn held(&self, now: Time, epoch: Epoch) {
        let mut facts = self.facts.lock();
        facts.took = facts.claimed.take().map(|since| now.since(since)).or(facts.took);
        let latest = facts.epoch == epoch;
        drop(facts);
        if latest {
            self.driver.node.addresses(now, true);
            self.driver.nudge();
        }
    }

    /// Somebody answers for an address that nobody may hold now. A member that does may be alive, whoever else does.
    fn answered(&self, now: Time, ip: IpAddr, mac: Mac) {
        let answered = self.cards.lock().answered(mac);
        match answered {
            Ok(()) => self.probed(now, cluster::Answer::Somebody),
            Err(true) => self.name_stranger(ip, mac),
            Err(false) => {}
        }
    }

    fn name_stranger(&self, ip: IpAddr, mac: Mac) {
        tracing::warn!("another host, {mac}, claims the virtual address {ip}; find it and change its address");
        self.trap(snmp::Event::VipConflict, format!("{mac} claims {ip}"));
    }

    fn probed(&self, now: Time, address: cluster::Answer) {
        self.tell(now, Input::Probed { address, reference: None });
    }

    /// Whether this process works: the guard's kick, the node's fitness, what it reaches.
    pub(super) fn look_at_self(&self, now: Time) {
        self.driver.look_for_waiting();
        let turning = |limit| self.pulses.get().is_none_or(|all| all.iter().all(|pulse| pulse.beats(now, limit)));
        let node = &self.driver.node;
        let entitled = now <= node.authority() || !node.is_active_now() || node.is_passing_on();
        if entitled && turning(WORK) {
            self.vip.kick();
            self.guest.iter().chain(&self.lead).for_each(vip::Vip::kick);
        }
        let concerned = node.is_concerned();
        if std::mem::replace(&mut self.facts.lock().concerned, concerned) && !concerned {
            // Their other ends speak with the other node now, and what is written here would be lost when the role is back.
            self.driver.streams.leave(|ip| node.shares(ip));
        }
        let sound = self.driver.node.is_fit() && turning(STUCK);
        let waited = self.driver.waited();
        let fitness = self.facts.lock().watched.look(now, sound, waited);
        let changed = std::mem::replace(&mut self.facts.lock().fitness, fitness) != fitness;
        if changed {
            self.tell(now, Input::Fit(fitness));
        }
        if now >= self.facts.lock().next_reach {
            self.facts.lock().next_reach = now + REACH;
            self.look_around(now);
        }
        let armed = self.driver.node.is_armed();
        let changed = std::mem::replace(&mut self.facts.lock().armed, armed) != armed;
        if changed {
            let (event, text) = match armed {
                true => (snmp::Event::Armed, "the pair is armed: either node can fail without a loss"),
                false => (snmp::Event::NotArmed, "the pair is not armed: a failure now would lose calls"),
            };
            tracing::info!("{text}");
            self.trap(event, text.into());
        }
    }

    fn look_around(&self, now: Time) {
        let reach = self.reach.lock().look(now);
        let changed = self.facts.lock().reach.replace(reach) != Some(reach);
        if changed {
            self.tell(now, Input::Reach(reach));
        }
    }
}
