//! The entry points of a [`Cluster`]: an observation or the time changes what is known, then one turn draws every
//! conclusion. A turn depends on what is known and on `now` alone, so the order of observations does not matter to it.

use crate::base::{NodeId, PathId, Time};

use super::beat::{Beat, State};
use super::config::Config;
use super::detector::{Health, Ignored, News};
use super::io::{Answer, Effect, Fitness, Input, Link, Progress, Role, Wish};
use super::message::Refusal;
use super::notice::Notice;
use super::reason::{Death, Reason};
use super::state::{Clock, Cluster, Phase, Probing, Stage};
use super::timing::MARGIN;

/// Between two probes of an address that answers: while its holder may be a hung node, and later.
const PROBE_AGAIN: std::time::Duration = std::time::Duration::from_millis(100);
const PROBE_AGAIN_LATER: std::time::Duration = std::time::Duration::from_secs(1);

impl Cluster {
    /// Takes an observation. Effects are appended in the order in which they must be carried out.
    pub fn handle(&mut self, now: Time, input: Input, out: &mut Vec<Effect>) {
        if self.phase == Phase::Left {
            return;
        }
        self.wake(now, out);
        match input {
            Input::Beat { path, beat } => self.take_beat(now, path, &beat, out),
            Input::Unauthentic(id) => {
                self.stats.unauthentic += 1;
                self.stray(now, 0, Notice::Unauthentic(id), out);
            }
            Input::Link { peer, event } => self.take_link(now, peer, event, out),
            Input::Sync { peer, sync } => self.take_sync(peer, sync),
            Input::Reach(reach) => self.take_reach(now, reach, out),
            Input::Probed { address, reference } => self.take_probe(now, address, reference, out),
            Input::Usable(usable) if usable != self.own.usable => {
                self.own.usable = usable;
                self.own.unusable_since = now;
                if usable {
                    self.back(now);
                }
                out.push(Effect::Notice(if usable { Notice::Usable } else { Notice::Unusable }));
            }
            Input::Dropped => {
                let acts = matches!(self.phase, Phase::Active { .. } | Phase::Asking { .. }) || self.beside.is_some();
                self.own.dropped |= acts;
            }
            Input::GuestDropped => self.guest.dropped(now),
            Input::Fit(fitness) if fitness != self.own.fitness => {
                self.own.fitness = fitness;
                out.push(Effect::Notice(match fitness {
                    Fitness::Fit => Notice::Fit,
                    Fitness::Behind => Notice::Behind,
                    Fitness::Faulty => Notice::Unfit,
                }));
            }
            Input::Usable(_) | Input::Fit(_) => {}
            Input::Told { peer, message } => {
                if let Some(n) = self.index(peer) {
                    self.told(now, n, message, out);
                }
            }
            Input::Witness(word) => self.take_word(word, out),
            Input::Flushed(number) => self.flushed(now, number, out),
            Input::Command(command) => self.command(now, command, out),
        }
        self.turn(now, out);
    }

    /// Time has passed; due at [`Cluster::next_timeout`], harmless at any other time. How late it comes tells the node
    /// whether it may judge others.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.phase == Phase::Left {
            return;
        }
        self.wake(now, out);
        self.turn(now, out);
    }

    /// What a claim asked of this node is done at `now`, and nobody was told of the claim yet. Who was handed the role and
    /// had much to do did not stand still: until it answers, or a step of the hand-over has passed, the former active
    /// claims nothing. In any other case the peer may have taken the silence for death.
    pub fn worked(&mut self, now: Time) {
        let Phase::Active { since } = self.phase else { return };
        let bound = self.config.timing.step.saturating_sub(self.config.timing.beat + MARGIN);
        let fresh = self.reason == Reason::HandOver && self.clock.last_turn == since;
        if fresh && now > since && now.since(since) < bound {
            self.clock = Clock { last_turn: now, judge_from: now, due: self.clock.due.max(now), ..self.clock };
        }
    }

    /// Other policies from the next turn on: `cluster.partition`, `cluster.priority`, `cluster.preempt`.
    pub fn govern(&mut self, partition: super::Partition, priority: u8, preempt: bool) {
        self.config.partition = partition;
        self.config.priority = priority;
        self.config.preempt = preempt;
    }

    /// What an operator may change while the node runs: `partition`, `priority`, `preempt`, and what the configuration is
    /// compared by. It counts from the next turn on.
    pub fn set_policy(&mut self, to: &Config) {
        (self.config.partition, self.config.priority) = (to.partition, to.priority);
        (self.config.preempt, self.config.config) = (to.preempt, to.config);
    }

    /// When [`Cluster::handle_timeout`] is due; [`Time::NEVER`] for a node that waits for nothing.
    pub fn next_timeout(&self) -> Time {
        self.clock.due
    }

    /// Finds out whether this node stood still, and how its peers stood before what comes now.
    fn wake(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.reckon(now);
        let gap = now.since(self.clock.last_turn);
        let late = now.since(self.clock.due);
        let doubt = gap >= self.doubt_after();
        self.clock.last_turn = self.clock.last_turn.max(now);
        if self.peers.is_empty() || (late <= self.config.timing.tolerance && !doubt) {
            return;
        }
        self.stats.late += 1;
        self.clock.judge_from = now;
        if now >= self.clock.late_until {
            out.push(Effect::Notice(Notice::Late(late)));
        }
        self.clock.late_until = now + self.config.timing.suspicion;
        self.probing = Probing::Idle { not_before: Time::ZERO };
        if self.active() && doubt {
            self.ask(now, gap, out);
        } else if doubt {
            self.doubt_beside(now, gap, out);
        }
    }

    /// Stops serving and asks the peers.
    fn ask(&mut self, now: Time, gap: std::time::Duration, out: &mut Vec<Effect>) {
        out.push(Effect::Notice(Notice::Doubt(gap)));
        if let Some(giving) = self.giving.take() {
            self.stats.hand_overs_failed += 1;
            out.push(Effect::Notice(Notice::HandOverFailed(giving.to, Refusal::TimedOut)));
        }
        self.question(now, out);
    }

    /// Serves nothing until the peers have said what they are.
    pub(super) fn question(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.phase = Phase::Asking { since: now };
        self.wish(Wish::Drop, out);
        out.push(Effect::Role { role: Role::Asking, epoch: self.epoch });
        self.relay(None, out);
        self.probing = Probing::Idle { not_before: Time::ZERO };
        for peer in &mut self.peers {
            peer.ask(self.tick);
        }
        self.next_beat = now;
    }

    fn take_beat(&mut self, now: Time, path: PathId, beat: &Beat, out: &mut Vec<Effect>) {
        if beat.cluster != self.config.cluster {
            self.stats.foreign += 1;
            return self.stray(now, 1, Notice::ForeignCluster(path), out);
        }
        if beat.node == self.config.me {
            self.stats.own_id += 1;
            self.conflict_until = now + self.config.timing.boot_hold;
            let own = beat.incarnation == self.config.incarnation;
            let (kind, notice) = if own { (2, Notice::OwnBeats(path)) } else { (3, Notice::SameMember) };
            return self.stray(now, kind, notice, out);
        }
        let Some(n) = self.index(beat.node) else {
            self.stats.unknown += 1;
            return self.stray(now, 4, Notice::UnknownMember(beat.node), out);
        };
        let (before, was) = (self.health(now, &self.peers[n]), self.peers[n].state());
        match self.peers[n].beat(now, self.config.incarnation, path, beat) {
            Err(Ignored::Replayed) => self.stats.replayed += 1,
            Err(Ignored::Path) => self.stats.unknown += 1,
            Err(Ignored::Stale) => {
                self.stats.stale += 1;
                self.stray(now, 5, Notice::Stale(beat.node), out);
            }
            Ok(news) => {
                self.seen = self.seen.max(beat.epoch.counter).max(beat.term.counter);
                let again = !matches!(before, Health::Heard | Health::Unjudged);
                if again {
                    out.push(Effect::Notice(Notice::PeerHeard(beat.node)));
                }
                self.compare(n, beat, out);
                self.learn(now, n, news, was, out);
                if again && self.active() {
                    self.probing = Probing::Idle { not_before: now };
                    // Hosts beside the peer may not have heard who holds the addresses.
                    out.push(Effect::Announce);
                }
                if beat.state == State::Asking && self.phase != (Phase::Asking { since: now }) {
                    // Its answer need not wait for the next beat, but no flood of questions makes a flood of answers.
                    self.next_beat = self.next_beat.min(now + self.config.timing.beat / 8);
                }
            }
        }
    }

    fn compare(&mut self, n: usize, beat: &Beat, out: &mut Vec<Effect>) {
        let differs = beat.config != self.config.config;
        if differs != self.peers[n].differs {
            self.peers[n].differs = differs;
            let notice = if differs { Notice::ConfigDiffers(beat.node) } else { Notice::ConfigEqual(beat.node) };
            out.push(Effect::Notice(notice));
        }
    }

    fn learn(&mut self, now: Time, n: usize, news: News, state: Option<State>, out: &mut Vec<Effect>) {
        if let Some(was) = news.replaced {
            self.died(now, n, Death::Replaced, Some(was), out);
        }
        if news.goodbye {
            self.died(now, n, Death::Goodbye, state, out);
        }
    }

    fn take_link(&mut self, now: Time, peer: NodeId, event: Link, out: &mut Vec<Effect>) {
        let Some(n) = self.index(peer) else { return };
        let was = self.peers[n].state();
        let news = self.peers[n].link(now, event);
        self.peers[n].mode = None;
        self.tell_mode(n, out);
        if self.told.lanes.take_if(|to| *to == peer).is_some() {
            // Of the link that was.
            out.push(Effect::Lanes(None));
        }
        self.learn(now, n, news, was, out);
        let down = matches!(event, Link::Down(_));
        if down && self.giving.is_some_and(|g| g.to == peer && !matches!(g.stage, Stage::Take(_))) {
            self.abandon(now, Refusal::LinkDown, out);
        }
        if down && self.taking.is_some_and(|taking| taking.from == peer) {
            self.taking = None;
        }
    }

    fn take_sync(&mut self, peer: NodeId, sync: Progress) {
        let Some(n) = self.index(peer) else { return };
        let link = self.peers[n].link && !self.is_apart();
        let sync = Progress { incoming: sync.incoming && link, outgoing: sync.outgoing && link, ..sync };
        self.peers[n].copied |= sync.incoming;
        self.opening &= !sync.incoming;
        self.peers[n].sync = sync;
    }

    fn take_reach(&mut self, now: Time, reach: Option<bool>, out: &mut Vec<Effect>) {
        let (before, after) = (self.own.reach == Some(false), reach == Some(false));
        self.own.reach = reach;
        if before != after {
            self.own.isolated_since = now;
            out.push(Effect::Notice(if after { Notice::Isolated } else { Notice::Reaches }));
            if before {
                self.back(now);
            }
        }
    }

    /// This node was cut off, or its peer had a reason for silence: what was not heard meanwhile says nothing.
    pub(super) fn back(&mut self, now: Time) {
        self.clock.judge_from = now;
        self.probing = Probing::Idle { not_before: now };
    }

    fn take_probe(&mut self, now: Time, address: Answer, reference: Option<bool>, out: &mut Vec<Effect>) {
        let Probing::Sent { .. } = self.probing else { return };
        if let Some(answered) = reference {
            self.take_reach(now, Some(answered), out);
        }
        let Probing::Sent { .. } = self.probing else { return };
        let heard = self.peers.iter().filter_map(|p| p.heard_at).max().unwrap_or(self.clock.started);
        let lapsed = now.since(heard) >= self.config.timing.lease;
        let again = now + if lapsed { PROBE_AGAIN_LATER } else { PROBE_AGAIN };
        self.probing = match address {
            Answer::Nobody if !self.isolated() => Probing::Passed,
            Answer::Nobody => Probing::Idle { not_before: now + PROBE_AGAIN },
            Answer::Stranger if lapsed => Probing::Passed,
            Answer::Somebody | Answer::Stranger => Probing::Idle { not_before: again },
        };
        if address == Answer::Somebody {
            // It lives, and what it tells anybody from here on is not known here until it is heard again.
            self.peers.iter_mut().for_each(|peer| peer.whole = false);
        }
        if address != Answer::Nobody && !self.told.address_answers {
            self.told.address_answers = true;
            let stranger = address == Answer::Stranger;
            out.push(Effect::Notice(if stranger { Notice::Stranger } else { Notice::AddressAnswers }));
        }
    }

    /// Draws every conclusion.
    fn turn(&mut self, now: Time, out: &mut Vec<Effect>) {
        self.judge(now, out);
        self.contend(now, out);
        match self.phase {
            Phase::Starting if self.peers.is_empty() => {
                self.claim(now, Reason::NoPeer, 0, out);
            }
            Phase::Starting | Phase::Standby => self.idle(now, out),
            Phase::Active { since } => self.serve(now, since, out),
            Phase::Asking { .. } => self.asking(now, out),
            Phase::Left => {}
        }
        self.hand_over_timeout(now, out);
        self.switch_timeout(now, out);
        if self.phase != Phase::Left {
            self.tell_levels(now, out);
            if !self.peers.is_empty() && now >= self.next_beat {
                self.beat(now, out);
                let next = self.next_beat + self.config.timing.beat;
                self.next_beat = if next > now { next } else { now + self.config.timing.beat };
            }
        }
        self.clock.due = self.due(now);
    }

    /// Who is silent, and who is dead.
    fn judge(&mut self, now: Time, out: &mut Vec<Effect>) {
        for n in 0..self.peers.len() {
            let timing = &self.config.timing;
            let (from, sent) = (self.clock.judge_from, self.tick);
            self.peers[n].judge(now, from, sent, timing, &mut |notice| out.push(Effect::Notice(notice)));
            if self.peers[n].proof_at(from, timing).is_some_and(|at| now >= at) {
                let was = self.peers[n].state();
                self.peers[n].dead = Some(Death::Refused);
                self.died(now, n, Death::Refused, was, out);
            }
        }
        let calm =
            |p: &super::detector::Peer| self.heard(now, p) && now.since(p.heard_since) >= self.config.timing.hold_max;
        if self.hold.raised() && self.peers.iter().all(calm) {
            self.hold.calm();
        }
    }

    /// A node that woke up late: the answers of all that live decide.
    fn asking(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.leaving {
            return;
        }
        let dead = |p: &super::detector::Peer| matches!(self.health(now, p), Health::Dead(_));
        let answered = |p: &super::detector::Peer| self.heard(now, p) && p.answered;
        let free = self.peers.iter().all(|p| dead(p) || answered(p));
        if free && self.own.dropped {
            self.claim(now, Reason::Resumed, 0, out);
        } else if free {
            self.phase = Phase::Active { since: now };
            out.push(Effect::Role { role: Role::Active, epoch: self.epoch });
            self.wish(Wish::Hold, out);
            out.push(Effect::Notice(Notice::Confirmed(self.epoch)));
            self.next_beat = now;
        } else if self.peers.iter().all(|p| dead(p) || answered(p) || !self.heard(now, p))
            && self.own.usable
            && self.nobody_answers(now, out)
        {
            self.claim(now, Reason::Silence, 0, out);
        }
    }

    fn due(&self, now: Time) -> Time {
        if self.phase == Phase::Left || self.peers.is_empty() {
            return Time::NEVER;
        }
        let timing = &self.config.timing;
        let mut due = self.next_beat;
        let mut at = |time: Time| {
            if time > now {
                due = due.min(time);
            }
        };
        for peer in &self.peers {
            if let Some(heard) = peer.heard_at {
                at(heard.max(self.clock.judge_from) + timing.suspicion);
            }
            peer.proof_at(self.clock.judge_from, timing).into_iter().for_each(&mut at);
        }
        if !self.active() || self.config.shared {
            at(self.silence_ripe_at());
            match self.probing {
                Probing::Sent { at: sent } => at(sent + timing.probe_limit()),
                Probing::Idle { not_before } => at(not_before),
                Probing::Passed => {}
            }
        }
        self.lease_ends().into_iter().chain(self.hearing_ends()).for_each(&mut at);
        self.giving.iter().for_each(|giving| at(giving.until));
        self.switching.iter().for_each(|switching| at(switching.until));
        self.quiet.iter().for_each(|(_, until)| at(*until));
        self.guest.due().into_iter().for_each(at);
        due
    }
}
