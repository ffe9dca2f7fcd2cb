//! Why a node takes the role, and how it knows of a death.

use std::fmt;

/// How a node knows that a peer is dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Death {
    /// It said so.
    Goodbye,
    /// Its connection broke, a new one was refused, and a beat was missed.
    Refused,
    /// A new process answers in its place.
    Replaced,
    /// An operator said so.
    Declared,
}

/// Why a node took the role.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// There is no peer in the configuration.
    NoPeer,
    /// Started, heard nobody, and nobody answers for the address.
    Alone,
    /// Chosen among nodes of which none was active.
    Elected,
    /// Every peer is proved dead; how the last one was.
    Death(Death),
    /// The active peer fell silent and nobody answers for the address.
    Silence,
    /// The active peer handed over.
    HandOver,
    /// A hand-over to a peer failed at its end.
    Resumed,
    /// It is active, and met a node that knew of a higher epoch.
    Renewed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::NoPeer => f.write_str("it is alone"),
            Reason::Alone => f.write_str("nobody was heard and nobody answers for the address"),
            Reason::Elected => f.write_str("no node was active and this one is preferred"),
            Reason::Death(death) => write!(f, "the peer is dead, {death}"),
            Reason::Silence => f.write_str("the peer is silent and nobody answers for the address"),
            Reason::HandOver => f.write_str("the peer handed over"),
            Reason::Resumed => f.write_str("the peer did not take over"),
            Reason::Renewed => f.write_str("a peer knew of a higher epoch"),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Death::Goodbye => "it said goodbye",
            Death::Refused => "its connection broke, a new one is refused and its beats stopped",
            Death::Replaced => "a new process runs in its place",
            Death::Declared => "an operator declared it dead",
        })
    }
}
