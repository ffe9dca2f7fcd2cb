//! `cluster.partition`: what of each limit a node may spend on new calls, by what it knows of its peers.

use super::config::Partition;
use super::io::Budget;

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
        (Outlook::Alone | Outlook::Together, _) => Budget::Whole,
        (Outlook::Contested | Outlook::Unknown, _) => Budget::Floor,
        (Outlook::Lapsed, Partition::Available) => Budget::Whole,
        (Outlook::Lapsed, Partition::Exact) => Budget::Floor,
        (Outlook::Lapsed, Partition::PreferLowerId) if lowest => Budget::Whole,
        (Outlook::Lapsed, Partition::PreferLowerId) => Budget::Nothing,
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
            (Exact, true, [Whole, Whole, Floor, Floor, Floor]),
            (Exact, false, [Whole, Whole, Floor, Floor, Floor]),
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
