//! What a node is told.

use crate::base::{Flow, NodeId};
use crate::replica::Kind;
use crate::sip::{Index, Malformed};

/// A message as it came in, lent for one call.
#[derive(Clone, Copy, Debug)]
pub struct Received<'a> {
    /// From where, to which of our addresses.
    pub flow: Flow,
    /// Exactly one datagram, or one message framed from a stream.
    pub bytes: &'a [u8],
}

/// Something that happened outside.
#[derive(Clone, Copy, Debug)]
pub enum Input<'a> {
    /// A datagram, or a message framed from a stream.
    Message(Received<'a>),
    /// A stream lost its framing; `bytes` is the head of the message at fault. The node may answer; the driver closes
    /// the stream afterwards in any case.
    BadStream(Received<'a>, Malformed),
    /// Octets of ours that could not be delivered: a failed send, a refused connection, or the quotation in an ICMP
    /// error. `flow` as in the transmit; the octets may be cut short.
    Undelivered(Received<'a>),
    /// What an operator or the driver wants.
    Command(Command),
    /// One authentic frame of a peer.
    Frame {
        /// Whose.
        peer: NodeId,
        /// What it carries.
        kind: Kind,
        /// Its payload.
        payload: &'a [u8],
    },
    /// The bulk stream to the peer can take so many octets now.
    Room(usize),
    /// Something of the pair that the driver observed.
    Pair(crate::cluster::Input),
}

/// What an operator or the driver wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    /// No new calls: INVITEs get 503 with Retry-After, OPTIONS say so too. What lives goes on.
    Drain,
    /// The opposite.
    Resume,
}

/// Scratch of one driver thread: message indexes and the order of a batch. Reused, so that nothing is allocated per
/// message.
#[derive(Default)]
pub struct Scratch {
    pub(super) indexes: Vec<Index>,
    pub(super) order: Vec<(u8, u8)>,
}
