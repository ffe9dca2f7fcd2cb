//! Counters.

/// What a cluster counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Claims of the role.
    pub claims: u64,
    /// Roles given up to a higher epoch without a hand-over.
    pub yields: u64,
    /// Hand-overs finished by this node as the former active.
    pub hand_overs: u64,
    /// Hand-overs given up.
    pub hand_overs_failed: u64,
    /// Meetings of two active nodes.
    pub splits: u64,
    /// Times that own timers were found late.
    pub late: u64,
    /// Beats not newer than the last one.
    pub replayed: u64,
    /// Beats of a past incarnation, or with an epoch that was passed.
    pub stale: u64,
    /// Beats of another cluster.
    pub foreign: u64,
    /// Beats of no member, or on a path that is not configured.
    pub unknown: u64,
    /// Beats with this node's own id.
    pub own_id: u64,
    /// Datagrams that no live secret sealed.
    pub unauthentic: u64,
}
