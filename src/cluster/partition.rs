//! `cluster.partition`: what of each limit a node may spend on new calls, by what it knows of its peers, and who has the
//! greater share where they must keep to shares.

use crate::base::Time;

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
        (Outlook::Lapsed, Partition::PreferLowerId) => Budget::Nothing,
    }
}

impl Cluster {
    /// What this node may spend now.
    pub(super) fn budget(&self, now: Time) -> Budget {
        let serving = self.active() && !self.frozen();
        let silent = |p: &&Peer| !matches!(self.health(now, p), Health::Heard | Health::Dead(_));
        let lowest = self.peers.iter().filter(silent).all(|p| p.id > self.config.me);
        budget(self.config.partition, serving, self.outlook(now), lowest)
    }

    fn outlook(&self, now: Time) -> Outlook {
        let silent = |p: &&Peer| !matches!(self.health(now, p), Health::Heard | Health::Dead(_));
        let since = |p: &Peer| now.since(p.heard_at.unwrap_or(self.clock.started));
        if self.peers.iter().all(|p| matches!(self.health(now, p), Health::Dead(_))) {
            Outlook::Alone
        } else if self.peers.iter().any(|p| p.rival && self.heard(now, p)) {
            Outlook::Contested
        } else if self.peers.iter().filter(silent).any(|p| since(p) < self.config.timing.lease) {
            Outlook::Unknown
        } else if self.peers.iter().filter(silent).count() > 0 {
            Outlook::Lapsed
        } else {
            Outlook::Together
        }
    }

    /// Who serves takes the greater share of each limit once its peer has followed it, or is dead.
    pub(super) fn tell_share(&mut self, now: Time, armed: bool, out: &mut Vec<Effect>) {
        if self.active() && self.giving.is_none() && (armed || self.outlook(now) == Outlook::Alone) {
            self.share = self.config.me;
        }
        if self.told.share != Some(self.share) {
            self.told.share = Some(self.share);
            out.push(Effect::Share(self.share));
        }
    }

    /// A peer has died that served: calls of which this node has not heard keep their ports.
    pub(super) fn leave_alone(&self, n: usize, out: &mut Vec<Effect>) {
        let peer = &self.peers[n];
        if self.config.partition == Partition::Exact && !peer.whole {
            out.push(Effect::Unheard(peer.id));
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
