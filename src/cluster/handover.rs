//! Planned hand-over: prepare, flush while serving, freeze and flush the rest, take. Before `Take` is told the former
//! active can withdraw; after it, whoever lives finishes: the counter of the new claim is set aside in `Take`, so a
//! node that takes the role back claims above it.

use crate::base::{NodeId, Time};

use super::cause::Cause;
use super::detector::Health;
use super::io::{Command, Effect, Fitness, Role, Wish};
use super::message::{Message, Refusal};
use super::notice::Notice;
use super::reason::{Death, Reason};
use super::state::{Cluster, Giving, Phase, Stage, Taking};

/// Who was given the role keeps it for so long although it lags behind: a load that neither node can bear must not go
/// to and fro.
const STEADY: std::time::Duration = std::time::Duration::from_secs(60);

/// After addresses were lost that had just been put back, it is tried again after so long, then twice as long each time.
const HOLD_FIRST: std::time::Duration = std::time::Duration::from_millis(50);
/// Until it is so long.
const HOLD_LAST: std::time::Duration = std::time::Duration::from_secs(4);
/// Between two hand-overs for that reason.
const OFFER: std::time::Duration = std::time::Duration::from_secs(1);

impl Cluster {
    /// Begins to hand over to a peer.
    pub(super) fn give(&mut self, now: Time, n: usize, cause: Cause, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        if self.giving.is_some() {
            return Err(Refusal::Busy);
        }
        if self.is_apart() {
            return Err(Refusal::Apart);
        }
        self.willing(now, &self.peers[n])?;
        let armed = self.unarmed(now, &self.peers[n]);
        let urgent = cause.is_urgent();
        if !urgent {
            armed?;
        }
        let to = self.peers[n].id;
        let notice = if armed.is_ok() { Notice::HandOver(to, cause) } else { Notice::Unprotected(to, cause) };
        out.push(Effect::Notice(notice));
        let limit = if urgent { self.config.timing.flush_urgent } else { self.config.timing.step };
        self.giving = Some(Giving { to, cause, stage: Stage::Prepare, until: now + limit });
        out.push(Effect::Tell { peer: to, message: Message::Prepare { term: self.epoch, urgent } });
        Ok(())
    }

    /// Why this node, active `since` then, had better not be.
    pub(super) fn weakness(&self, now: Time, since: Time) -> Option<Cause> {
        let handed = self.reason == Reason::HandOver || self.reason == Reason::Elected && self.own.copy;
        match self.own.fitness {
            Fitness::Fit => None,
            Fitness::Behind => (!handed || now >= since + STEADY).then_some(Cause::Behind),
            Fitness::Faulty => Some(Cause::Unfit),
        }
    }

    /// The addresses were lost: who is armed shall have them; without such a peer this node asks and claims anew.
    pub(super) fn hold_again(&mut self, now: Time, out: &mut Vec<Effect>) {
        if now < self.own.hold_at {
            return;
        }
        let first = now >= self.own.hold_at + HOLD_LAST;
        // A peer that did not take them a moment ago is not asked again.
        let offer = self.own.offered_at.is_none_or(|at| now >= at + OFFER);
        self.own.hold_pause = if first { HOLD_FIRST } else { (self.own.hold_pause * 2).min(HOLD_LAST) };
        self.own.hold_at = now + self.own.hold_pause;
        match self.peers.iter().position(|p| self.unarmed(now, p).is_ok()) {
            Some(n) if offer && self.give(now, n, Cause::Dropped, out).is_ok() => self.own.offered_at = Some(now),
            _ if self.peers.is_empty() => self.claim(now, Reason::Resumed, 0, out),
            _ => self.question(now, out),
        }
    }

    fn urgent(&self) -> bool {
        self.giving.is_some_and(|g| g.cause.is_urgent())
    }

    fn stage(&mut self, stage: Stage, until: Time) {
        if let Some(giving) = &mut self.giving {
            (giving.stage, giving.until) = (stage, until);
        }
    }

    fn flush(&mut self, to: NodeId, out: &mut Vec<Effect>) -> u32 {
        self.flushes = self.flushes.wrapping_add(1);
        out.push(Effect::Flush { peer: to, number: self.flushes });
        self.flushes
    }

    /// The driver has flushed.
    pub(super) fn flushed(&mut self, now: Time, number: u32, out: &mut Vec<Effect>) {
        match self.giving {
            Some(giving) if giving.stage == Stage::Flush(number) => self.freeze(now, giving.to, out),
            Some(giving) if giving.stage == Stage::Freeze(number) => self.take(now, giving.to, out),
            _ => {}
        }
    }

    /// From here on nothing is handled here: the address falls silent, datagrams go to the peer, who keeps them.
    fn freeze(&mut self, now: Time, to: NodeId, out: &mut Vec<Effect>) {
        self.wish(Wish::Quiet, out);
        self.relay(Some(to), out);
        let number = self.flush(to, out);
        let limit = if self.urgent() { self.config.timing.flush_urgent } else { self.config.timing.step };
        self.stage(Stage::Freeze(number), now + limit);
    }

    fn take(&mut self, now: Time, to: NodeId, out: &mut Vec<Effect>) {
        let counter = self.seen.max(self.epoch.counter).saturating_add(1);
        self.seen = counter;
        self.stage(Stage::Take(counter), now + self.config.timing.step);
        self.share = to;
        out.push(Effect::Tell { peer: to, message: Message::Take { term: self.epoch, counter } });
        self.next_beat = now;
    }

    /// The link carries nothing, perhaps for the very reason that makes this node useless: what the peer holds must do.
    pub(super) fn abandon(&mut self, now: Time, why: Refusal, out: &mut Vec<Effect>) {
        let Some(giving) = self.giving else { return };
        if !self.urgent() {
            return self.abort(now, why, out);
        }
        self.stats.hand_overs_failed += 1;
        out.push(Effect::Notice(Notice::HandOverFailed(giving.to, why)));
        self.withdraw(now, out);
    }

    /// Serves on.
    pub(super) fn abort(&mut self, now: Time, why: Refusal, out: &mut Vec<Effect>) {
        let Some(giving) = self.giving.take() else { return };
        self.stats.hand_overs_failed += 1;
        out.push(Effect::Notice(Notice::HandOverFailed(giving.to, why)));
        out.push(Effect::Tell { peer: giving.to, message: Message::Abort { term: self.epoch } });
        if matches!(giving.stage, Stage::Take(_)) {
            // The peer may have claimed under the counter that was set aside.
            self.claim(now, Reason::Resumed, 0, out);
        } else if matches!(giving.stage, Stage::Freeze(_)) && self.active() {
            // Nobody answered for the address meanwhile: the peer may have taken that for death.
            self.question(now, out);
        }
    }

    /// What time does to a hand-over.
    pub(super) fn hand_over_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.taking = self.taking.filter(|taking| now < taking.until);
        if let Some(giving) = self.giving {
            let heard = self.index(giving.to).is_some_and(|n| self.heard(now, &self.peers[n]));
            match giving.stage {
                Stage::Prepare | Stage::Flush(_) | Stage::Freeze(_) if !heard => self.abort(now, Refusal::NoPeer, out),
                _ if now < giving.until => {}
                Stage::Prepare => self.abandon(now, Refusal::TimedOut, out),
                Stage::Flush(_) if self.urgent() => self.freeze(now, giving.to, out),
                Stage::Freeze(_) if self.urgent() => self.take(now, giving.to, out),
                Stage::Take(_) if !heard => self.await_survivor(out),
                _ => self.abort(now, Refusal::TimedOut, out),
            }
        }
        if let Some((_, until)) = self.quiet
            && now >= until
        {
            self.quiet = None;
            self.relay(None, out);
            self.wish(Wish::Drop, out);
        }
        if self.leaving && self.giving.is_none() && self.quiet.is_none() && self.phase != Phase::Left {
            self.leave(now, out);
        }
    }

    /// The role was offered and the peer fell silent: it is claimed again only as a standby would.
    fn await_survivor(&mut self, out: &mut Vec<Effect>) {
        let Some(giving) = self.giving.take() else { return };
        self.stats.hand_overs_failed += 1;
        self.phase = Phase::Standby;
        self.relay(None, out);
        self.wish(Wish::Drop, out);
        out.push(Effect::Notice(Notice::HandOverFailed(giving.to, Refusal::TimedOut)));
        out.push(Effect::Role { role: Role::Standby, epoch: self.term });
        out.push(Effect::Notice(Notice::StoodDown(giving.to)));
    }

    fn leave(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.wish(Wish::Drop, out);
        self.relay(None, out);
        for peer in self.peers.iter().filter(|peer| peer.link) {
            out.push(Effect::Tell { peer: peer.id, message: Message::Goodbye });
        }
        (self.phase, self.beside) = (Phase::Left, None);
        self.beat(now, out);
        out.push(Effect::Role { role: Role::Left, epoch: self.term });
        out.push(Effect::Notice(Notice::Left));
        out.push(Effect::Done);
    }

    /// A message of a peer.
    pub(super) fn told(&mut self, now: Time, n: usize, message: Message, out: &mut Vec<Effect>) {
        let peer = self.peers[n].id;
        let giving = self.giving.filter(|giving| giving.to == peer);
        match message {
            Message::Request => {
                let refused = match self.phase {
                    Phase::Active { .. } if self.leaving => Err(Refusal::Leaving),
                    Phase::Active { .. } => self.give(now, n, Cause::Switchover, out),
                    _ => Err(Refusal::NobodyActive),
                };
                if let Err(why) = refused {
                    let message = Message::Refuse { term: Default::default(), why };
                    out.push(Effect::Tell { peer, message });
                }
            }
            Message::Prepare { term, urgent } => {
                let message = match self.could_take(now, n, term, urgent) {
                    Ok(()) => {
                        let timing = &self.config.timing;
                        let until = now + timing.flush + timing.step * 3;
                        self.taking = Some(Taking { from: peer, term, until });
                        Message::Ready { term }
                    }
                    Err(why) => Message::Refuse { term, why },
                };
                out.push(Effect::Tell { peer, message });
            }
            Message::Ready { term } if term == self.epoch => {
                if giving.is_some_and(|giving| giving.stage == Stage::Prepare) {
                    let number = self.flush(peer, out);
                    let timing = &self.config.timing;
                    let limit = if self.urgent() { timing.flush_urgent } else { timing.flush };
                    self.stage(Stage::Flush(number), now + limit);
                }
            }
            Message::Refuse { term, why } if term.counter == 0 => {
                out.push(Effect::Notice(Notice::HandOverFailed(peer, why)));
            }
            Message::Refuse { term, why } if term == self.epoch && giving.is_some() => self.abort(now, why, out),
            Message::Take { term, counter } => self.asked_to_take(now, n, term, counter, out),
            Message::Taken { epoch } => {
                self.seen = self.seen.max(epoch.counter);
                if matches!(giving, Some(Giving { stage: Stage::Take(_), .. })) && epoch > self.epoch {
                    self.yield_to(now, peer, epoch, out);
                    // It had much to take over, and its beats may be a moment behind its word.
                    self.back(now);
                }
            }
            Message::Abort { term } => self.taking = self.taking.filter(|t| t.from != peer || t.term != term),
            Message::Goodbye if self.peers[n].dead != Some(Death::Goodbye) => {
                let was = self.peers[n].state();
                self.peers[n].goodbye();
                self.died(now, n, Death::Goodbye, was, out);
            }
            Message::Mode { step, to } => self.told_mode(now, n, step, to, out),
            Message::Goodbye | Message::Ready { .. } | Message::Refuse { .. } => {}
        }
    }

    fn could_take(&self, now: Time, n: usize, term: crate::base::Epoch, urgent: bool) -> Result<(), Refusal> {
        if self.leaving {
            return Err(Refusal::Leaving);
        }
        if self.phase != Phase::Standby || term < self.term || term.node != self.peers[n].id {
            return Err(Refusal::OtherTerm);
        }
        if !self.own.usable {
            return Err(Refusal::PeerUnusable);
        }
        if urgent || self.complete(now) {
            return Ok(());
        }
        Err(if self.fit() { Refusal::NotArmed } else { Refusal::PeerUnfit })
    }

    fn asked_to_take(&mut self, now: Time, n: usize, term: crate::base::Epoch, counter: u32, out: &mut Vec<Effect>) {
        let peer = self.peers[n].id;
        let asked = self.taking.is_some_and(|taking| taking.from == peer && taking.term == term);
        // Who has taken the role back meanwhile leads under another claim.
        let asked = asked && term == self.term;
        let message = if self.phase == Phase::Standby && asked && self.own.usable && !self.leaving {
            // Its last beat may still say that it is active.
            self.peers[n].met = term;
            if self.peers[n].sync.incoming {
                self.share = self.config.me;
            }
            self.claim(now, Reason::HandOver, counter, out);
            Message::Taken { epoch: self.epoch }
        } else if self.active() && self.epoch > term {
            Message::Taken { epoch: self.epoch }
        } else {
            Message::Refuse { term, why: Refusal::Withdrawn }
        };
        out.push(Effect::Tell { peer, message });
    }

    /// An operator's wish.
    pub(super) fn command(&mut self, now: Time, command: Command, out: &mut Vec<Effect>) {
        let answer = match command {
            Command::Switchover => self.switchover(now, out),
            Command::DeclareDead(id) => self.declare_dead(now, id, out),
            Command::SetMode(to) => self.switch_mode(now, to, out),
            Command::Stop => {
                self.leaving = true;
                let armed = self.peers.iter().position(|p| self.unarmed(now, p).is_ok());
                if let Some(n) = armed.filter(|_| self.active() && self.giving.is_none()) {
                    let _refused = self.give(now, n, Cause::Stop, out);
                }
                Ok(())
            }
        };
        out.push(Effect::Answer(answer));
    }

    fn switchover(&mut self, now: Time, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        if self.leaving {
            return Err(Refusal::Leaving);
        }
        if self.is_apart() {
            return Err(Refusal::Apart);
        }
        match self.phase {
            Phase::Active { .. } => {
                let heard = |p: &super::detector::Peer| self.heard(now, p);
                let best = self.peers.iter().position(|p| self.unarmed(now, p).is_ok());
                let n = best.or_else(|| self.peers.iter().position(heard)).ok_or(Refusal::NoPeer)?;
                self.give(now, n, Cause::Switchover, out)
            }
            Phase::Standby => {
                let (n, _) = self.leader(now).ok_or(Refusal::NobodyActive)?;
                if !self.peers[n].link {
                    return Err(Refusal::LinkDown);
                }
                if !self.complete(now) {
                    return Err(Refusal::NotArmed);
                }
                out.push(Effect::Tell { peer: self.peers[n].id, message: Message::Request });
                Ok(())
            }
            _ => Err(Refusal::NobodyActive),
        }
    }

    fn declare_dead(&mut self, now: Time, id: NodeId, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        let n = self.index(id).ok_or(Refusal::UnknownMember)?;
        match self.health(now, &self.peers[n]) {
            Health::Heard => Err(Refusal::PeerAlive),
            Health::Dead(_) => Ok(()),
            Health::Never | Health::Unjudged | Health::Silent => {
                let was = self.peers[n].state();
                self.peers[n].dead = Some(Death::Declared);
                self.died(now, n, Death::Declared, was, out);
                Ok(())
            }
        }
    }
}
