//! What frames carry and which stream they take.

/// The stream of a peer that a frame takes. The number goes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Stream {
    /// Attempts, ends, acknowledgements: what somebody waits for.
    Urgent = 0,
    /// Snapshot and repair.
    Bulk = 1,
}

impl Stream {
    /// Both, in the order of their numbers.
    pub const ALL: [Stream; 2] = [Stream::Urgent, Stream::Bulk];

    /// The stream with this number.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|stream| *stream as u8 == number)
    }

    /// The label of its metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Stream::Urgent => "urgent",
            Stream::Bulk => "bulk",
        }
    }
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
    /// The sender's process ends by its own will: proof that it serves no more. The link's own, empty.
    Goodbye = 8,
    /// All that the sender owned belongs to the receiver.
    Handover = 9,
    /// The sender's configuration, as far as both nodes must have it alike; see [`super::settings`].
    Settings = 10,
    /// Streams that callers have open to the sender. The driver's own.
    Callers = 11,
    /// Somebody waits for the acknowledgement of what came before: it is to come now. Which lane and position, as in an
    /// acknowledgement: what threads of the sender wrote may come behind it.
    Ask = 12,
    /// What speaks against resources; see [`super::doubts`].
    Doubts = 13,
    /// A SIP message that came in elsewhere and may belong to a call of the receiver: from there it goes nowhere else.
    Offer = 14,
    /// Transactions that the sender has and the receiver does not; see [`super::marks`].
    Marks = 15,
    /// Ports that calls of the sender hold; see [`super::ports`].
    Ports = 16,
    /// Hosts that resources have named for themselves; see [`super::hosts`].
    Hosts = 17,
    /// Ports that the nodes have lent each other: an octet that says whether it is all that the sender knows, then entries.
    Tokens = 18,
    /// The sender needs ports; see [`super::borrow`].
    Borrow = 19,
    /// What the sender sees of resources that keys of calls are bound to; see [`super::sight`].
    Sight = 20,
}

impl Kind {
    /// All kinds, in the order of their numbers.
    pub const ALL: [Kind; 20] = [
        Kind::Records,
        Kind::Ack,
        Kind::Digest,
        Kind::Want,
        Kind::Bucket,
        Kind::Cluster,
        Kind::Relay,
        Kind::Goodbye,
        Kind::Handover,
        Kind::Settings,
        Kind::Callers,
        Kind::Ask,
        Kind::Doubts,
        Kind::Offer,
        Kind::Marks,
        Kind::Ports,
        Kind::Hosts,
        Kind::Tokens,
        Kind::Borrow,
        Kind::Sight,
    ];

    /// Whether a reader that does not know it may skip the frame: it then knows less, and nothing wrong.
    pub const fn is_ignorable(self) -> bool {
        matches!(
            self,
            Kind::Doubts | Kind::Marks | Kind::Ports | Kind::Hosts | Kind::Tokens | Kind::Borrow | Kind::Sight
        )
    }

    /// The kind with this number.
    pub fn of(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| *kind as u8 == number)
    }
}
