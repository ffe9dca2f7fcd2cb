//! The live switch of `cluster.ha-mode`. The active node asks its peer whether it could, makes the new word durable and tells
//! it. Whoever hears a later word than its own follows it, whenever that is: what a crash leaves half done is finished when
//! the nodes meet.

use crate::base::{Epoch, NodeId, Time};

use super::beat::{Flags, State};
use super::config::{HaMode, Mode};
use super::detector::Peer;
use super::io::{Effect, Progress};
use super::message::{Message, ModeStep, Refusal};
use super::notice::Notice;
use super::state::{Cluster, Phase, Switching};

impl Cluster {
    /// The mode in force.
    pub fn mode(&self) -> HaMode {
        self.config.mode.mode
    }

    /// Whether nobody takes over from anybody, and no copy is kept.
    pub(super) fn is_apart(&self) -> bool {
        self.mode() == HaMode::None && !self.peers.is_empty()
    }

    /// Whether this node may claim the role when nobody has it.
    pub(super) fn may_claim(&self) -> bool {
        !self.is_apart() || self.config.mode.word.node == self.config.me
    }

    /// Whether every peer that is heard is in this node's mode.
    pub(super) fn agreed(&self, now: Time) -> bool {
        self.peers.iter().all(|p| p.mode == Some(self.config.mode) || !self.near(now, p))
    }

    /// An operator wants another mode.
    pub(super) fn switch_mode(&mut self, now: Time, to: HaMode, out: &mut Vec<Effect>) -> Result<(), Refusal> {
        self.why_no_mode = None;
        if to == self.mode() {
            return Ok(());
        }
        self.could_switch(now, to)?;
        if !self.active() {
            let (n, _) = self.leader(now).ok_or(Refusal::NobodyActive)?;
            let to = Mode { mode: to, word: Epoch::default() };
            out.push(Effect::Tell { peer: self.peers[n].id, message: Message::Mode { step: ModeStep::Ask, to } });
            return Ok(());
        }
        let to = Mode { mode: to, word: self.next_word() };
        let asked = self.peers.iter().filter(|p| p.dead.is_none());
        let tell = |p: &Peer| Effect::Tell { peer: p.id, message: Message::Mode { step: ModeStep::Prepare, to } };
        let before = out.len();
        out.extend(asked.map(tell));
        if out.len() == before {
            self.set_mode(to, out);
        } else {
            self.switching = Some(Switching { to, until: now + self.config.timing.step });
        }
        Ok(())
    }

    /// Why the mode cannot be switched, as of the last turn; asks nobody.
    ///
    /// # Errors
    ///
    /// What stands against it.
    pub fn permits(&self, to: HaMode) -> Result<(), Refusal> {
        self.could_switch(self.clock.last_turn, to)
    }

    fn could_switch(&self, now: Time, to: HaMode) -> Result<(), Refusal> {
        let refuse = |on: bool, why| if on { Err(why) } else { Ok(()) };
        refuse(!self.config.modes.contains(&to), Refusal::NoSuchMode)?;
        refuse(self.leaving, Refusal::Leaving)?;
        refuse(self.giving.is_some() || self.taking.is_some() || self.switching.is_some(), Refusal::Busy)?;
        if !self.active() {
            let (n, _) = self.leader(now).ok_or(Refusal::NobodyActive)?;
            return refuse(!self.peers[n].link, Refusal::LinkDown);
        }
        for peer in self.peers.iter().filter(|p| p.dead.is_none()) {
            refuse(!self.heard(now, peer), Refusal::NoPeer)?;
            refuse(peer.has(Flags::LEAVING), Refusal::Leaving)?;
            refuse(!peer.link, Refusal::LinkDown)?;
            let follows = peer.last.is_some_and(|last| last.state == State::Standby && last.term == self.epoch);
            refuse(!follows, Refusal::OtherTerm)?;
            refuse(to == HaMode::None && peer.has(Flags::SERVES), Refusal::PeerServes)?;
        }
        Ok(())
    }

    fn next_word(&self) -> Epoch {
        Epoch { counter: self.config.mode.word.counter.saturating_add(1), node: self.config.me }
    }

    /// From now on this mode is in force here, also after a restart.
    fn set_mode(&mut self, to: Mode, out: &mut Vec<Effect>) {
        let (before, was_apart) = (self.mode(), self.is_apart());
        (self.config.mode, self.switching) = (to, None);
        self.opening = was_apart && self.active();
        out.push(Effect::Mode(to));
        if before != to.mode {
            out.push(Effect::Notice(Notice::ModeSet(to)));
        }
        if self.is_apart() {
            self.peers.iter_mut().for_each(|peer| (peer.sync, peer.serves) = (Progress::default(), false));
        }
        for n in 0..self.peers.len() {
            self.tell_mode(n, out);
        }
    }

    /// Tells the peer what is in force here.
    pub(super) fn tell_mode(&self, n: usize, out: &mut Vec<Effect>) {
        let peer = &self.peers[n];
        if peer.link {
            let message = Message::Mode { step: ModeStep::Set, to: self.config.mode };
            out.push(Effect::Tell { peer: peer.id, message });
        }
    }

    /// What a peer says of modes.
    pub(super) fn told_mode(&mut self, now: Time, n: usize, step: ModeStep, to: Mode, out: &mut Vec<Effect>) {
        let peer = self.peers[n].id;
        let answer = |step| Effect::Tell { peer, message: Message::Mode { step, to } };
        let ours = self.switching.is_some_and(|switching| switching.to == to);
        match step {
            ModeStep::Ask => {
                let asked =
                    if self.active() { self.switch_mode(now, to.mode, out) } else { Err(Refusal::NobodyActive) };
                out.extend(asked.err().map(|why| answer(ModeStep::Refuse(why))));
            }
            ModeStep::Prepare => {
                let could = self.could_follow(n, to.mode);
                out.push(answer(could.map_or_else(ModeStep::Refuse, |()| ModeStep::Ready)));
            }
            ModeStep::Ready if ours => self.set_mode(to, out),
            ModeStep::Refuse(why) if ours || to.word == Epoch::default() => self.refuse_mode(why, out),
            ModeStep::Ready | ModeStep::Refuse(_) => {}
            ModeStep::Set => {
                self.peers[n].mode = Some(to);
                self.compare_modes(n, to, out);
            }
        }
    }

    /// Why this standby could not follow the active node into that mode.
    fn could_follow(&self, n: usize, to: HaMode) -> Result<(), Refusal> {
        let refuse = |on: bool, why| if on { Err(why) } else { Ok(()) };
        refuse(!self.config.modes.contains(&to), Refusal::NoSuchMode)?;
        refuse(self.phase != Phase::Standby, Refusal::OtherTerm)?;
        refuse(self.leaving, Refusal::Leaving)?;
        // What it owns it can give away only while each tells the other of its calls.
        let owns = self.beside.is_some() || self.own.calls || self.peers[n].sync.owes || self.quiet.is_some();
        refuse(to == HaMode::None && owns, Refusal::PeerServes)
    }

    fn compare_modes(&mut self, n: usize, theirs: Mode, out: &mut Vec<Effect>) {
        let ours = self.config.mode;
        if theirs.word > ours.word || (theirs.word == ours.word && theirs.mode != ours.mode && self.is_behind(n)) {
            self.set_mode(theirs, out);
            if self.is_apart() && self.active() && !self.may_claim() {
                // Who serves is the one that is to serve alone.
                self.set_mode(Mode { word: self.next_word(), ..theirs }, out);
            }
        } else if theirs != ours {
            self.tell_mode(n, out);
        }
    }

    /// Of two configurations that say different things that of the lower id counts.
    fn is_behind(&self, n: usize) -> bool {
        self.peers[n].id < self.config.me
    }

    fn refuse_mode(&mut self, why: Refusal, out: &mut Vec<Effect>) {
        (self.switching, self.why_no_mode) = (None, Some(why));
        out.push(Effect::Notice(Notice::ModeRefused(why)));
    }

    /// What time does to a switch.
    pub(super) fn switch_timeout(&mut self, now: Time, out: &mut Vec<Effect>) {
        if self.switching.is_some_and(|switching| now >= switching.until || !self.active()) {
            self.refuse_mode(Refusal::TimedOut, out);
        }
    }

    /// Tells whether each tells the other of its calls, if that changed.
    pub(super) fn tell_lanes(&mut self, out: &mut Vec<Effect>) {
        let apart = self.is_apart();
        let open = |p: &&Peer| p.link && !apart && p.mode.is_none_or(|mode| mode.mode != HaMode::None);
        let lanes: Option<NodeId> = self.peers.iter().find(open).map(|p| p.id);
        if std::mem::replace(&mut self.told.lanes, lanes) != lanes {
            out.push(Effect::Lanes(lanes));
        }
    }
}
