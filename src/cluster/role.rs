//! Taking the role and giving it up: claims, elections, what a meeting of two active nodes leads to.

use std::cmp::Reverse;

use crate::base::{Epoch, NodeId, Time};

use super::beat::{Flags, State};
use super::cause::Cause;
use super::detector::{Health, Peer};
use super::io::{Budget, Effect, Wish};
use super::notice::Notice;
use super::reason::{Death, Reason};
use super::state::{Cluster, Giving, Phase, Probing, Stage};

/// How willingly a node is chosen when nobody is active; the greatest wins.
type Rank = (bool, bool, u8, u32, Reverse<NodeId>);

/// A peer that fell silent this long before a trouble of this node began may have seen the same event.
const SAME_EVENT: std::time::Duration = std::time::Duration::from_secs(5);
/// Between two hand-overs that nobody asked for, when the first one failed.
const RETRY: std::time::Duration = std::time::Duration::from_secs(2);

impl Cluster {
    /// Takes the role under a counter above all that were ever seen, and at least `least`.
    pub(super) fn claim(&mut self, now: Time, reason: Reason, least: u32, out: &mut Vec<Effect>) {
        let counter = self.seen.max(self.epoch.counter).saturating_add(1).max(least);
        if reason == Reason::NoPeer {
            // The counter of the start is durable, and nobody is there to dispute it.
            self.epoch = self.config.epoch();
        } else {
            self.epoch = Epoch { counter, node: self.config.me };
            out.push(Effect::Persist(counter));
        }
        self.seen = self.epoch.counter.max(self.seen);
        (self.term, self.reason) = (self.epoch, reason);
        (self.phase, self.beside) = (Phase::Active { since: now }, None);
        if self.on_silence() {
            self.hold.claimed(now);
        }
        self.stats.claims += 1;
        (self.giving, self.taking, self.quiet, self.election) = (None, None, None, None);
        self.probing = Probing::Idle { not_before: now };
        if reason != Reason::NoPeer && !self.own.calls && !self.own.copy {
            out.push(Effect::Cold);
            out.push(Effect::Notice(Notice::Cold));
        }
        (self.own.calls, self.own.dropped) = (true, false);
        out.push(Effect::Role { role: self.role(), epoch: self.epoch });
        self.peers.iter_mut().for_each(|peer| peer.serves = false);
        self.guest.claimed();
        // What is adopted leaves from there.
        self.tell_guest(now, out);
        let on_silence = self.on_silence();
        for peer in &mut self.peers {
            // One that was merely silent may live and be active as well.
            peer.rival = on_silence && peer.dead.is_none();
            let Peer { id: owner, whole, rival: living, .. } = *peer;
            out.push(Effect::Adopt { owner, before: self.epoch, whole, living });
            peer.whole = peer.whole && !peer.rival;
        }
        self.relay(None, out);
        self.wish(Wish::Hold, out);
        out.push(Effect::Notice(Notice::Claimed(self.epoch, reason)));
        self.next_beat = now;
    }

    /// Gives the role to a peer that holds it under a higher epoch.
    pub(super) fn yield_to(&mut self, now: Time, to: NodeId, epoch: Epoch, out: &mut Vec<Effect>) {
        let planned = matches!(self.giving, Some(Giving { to: t, stage: Stage::Take(_), .. }) if t == to);
        let linked = self.index(to).is_some_and(|n| self.peers[n].link);
        let held = matches!(self.told.wish, Some(Wish::Hold | Wish::Quiet));
        if held && linked {
            self.wish(Wish::Quiet, out);
            self.relay(Some(to), out);
            self.quiet = Some((to, now + self.config.timing.passes_on(self.own.usable)));
        } else {
            self.wish(Wish::Drop, out);
            self.relay(None, out);
        }
        self.giving = None;
        self.phase = Phase::Standby;
        if planned {
            self.stats.hand_overs += 1;
        } else {
            self.stats.yields += 1;
        }
        let notice = if planned { Notice::HandedOver(epoch) } else { Notice::Yielded(epoch) };
        self.follow(now, epoch, Some(notice), out);
        self.next_beat = now;
    }

    /// Recognises a claim; `notice`: the role is new, and this tells of it.
    fn follow(&mut self, now: Time, epoch: Epoch, notice: Option<Notice>, out: &mut Vec<Effect>) {
        let on_silence = self.index(epoch.node).is_some_and(|n| self.peers[n].has(Flags::ON_SILENCE));
        if epoch > self.term && on_silence {
            self.hold.claimed(now);
        }
        // Who steps back says so himself.
        let joined = self.beside.is_some();
        let news = !joined && (notice.is_some() || self.phase != Phase::Standby || epoch > self.term);
        self.phase = Phase::Standby;
        self.term = self.term.max(epoch);
        self.seen = self.seen.max(epoch.counter);
        self.share = epoch.node;
        self.election = None;
        // Of a node beside it speaks who steps back.
        self.own.dropped &= self.beside.is_some();
        self.probing = Probing::Idle { not_before: Time::ZERO };
        self.told.address_answers = false;
        if news {
            out.push(Effect::Role { role: self.role(), epoch: self.term });
        }
        let n = self.index(epoch.node);
        // One role after the other.
        if let Some(n) = n.filter(|_| notice.is_none() && !news) {
            self.look_beside(now, n, epoch, out);
        }
        if self.own.calls && epoch >= self.term && self.beside.is_none() {
            (self.own.calls, self.own.copy) = (false, true);
            // Until the driver says otherwise.
            n.into_iter().for_each(|n| self.peers[n].sync.owes = true);
            out.push(Effect::Yield { to: epoch.node, epoch });
        }
        out.extend(notice.map(Effect::Notice));
    }

    /// An active node that nobody can reach, and whose peer may have taken over unheard.
    pub(super) fn withdraw(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.wish(Wish::Drop, out);
        self.relay(None, out);
        (self.giving, self.election) = (None, None);
        self.phase = Phase::Standby;
        self.probing = Probing::Idle { not_before: now };
        out.push(Effect::Role { role: self.role(), epoch: self.term });
        out.push(Effect::Notice(Notice::Withdrew));
        self.next_beat = now;
    }

    /// A peer is dead, or was replaced by a new process that bears `newer`.
    pub(super) fn died(&mut self, now: Time, n: usize, death: Death, was: Option<State>, out: &mut Vec<Effect>) {
        let id = self.peers[n].id;
        out.push(Effect::Notice(Notice::PeerDead(id, death)));
        self.taking = self.taking.filter(|taking| taking.from != id);
        let gave = self.giving.filter(|giving| giving.to == id);
        let led = was.is_some_and(State::leads);
        self.peers[n].rival = false;
        if matches!(gave, Some(Giving { stage: Stage::Take(_), .. })) && self.peers[n].spent == Budget::Nothing {
            self.peers[n].spent = Budget::Floor;
        }
        self.leave_alone(n, out);
        match self.phase {
            Phase::Active { .. } => {
                match gave {
                    Some(Giving { stage: Stage::Take(_), .. }) => self.claim(now, Reason::Resumed, 0, out),
                    Some(_) => self.abort(now, super::message::Refusal::NoPeer, out),
                    None => {}
                }
                if self.peers[n].serves {
                    // What it wrote must not be newer than what this node writes.
                    return self.claim(now, Reason::Death(death), 0, out);
                }
                let before = self.peers[n].last.map_or(self.epoch, |last| last.epoch.max(self.epoch));
                out.push(Effect::Adopt { owner: id, before, whole: self.peers[n].whole, living: false });
            }
            Phase::Starting | Phase::Standby if self.own.usable && !self.leaving && self.may_claim() => {
                let others = self.peers.iter().enumerate().all(|(m, p)| m == n || self.settled(now, p));
                if led && others {
                    self.claim(now, Reason::Death(death), 0, out);
                }
            }
            _ => {}
        }
    }

    /// Whether this peer is surely not active.
    fn settled(&self, now: Time, peer: &Peer) -> bool {
        match self.health(now, peer) {
            Health::Dead(_) => true,
            Health::Heard => peer.state() != Some(State::Active),
            Health::Never | Health::Unjudged | Health::Silent => false,
        }
    }

    /// What a node that is not active does: follow, wait, or claim.
    pub(super) fn idle(&mut self, now: Time, out: &mut Vec<Effect>) {
        if let Some((n, epoch)) = self.leader(now) {
            let begins = (self.phase == Phase::Starting).then_some(Notice::Follows(epoch));
            self.follow(now, epoch, begins, out);
            self.own.copy |= self.peers[n].link && self.peers[n].sync.incoming;
            return;
        }
        let conflict = self.phase == Phase::Starting && now < self.conflict_until;
        if self.leaving || conflict || !self.own.usable || !self.may_claim() {
            return;
        }
        let count = |want: fn(Health) -> bool| self.peers.iter().filter(|p| want(self.health(now, p))).count();
        if count(|h| h == Health::Unjudged) > 0 {
            return;
        }
        let heard = count(|h| h == Health::Heard);
        let unsure = count(|h| matches!(h, Health::Silent | Health::Never));
        let reason = if heard > 0 {
            if !self.elected(now) {
                return;
            }
            Reason::Elected
        } else if unsure > 0 {
            self.election = None;
            if self.phase == Phase::Starting { Reason::Alone } else { Reason::Silence }
        } else {
            self.peers.iter().find_map(|p| p.dead).map_or(Reason::NoPeer, Reason::Death)
        };
        if unsure == 0 || self.nobody_answers(now, out) {
            self.claim(now, reason, 0, out);
        }
    }

    /// Whether this node is the one to claim among those that are heard, of which none is active.
    fn elected(&mut self, now: Time) -> bool {
        let since = match self.election {
            Some(since) => since,
            None => {
                self.election = Some(now);
                self.peers.iter_mut().for_each(|p| p.ask(self.tick));
                self.next_beat = now;
                now
            }
        };
        let patient = now.since(since) < self.config.timing.patience;
        // What a peer said before it heard that nobody is active may be the word of one that is about to claim.
        let pending = |p: &&Peer| !p.answered || matches!(p.state(), None | Some(State::Asking | State::Giving));
        let mut heard = self.peers.iter().filter(|p| self.heard(now, p));
        if heard.clone().any(|p| pending(&p)) && patient {
            return false;
        }
        let own = self.rank();
        self.is_apart() || heard.all(|p| self.rank_of(p).is_none_or(|rank| rank < own)) || !patient
    }

    fn rank(&self) -> Rank {
        let able = self.able() && !self.isolated();
        (able, self.own.calls || self.own.copy, self.config.priority, self.epoch.counter, Reverse(self.config.me))
    }

    fn rank_of(&self, peer: &Peer) -> Option<Rank> {
        let last = peer.last?;
        let has = |flag| last.flags.has(flag);
        let able = has(Flags::FIT)
            && has(Flags::USABLE)
            && !has(Flags::LEAVING)
            && (has(Flags::REACHES) || self.own.reach == Some(false));
        Some((able, has(Flags::CALLS), last.priority, last.epoch.counter, Reverse(peer.id)))
    }

    /// Whether silence may be taken for death now: long enough, not cut off itself, and nobody answers for the address.
    pub(super) fn nobody_answers(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        if now < self.silence_ripe_at() || self.isolated() {
            return false;
        }
        match self.probing {
            Probing::Passed => true,
            Probing::Sent { at } if now < at + self.config.timing.probe_limit() => false,
            Probing::Idle { not_before } if now < not_before => false,
            Probing::Sent { .. } | Probing::Idle { .. } => {
                self.probing = Probing::Sent { at: now };
                out.push(Effect::Probe);
                false
            }
        }
    }

    /// When the silence of the peers that are not heard and not proved dead has lasted long enough for a probe.
    pub(super) fn silence_ripe_at(&self) -> Time {
        let timing = &self.config.timing;
        let boot = match self.phase {
            Phase::Starting => {
                let before = self.peers.iter().filter(|p| p.id < self.config.me).count() as u32;
                self.clock.started + timing.boot_hold + timing.stagger * before
            }
            _ => Time::ZERO,
        };
        let ripe = |p: &Peer| {
            let since = p.heard_at.unwrap_or(self.clock.started);
            let patience = if self.config.probes { std::time::Duration::ZERO } else { timing.lease };
            self.hold.until(since, timing).max(since + patience).max(self.clock.judge_from + timing.suspicion)
        };
        let unsure = self.peers.iter().filter(|p| p.dead.is_none() && p.state() != Some(State::Leaving));
        unsure.map(ripe).max().unwrap_or(Time::ZERO).max(boot)
    }

    /// What an active node looks after: whether it is still of use, and who is preferred.
    pub(super) fn serve(&mut self, now: Time, since: Time, out: &mut Vec<Effect>) {
        if self.giving.is_some() || self.leaving {
            return;
        }
        let trouble = if !self.own.usable {
            Some((Cause::Unusable, self.own.unusable_since, Flags::USABLE))
        } else if self.isolated() {
            Some((Cause::Isolated, self.own.isolated_since, Flags::REACHES))
        } else {
            None
        };
        if let Some((cause, began, flag)) = trouble {
            if let Some(n) = self.peers.iter().position(|p| self.heard(now, p) && p.has(flag)) {
                self.give_in_trouble(now, n, cause, began, out);
            } else if now >= began + self.grace(cause) && self.lost_touch(now, began, flag) {
                self.withdraw(now, out);
            }
        } else if self.look_for_missing(now, out) {
            // Its calls are this node's now.
        } else if self.own.dropped {
            self.hold_again(now, out);
        } else if self.hold_guest_again(now, out) {
            // Under a new epoch.
        } else if now >= self.own.retry_at {
            let better = self.config.preempt && self.stable(now, since);
            let above = |p: &Peer| p.last.is_some_and(|last| last.priority > self.config.priority);
            let weakness = self.weakness(now, since);
            let wanted = |p: &Peer| (weakness.is_some() || (better && above(p))) && self.unarmed(now, p).is_ok();
            let to = self.peers.iter().position(wanted);
            if let Some(n) = to {
                self.own.retry_at = now + RETRY;
                let _refused = self.give(now, n, weakness.unwrap_or(Cause::GiveBack), out);
            }
        }
    }

    fn grace(&self, cause: Cause) -> std::time::Duration {
        if cause == Cause::Isolated { self.config.timing.isolation } else { std::time::Duration::ZERO }
    }

    /// Nobody reaches this node, but the peer is of use: cleanly if it can be, at once if the link is down.
    fn give_in_trouble(&mut self, now: Time, n: usize, cause: Cause, began: Time, out: &mut Vec<Effect>) {
        if self.peers[n].has(Flags::LEAVING) || !self.peers[n].has(Flags::FIT) {
            return;
        }
        if now < began + self.grace(cause) {
            return;
        }
        let armed = self.unarmed(now, &self.peers[n]).is_ok();
        // What was tried before this trouble began was another one.
        let first = self.own.retry_at < began + RETRY;
        if armed && (first || now >= self.own.retry_at)
            || self.peers[n].link && now >= self.own.retry_at.max(began + RETRY)
        {
            self.own.retry_at = now + RETRY;
            let _refused = self.give(now, n, cause, out);
        } else if !self.peers[n].link && now >= began + self.config.timing.isolation {
            self.withdraw(now, out);
        }
    }

    /// Whether the event that cuts this node off may also be why a peer that was of use is silent.
    fn lost_touch(&self, now: Time, began: Time, flag: Flags) -> bool {
        let touched = |p: &Peer| {
            self.health(now, p) == Health::Silent
                && p.has(flag)
                && p.heard_at.is_some_and(|heard| heard + SAME_EVENT >= began)
        };
        self.peers.iter().any(touched)
    }

    fn stable(&self, now: Time, since: Time) -> bool {
        let stable = self.config.timing.stable;
        let armed = self.told.armed == Some(true) && now.since(self.told.armed_since) >= stable;
        armed && now.since(since) >= stable && !self.hold.raised()
    }
}
