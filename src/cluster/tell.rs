//! What a node tells: beats to its peers, and to the driver what holds until the next word.

use std::time::Duration;

use crate::base::{NodeId, PathId, Time};

use super::beat::{Beat, Flags, State};
use super::config::Partition;
use super::detector::Peer;
use super::io::{Budget, Effect, Wish};
use super::notice::Notice;
use super::state::{Cluster, Giving, Phase, Stage};

impl Cluster {
    pub(super) fn wish(&mut self, wish: Wish, out: &mut Vec<Effect>) {
        if self.told.wish != Some(wish) {
            self.told.wish = Some(wish);
            out.push(Effect::Vip(wish));
        }
    }

    /// Those that are with who leads go the way of the node's own, but for a node that serves beside the one that leads.
    fn tell_lead(&mut self, out: &mut Vec<Effect>) {
        let wish = match self.told.wish {
            Some(Wish::Hold) if !self.active() => Wish::Drop,
            // What is not here cannot be kept in silence.
            Some(Wish::Quiet) if matches!(self.told.lead, None | Some(Wish::Drop)) => Wish::Drop,
            Some(wish) => wish,
            None => return,
        };
        if self.config.leads && self.told.lead.replace(wish) != Some(wish) {
            out.push(Effect::Lead(wish));
        }
    }

    pub(super) fn relay(&mut self, to: Option<NodeId>, out: &mut Vec<Effect>) {
        if self.told.relay != to {
            self.told.relay = to;
            out.push(Effect::Relay(to));
        }
    }

    /// Sends a beat on every path to every peer.
    pub(super) fn beat(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.tick += 1;
        self.peers.iter_mut().for_each(|peer| peer.sound(now, self.tick));
        for peer in &self.peers {
            for n in 0..peer.paths.len() {
                let beat = self.say(now, peer, n);
                out.push(Effect::Beat { peer: peer.id, path: PathId(n as u8), beat });
            }
        }
    }

    fn say(&self, now: Time, peer: &Peer, path: usize) -> Beat {
        let state = match self.phase {
            Phase::Starting => State::Starting,
            Phase::Standby => State::Standby,
            Phase::Active { .. } if matches!(self.giving, Some(Giving { stage: Stage::Take(_), .. })) => State::Giving,
            Phase::Active { .. } => State::Active,
            Phase::Asking { .. } => State::Asking,
            Phase::Left => State::Leaving,
        };
        let (echo_incarnation, echo) = peer.echo(path);
        let flags = Flags::default()
            .with(Flags::FIT, self.fit() && !self.own.dropped)
            .with(Flags::USABLE, self.own.usable)
            .with(Flags::ARMED, self.complete(now))
            .with(Flags::REACHES, self.own.reach != Some(false))
            .with(Flags::LATE, now < self.clock.late_until)
            .with(Flags::HOLDS, self.told.wish == Some(Wish::Hold))
            .with(Flags::CALLS, self.own.calls || self.own.copy)
            .with(Flags::ON_SILENCE, self.on_silence())
            .with(Flags::LEAVING, self.leaving)
            .with(Flags::TELLS, self.told.tells)
            .with(Flags::SERVES, self.is_beside());
        Beat {
            cluster: self.config.cluster,
            node: self.config.me,
            incarnation: self.config.incarnation,
            epoch: self.epoch,
            term: self.term,
            state,
            flags,
            priority: self.config.priority,
            counter: self.tick,
            echo_incarnation,
            echo,
            config: self.config.config,
        }
    }

    /// Tells of a stray beat, at most once a minute for each kind.
    pub(super) fn stray(&mut self, now: Time, kind: usize, notice: Notice, out: &mut Vec<Effect>) {
        const AGAIN: Duration = Duration::from_secs(60);
        if self.strays[kind].is_none_or(|last| now.since(last) >= AGAIN) {
            self.strays[kind] = Some(now);
            out.push(Effect::Notice(notice));
        }
    }

    /// Tells what changed of that which holds until the next word.
    pub(super) fn tell_levels(&mut self, now: Time, out: &mut Vec<Effect>) {
        let holds = self.active() || self.config.crossed.is_some() && self.is_beside();
        if !holds && self.quiet.is_none() {
            self.wish(Wish::Drop, out);
        }
        self.tell_lead(out);
        self.tell_guest(now, out);
        self.tell_lanes(out);
        self.tell_beside(now, out);
        let (by, outlook) = (self.armed(now), self.outlook(now));
        self.tell_share(by, outlook, out);
        self.own.knows = !self.is_estranged(now, outlook) && self.learns(now);
        self.settle_estate(now, outlook, out);
        let budget = self.budget(now, outlook);
        if self.told.budget != Some(budget) {
            self.told.budget = Some(budget);
            out.push(Effect::Budget(budget));
        }
        let idle =
            budget == Budget::Nothing && self.serves() && !self.own.knows && self.config.partition == Partition::Exact;
        if idle && !std::mem::replace(&mut self.told.idle, idle) {
            out.push(Effect::Notice(Notice::Unknowing));
        }
        self.tell_witness(now, outlook, out);
        let armed = by.is_some();
        if self.serves() {
            let tells = by.and_then(|id| self.index(id)).is_some_and(|n| self.peers[n].sync.told);
            if std::mem::replace(&mut self.told.tells, tells) && !tells {
                // Whoever would take over from here on must know, but a slow link makes no flood of beats.
                self.next_beat = self.next_beat.min(now + self.config.timing.beat / 8);
            }
        }
        if self.told.armed != Some(armed) {
            let first = self.told.armed.is_none();
            (self.told.armed, self.told.armed_since) = (Some(armed), now);
            out.push(Effect::Armed(armed));
            match by {
                Some(id) => out.push(Effect::Notice(Notice::Armed(id))),
                None if !first && !self.leaving => out.push(Effect::Notice(Notice::Disarmed)),
                None => {}
            }
        }
    }
}
