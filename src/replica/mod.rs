//! What one node tells its peers so that they can carry on: frames, records, lanes. Knows no SIP.
#![forbid(unsafe_code)]

/// The stream of a peer that a frame takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Attempts, ends, acknowledgements: what somebody waits for.
    Urgent,
    /// Snapshot and repair.
    Bulk,
}

/// What a frame carries. The number goes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Records of one lane, in order.
    Records = 1,
    /// How far the records of a lane have been taken.
    Ack = 2,
    /// Digests of the records of a lane, at a position.
    Digest = 3,
    /// Buckets whose records differ: send them.
    Want = 4,
    /// The present records of a bucket.
    Bucket = 5,
    /// A message of the cluster: hand-over and the like.
    Cluster = 6,
    /// A SIP message that came in elsewhere.
    Relay = 7,
}
