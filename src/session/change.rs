//! What a journal would carry: changes of state as plain values with opaque octets.

use crate::base::{Flow, LegId, ResourceId, SessionId, Time};

/// A change that somebody else must know before the message that depends on it leaves.
#[expect(clippy::large_enum_variant, reason = "lent for one call, never stored")]
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// An INVITE was placed on a resource: all that is needed to continue it elsewhere.
    Attempt(AttemptRecord<'a>),
    /// A leg was answered.
    Leg {
        /// The leg.
        leg: LegId,
        /// Where it lives.
        resource: ResourceId,
    },
    /// An INVITE was cancelled by its caller: no further candidate may be tried.
    Cancelled {
        /// The session of the INVITE.
        session: SessionId,
    },
    /// An INVITE got its final answer; kept so that retransmissions meet it.
    Tombstone {
        /// The session of the INVITE.
        session: SessionId,
        /// The final status.
        status: u16,
    },
    /// A leg ended. Beats every live state.
    Ended {
        /// The leg.
        leg: LegId,
    },
}

/// An attempt as a value.
#[derive(Clone, Copy, Debug)]
pub struct AttemptRecord<'a> {
    /// The leg that the attempt would become.
    pub leg: LegId,
    /// Its session.
    pub session: SessionId,
    /// The resource whose port it holds.
    pub resource: ResourceId,
    /// Where the INVITE went.
    pub target: Flow,
    /// Where it came from.
    pub upstream: Flow,
    /// The literal branch; never recomputed.
    pub branch: &'a [u8],
    /// The INVITE as received.
    pub invite: &'a [u8],
    /// 0 for the first choice.
    pub index: u8,
    /// When Timer C would fire.
    pub timer_c: Time,
}
