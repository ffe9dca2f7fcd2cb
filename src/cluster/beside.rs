//! Active-active: a standby that serves too. It follows the active node's claim like any other standby, so whatever only
//! one may decide has one that decides it; but it takes calls of its own, under an epoch of its own. A claim above the one
//! that it joined takes those calls as well: whoever claims has taken it for dead.

use crate::base::{Epoch, NodeId, Time};

use super::beat::{Flags, State};
use super::config::HaMode;
use super::detector::{Health, Peer};
use super::io::{Effect, Fitness, Role, Wish};
use super::notice::Notice;
use super::reason::Reason;
use super::state::{Beside, Cluster, Phase};

/// When a node whose own addresses were taken from it serves again.
const AGAIN: std::time::Duration = std::time::Duration::from_secs(1);

impl Cluster {
    /// Whether this node takes calls and owns them.
    pub(super) fn serves(&self) -> bool {
        self.active() || self.is_beside()
    }

    /// Whether this node serves beside the active one.
    pub(super) fn is_beside(&self) -> bool {
        self.beside.is_some_and(|beside| !beside.asks)
    }

    /// What this standby is beside the node that is active under `term`: it begins to serve, goes on, or steps back.
    pub(super) fn look_beside(&mut self, now: Time, n: usize, term: Epoch, out: &mut Vec<Effect>) {
        match self.beside {
            Some(beside) if beside.term != term || !self.may_stay(now) => self.step_back(now, n, out),
            Some(beside) if beside.asks && self.heard(now, &self.peers[n]) && self.peers[n].answered => {
                self.serve_beside(term, Notice::Confirmed(self.epoch), out);
            }
            None if self.may_join(now, n, term) => {
                let counter = self.seen.max(self.epoch.counter).saturating_add(1);
                self.epoch = Epoch { counter, node: self.config.me };
                self.seen = counter;
                self.own.calls = true;
                out.push(Effect::Persist(counter));
                self.serve_beside(term, Notice::Joined(term), out);
                self.next_beat = now;
            }
            _ => {}
        }
        // What comes to a node that does not serve is for the one that does.
        if self.config.shared && self.quiet.is_none() {
            let to = (self.beside.is_none() && self.peers[n].link).then_some(self.peers[n].id);
            self.relay(to, out);
        }
    }

    fn serve_beside(&mut self, term: Epoch, notice: Notice, out: &mut Vec<Effect>) {
        self.beside = Some(Beside { term, asks: false });
        // From now on it means that the other node could take over from this one.
        self.told.armed = None;
        out.push(Effect::Role { role: Role::Joined, epoch: self.epoch });
        if self.config.crossed.is_some() {
            self.wish(Wish::Hold, out);
        }
        out.push(Effect::Notice(notice));
    }

    /// It does not serve any more; what it owns goes to the active node.
    fn step_back(&mut self, now: Time, n: usize, out: &mut Vec<Effect>) {
        self.beside = None;
        if std::mem::take(&mut self.own.dropped) {
            self.own.hold_at = now + AGAIN;
        }
        if (self.leaving || self.mode() != HaMode::ActiveActive) && self.peers[n].link {
            // Whoever spreads calls over the nodes needs a moment to notice.
            self.quiet = Some((self.peers[n].id, now + self.config.timing.passes_on(self.own.usable)));
            self.relay(Some(self.peers[n].id), out);
            if self.told.wish == Some(Wish::Hold) {
                self.wish(Wish::Quiet, out);
            }
        }
        // Where its addresses are its own, somebody stands in for it once this is known.
        self.next_beat = now;
        out.push(Effect::Role { role: self.role(), epoch: self.term });
        out.push(Effect::Notice(Notice::SteppedBack(self.term)));
    }

    /// It stood still for long enough to have been taken for dead.
    pub(super) fn doubt_beside(&mut self, now: Time, gap: std::time::Duration, out: &mut Vec<Effect>) {
        let Some(beside) = self.beside.as_mut().filter(|beside| !beside.asks) else { return };
        beside.asks = true;
        out.push(Effect::Notice(Notice::Doubt(gap)));
        out.push(Effect::Role { role: Role::Asking, epoch: self.epoch });
        for peer in &mut self.peers {
            peer.ask(self.tick);
        }
        self.next_beat = now;
    }

    fn may_join(&self, now: Time, n: usize, term: Epoch) -> bool {
        let peer = &self.peers[n];
        let leads = peer.last.is_some_and(|last| last.state == State::Active && last.epoch == term);
        let alike = peer.sync.incoming && peer.sync.outgoing && !peer.sync.owes && !self.own.calls;
        let free = self.phase == Phase::Standby && self.taking.is_none() && self.quiet.is_none();
        leads && alike && free && now >= self.own.hold_at && peer.link && self.able() && self.may_stay(now)
    }

    fn may_stay(&self, now: Time) -> bool {
        let cut_off = self.isolated() && now.since(self.own.isolated_since) >= self.config.timing.isolation;
        let able = self.own.usable && !self.own.dropped && self.own.fitness != Fitness::Faulty && !self.leaving;
        self.mode() == HaMode::ActiveActive && able && !cut_off
    }

    /// The active node, if it could take over from this one beside it without a loss.
    pub(super) fn armed_beside(&self, now: Time) -> Option<NodeId> {
        let (n, _) = self.leader(now)?;
        let peer = &self.peers[n];
        let able = self.heard(now, peer) && peer.link && peer.has(Flags::FIT) && !peer.has(Flags::LEAVING);
        (able && peer.sync.outgoing && peer.has(Flags::ARMED)).then_some(peer.id)
    }

    /// Tells who serves as well, if that changed.
    pub(super) fn tell_beside(&mut self, now: Time, out: &mut Vec<Effect>) {
        let serves = |p: &&Peer| p.link && p.serves_now() && self.near(now, p);
        let shares = self.config.shared && !self.is_apart();
        let beside = self.peers.iter().find(serves).filter(|_| shares).map(|p| p.id);
        if std::mem::replace(&mut self.told.beside, beside) != beside {
            out.push(Effect::Beside(beside));
        }
    }

    /// A node that served beside this active one fell silent: as with a silent active node, its calls are claimed if nobody
    /// answers for it.
    pub(super) fn look_for_missing(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        let missing = |p: &Peer| p.serves && self.health(now, p) == Health::Silent;
        let claims = self.peers.iter().any(missing) && self.nobody_answers(now, out);
        if claims {
            self.claim(now, Reason::Silence, 0, out);
        }
        claims
    }

    /// Tells what is to become of the peer's addresses, if that changed.
    pub(super) fn tell_guest(&mut self, now: Time, out: &mut Vec<Effect>) {
        let Some(lingers) = self.config.crossed else { return };
        let (stands_in, acts) = (self.stands_in(now), self.serves() || self.quiet.is_some());
        out.extend(self.guest.wish(now, stands_in, acts, lingers).map(Effect::Guest));
    }

    /// Whether the peer does not serve, and this node does it for both.
    fn stands_in(&self, now: Time) -> bool {
        let joined = |p: &Peer| p.has(Flags::SERVES) && p.last.is_some_and(|last| last.term == self.epoch);
        // Of one that is not heard it is assumed until its calls are claimed.
        let serves = |p: &Peer| if self.near(now, p) { joined(p) } else { p.serves };
        self.active() && !self.peers.iter().any(serves)
    }

    /// Claims anew if the addresses of the peer were taken away here; whether it did.
    pub(super) fn hold_guest_again(&mut self, now: Time, out: &mut Vec<Effect>) -> bool {
        let again = self.guest.wants_claim(now) && self.stands_in(now);
        if again {
            self.claim(now, Reason::Resumed, 0, out);
        }
        again
    }
}
