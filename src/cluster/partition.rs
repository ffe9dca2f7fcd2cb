//! `cluster.partition`: what of each limit a node may spend on new calls, by what it knows of its peers, and who has the
//! greater share where they must keep to shares.

use crate::base::{NodeId, Time};

use super::beat::Flags;
use super::config::Partition;
use super::detector::{Health, Peer};
use super::io::{Budget, Effect};
use super::state::Cluster;

/// What is known of the peers, for spending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outlook {
    /// There are none, or all are proved dead.
    Alone,
    /// All that are not dead are heard and follow this node.
    Together,
    /// One is active as well.
    Contested,
    /// One is silent, or was never heard, and may serve; the lease has not passed.
    Unknown,
    /// The same, and the lease has passed.
    Lapsed,
}

/// What a node that is active (`serving`) may spend; `lowest`: no silent peer has a lower id.
pub(super) fn budget(policy: Partition, serving: bool, outlook: Outlook, lowest: bool) -> Budget {
    if !serving {
        return Budget::Nothing;
    }
    match (outlook, policy) {
        // Whoever is heard now may be cut off a moment later, and spend its share before that is noticed.
        (Outlook::Together, Partition::Exact) => Budget::Floor,
        (Outlook::Alone | Outlook::Together, _) => Budget::Whole,
        (Outlook::Contested | Outlook::Unknown, _) => Budget::Floor,
        (Outlook::Lapsed, Partition::Available) => Budget::Whole,
        (Outlook::Lapsed, Partition::Exact) => Budget::Floor,
        (Outlook::Lapsed, Partition::PreferLowerId) if lowest => Budget::Whole,
        (Outlook::Lapsed, Partition::PreferLowerId | Partition::Witness) => Budget::Nothing,
    }
}

impl Cluster {
    /// What this node may spend now.
    pub(super) fn budget(&self, now: Time, outlook: Outlook) -> Budget {
        if self.is_apart() {
            return match (self.serves() && !self.frozen(), self.agreed(now)) {
                (false, _) => Budget::Nothing,
                (true, false) => Budget::Floor,
                (true, true) => Budget::Whole,
            };
        }
        if self.opening && self.active() && !self.frozen() && outlook == Outlook::Together {
            return Budget::Whole;
        }
        if self.is_witnessed() {
            let spends = self.serves() && !self.frozen();
            return if spends { self.witnessed(now, outlook) } else { Budget::Nothing };
        }
        // Who may live may have had all of a limit while this node was not there.
        let knows = self.config.partition != Partition::Exact || self.own.knows;
        let serving = self.serves() && !self.frozen() && knows;
        let lowest = self.unsure(now).all(|p| p.id > self.config.me);
        // Where both serve each keeps to its share while the other one may live.
        let shared = self.config.shared && outlook == Outlook::Together;
        let policy = if shared { Partition::Exact } else { self.config.partition };
        budget(policy, serving, outlook, lowest)
    }

    /// Peers that are neither heard nor dead.
    fn unsure(&self, now: Time) -> impl Iterator<Item = &Peer> {
        self.peers.iter().filter(move |p| !matches!(self.health(now, p), Health::Heard | Health::Dead(_)))
    }

    pub(super) fn outlook(&self, now: Time) -> Outlook {
        let since = |p: &Peer| now.since(p.heard_at.unwrap_or(self.clock.started));
        if self.peers.iter().all(|p| p.dead.is_some()) {
            Outlook::Alone
        } else if self.peers.iter().any(|p| p.rival && self.heard(now, p)) {
            Outlook::Contested
        } else if self.unsure(now).any(|p| since(p) < self.config.timing.lease) {
            Outlook::Unknown
        } else if self.unsure(now).count() > 0 {
            Outlook::Lapsed
        } else {
            Outlook::Together
        }
    }

    /// Who serves takes the greater share of each limit once its peer has followed it and each has the calls of the other,
    /// or once its peer is dead.
    pub(super) fn tell_share(&mut self, by: Option<NodeId>, outlook: Outlook, out: &mut Vec<Effect>) {
        let copied = by.and_then(|id| self.index(id)).is_some_and(|n| self.peers[n].sync.incoming);
        if self.active() && self.giving.is_none() && (copied || outlook == Outlook::Alone) {
            self.share = self.config.me;
        }
        if self.told.share != Some(self.share) {
            self.told.share = Some(self.share);
            out.push(Effect::Share(self.share));
        }
    }

    /// Judges what each peer may have spent unheard, by what is known of it now.
    pub(super) fn reckon(&mut self, now: Time) {
        let (suspicion, term) = (self.config.timing.suspicion, self.term);
        let witnessed = self.is_witnessed();
        for peer in self.peers.iter_mut().filter(|p| p.dead.is_none()) {
            let Some(last) = peer.last else { continue };
            // Its claim may be known from the stream alone.
            let told = term.node == peer.id && term > last.epoch;
            peer.spent = match peer.spent {
                // It may have claimed meanwhile. A whole limit is had by who has seen this node die, not by who loses it.
                // Without the lease it spends nothing, and what it spent with it the witness knows.
                Budget::Nothing if !witnessed && peer.quiet(now, Time::ZERO) >= suspicion => Budget::Floor,
                before if peer.quiet(now, Time::ZERO) >= suspicion => before,
                _ if peer.leads() && peer.whole => Budget::Nothing,
                _ if (peer.leads() || told) && peer.copied => Budget::Floor,
                _ if peer.leads() || told => Budget::Whole,
                _ if peer.sync.incoming => Budget::Nothing,
                // Calls of its own: of this node's it has none yet.
                _ if !peer.copied && last.flags.has(Flags::CALLS) && last.term.node != self.config.me => Budget::Whole,
                before => before,
            };
        }
    }

    /// Whether this node knows what was spent before it, now or since it knew once: all that peers had, or that there was
    /// nothing.
    pub(super) fn learns(&self, now: Time) -> bool {
        let empty = |p: &Peer| self.heard(now, p) && !p.has(Flags::CALLS);
        self.own.knows || self.peers.iter().all(|p| p.dead.is_some() || self.is_known(p) || empty(p))
    }

    /// A peer has died: calls of which this node has not heard keep their ports.
    pub(super) fn leave_alone(&mut self, n: usize, out: &mut Vec<Effect>) {
        let spent = std::mem::take(&mut self.peers[n].spent);
        let spent = self.may_have_spent(spent);
        let exact = matches!(self.config.partition, Partition::Exact | Partition::Witness);
        if exact && spent != Budget::Nothing {
            out.push(Effect::Unheard(self.peers[n].id, spent));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table() {
        use Budget::{Floor, Nothing, Whole};
        use Partition::{Available, Exact, PreferLowerId};
        // Policy, lowest id; then alone, together, contested, unknown, lapsed.
        let table = [
            (Available, true, [Whole, Whole, Floor, Floor, Whole]),
            (Available, false, [Whole, Whole, Floor, Floor, Whole]),
            (Exact, true, [Whole, Floor, Floor, Floor, Floor]),
            (Exact, false, [Whole, Floor, Floor, Floor, Floor]),
            (PreferLowerId, true, [Whole, Whole, Floor, Floor, Whole]),
            (PreferLowerId, false, [Whole, Whole, Floor, Floor, Nothing]),
        ];
        let outlooks = [Outlook::Alone, Outlook::Together, Outlook::Contested, Outlook::Unknown, Outlook::Lapsed];
        for (policy, lowest, row) in table {
            for (outlook, want) in outlooks.into_iter().zip(row) {
                assert_eq!(budget(policy, true, outlook, lowest), want, "{policy:?} {lowest} {outlook:?}");
                assert_eq!(budget(policy, false, outlook, lowest), Nothing);
            }
        }
    }
}
