//! What a node asks of its witness, what it hears, and what it keeps in mind of that.

use crate::base::{NodeId, Time};

/// What a node wants of the witness. A level: it holds until the next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ask {
    /// The lease; a node that does not want it gives it back.
    pub hold: bool,
    /// What the witness shall note.
    pub note: Note,
}

/// What a node has the witness note about its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// What was noted before stays: a new process does not know what its predecessor did.
    Keep,
    /// The peer knows all of its calls.
    Shared,
    /// It takes calls of which the peer may not hear, as soon as it holds the lease.
    Alone,
}

/// What the witness said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word {
    /// This node holds the lease.
    pub lease: Option<Lease>,
    /// Who holds it, as far as it said.
    pub holder: Option<NodeId>,
    /// The other node went on alone: calls live of which nobody here may have heard.
    pub other_alone: bool,
}

/// The lease, at its holder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    /// Until when, counted from before it was asked for.
    pub until: Time,
    /// It is noted that this node goes on alone.
    pub alone: bool,
}

/// What a node says of its witness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WitnessStatus {
    /// Whether it answers; `None`: it was not asked yet.
    pub answers: Option<bool>,
    /// This node holds the lease.
    pub held: bool,
    /// Who holds it, as far as the witness said when it last answered.
    pub holder: Option<NodeId>,
}

/// What is known of the witness.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Witness {
    pub answers: Option<bool>,
    pub lease: Option<Lease>,
    pub holder: Option<NodeId>,
    pub other_alone: bool,
    pub asked: Option<Ask>,
    /// What silent peers may have spent is left alone already.
    pub settled: bool,
    /// Since when no new calls are taken for want of the lease.
    pub refuses_since: Option<Time>,
    /// That was told.
    pub told_refusal: bool,
}
