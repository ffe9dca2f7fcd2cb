//! Why a node gives its role away.

use std::fmt;

/// Why a node gives its role away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An operator asked.
    Switchover,
    /// The peer is preferred (`preempt`).
    GiveBack,
    /// The node stops.
    Stop,
    /// Its workers do not turn or its shards are unsound.
    Unfit,
    /// What comes in waits for too long.
    Behind,
    /// Its interface cannot carry the addresses.
    Unusable,
    /// It lost the addresses.
    Dropped,
    /// It reaches none of its reference points and the peer reaches one.
    Isolated,
}

impl Cause {
    /// Whether it is better to give the role up than to wait for a clean end.
    pub(super) fn is_urgent(self) -> bool {
        matches!(self, Cause::Unusable | Cause::Dropped | Cause::Isolated | Cause::Behind)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Switchover => "an operator asked for it",
            Cause::GiveBack => "it is preferred",
            Cause::Stop => "this node stops",
            Cause::Unfit => "this node is unfit",
            Cause::Behind => "this node lags behind",
            Cause::Dropped => "this node lost the virtual addresses",
            Cause::Unusable => "this node's interface cannot carry the address",
            Cause::Isolated => "this node reaches none of its reference points and the peer does",
        })
    }
}
