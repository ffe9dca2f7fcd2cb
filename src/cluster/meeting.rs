//! Several active nodes: they find out by their epochs who goes on.

use crate::base::{Epoch, Time};

use super::beat::{Flags, State};
use super::detector::Peer;
use super::io::Effect;
use super::notice::Notice;
use super::reason::Reason;
use super::state::{Cluster, Giving, Phase, Stage};

impl Cluster {
    /// What other active nodes mean for this one.
    pub(super) fn contend(&mut self, now: Time, out: &mut Vec<Effect>) {
        for n in 0..self.peers.len() {
            let Some(last) = self.peers[n].last else { continue };
            if !self.heard(now, &self.peers[n]) {
                continue;
            }
            let stronger = last.epoch > self.epoch;
            match (self.phase, last.state) {
                (Phase::Active { .. } | Phase::Asking { .. }, State::Active) if stronger => {
                    self.met(n, last.epoch, self.epoch, out);
                    self.yield_to(now, self.peers[n].id, last.epoch, out);
                }
                (Phase::Asking { .. }, State::Asking) if stronger => {
                    self.yield_to(now, self.peers[n].id, last.epoch, out);
                }
                (Phase::Active { .. }, State::Active) if self.peers[n].met != last.epoch => {
                    self.met(n, self.epoch, last.epoch, out);
                    (self.peers[n].rival, self.peers[n].met) = (true, last.epoch);
                    out.push(Effect::Announce);
                }
                (Phase::Active { .. }, State::Asking) => self.peers[n].rival = true,
                (Phase::Active { .. }, State::Starting | State::Standby | State::Giving) => self.lower(now, n, out),
                _ => {}
            }
        }
    }

    /// A peer beside this active node that is not active.
    fn lower(&mut self, now: Time, n: usize, out: &mut Vec<Effect>) {
        let Some(last) = self.peers[n].last else { return };
        if last.term > self.epoch && self.giving.is_none() {
            // What was written under that claim must not be newer than what this node writes.
            self.claim(now, Reason::Renewed, 0, out);
        } else if self.peers[n].rival && last.term == self.epoch {
            self.peers[n].rival = false;
            let Peer { id: owner, whole, .. } = self.peers[n];
            out.push(Effect::Adopt { owner, before: self.epoch, whole, living: true });
            out.push(Effect::Announce);
        }
    }

    /// Two active nodes met: the next claim on silence waits longer, if one of these was made on silence.
    fn met(&mut self, n: usize, won: Epoch, lost: Epoch, out: &mut Vec<Effect>) {
        let planned = matches!(self.giving, Some(Giving { stage: Stage::Take(_), .. }));
        if planned || !self.active() {
            return;
        }
        self.stats.splits += 1;
        out.push(Effect::Notice(Notice::Split(won, lost)));
        if self.on_silence() || self.peers[n].has(Flags::ON_SILENCE) {
            self.hold.met();
            out.push(Effect::Notice(Notice::HoldDown(self.hold.wait(&self.config.timing))));
        }
    }
}
