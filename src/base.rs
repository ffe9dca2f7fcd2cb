//! Words that every layer shares: time, node ids, epochs, buckets, addresses of a hop, named limits. No logic.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::SocketAddr;
use std::ops::{Add, Sub};
use std::time::Duration;

/// Microseconds of the boot-time clock. Comes in as `now` with every input; wall-clock steps cannot touch it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(u64);

impl Time {
    /// Before everything.
    pub const ZERO: Time = Time(0);
    /// After everything: the deadline of something that has none.
    pub const NEVER: Time = Time(u64::MAX);

    /// The instant `us` microseconds after boot.
    pub const fn from_micros(us: u64) -> Self {
        Time(us)
    }

    /// Microseconds since boot.
    pub const fn as_micros(self) -> u64 {
        self.0
    }

    /// How long ago `earlier` was; zero if it lies ahead.
    pub const fn since(self, earlier: Time) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

impl Add<Duration> for Time {
    type Output = Time;

    fn add(self, rhs: Duration) -> Time {
        Time(self.0.saturating_add(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

impl Sub<Duration> for Time {
    type Output = Time;

    fn sub(self, rhs: Duration) -> Time {
        Time(self.0.saturating_sub(u64::try_from(rhs.as_micros()).unwrap_or(u64::MAX)))
    }
}

/// A machine of the cluster: `cluster.mymemberid`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub u16);

/// A term of authority: a durable counter, made unique by the node that began it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch {
    /// Grows with every start and every claim; survives restarts.
    pub counter: u32,
    /// The node that began the epoch.
    pub node: NodeId,
}

/// Keyed hash of a Call-ID; all nodes of a cluster compute it alike.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CallKey(pub u64);

impl CallKey {
    /// The bucket of the call: the unit of steering, digests and repair.
    pub const fn bucket(self) -> Bucket {
        Bucket((self.0 >> 52) as u16)
    }
}

/// 12 bits of a [`CallKey`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket(pub u16);

impl Bucket {
    /// The shard that serves this bucket on a node with `shards` shards. Never goes on the wire.
    pub const fn shard(self, shards: usize) -> usize {
        self.0 as usize % shards
    }
}

/// A position in a journal lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Seq(pub u64);

/// Which of two states of a record is the later one: the epoch of its writer, then the position in the writer's lane.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// The epoch of its writer.
    pub epoch: Epoch,
    /// The writer's position in the lane of the call.
    pub seq: Seq,
}

/// One of the paths between this node and a peer: index into the addresses of `cluster.member.N`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathId(pub u8);

/// A call pinned to one resource: keyed hash over (Call-ID, From tag, upstream branch, attempt index).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LegId(pub u64);

/// An initial INVITE: keyed hash over (Call-ID, From tag, upstream branch), alike on every node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InviteId(pub u64);

/// A media server: hash of its canonical AOR, stable across reloads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ResourceId(pub u64);

/// The model's session: groups legs, also over several Call-IDs. (RFC 3261's "session" is media.)
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// What calls have in common that must be on one media server: keyed hash of a group's name and what its calls show, alike
/// on every node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinKey(pub u64);

/// What binds a call to the media server of others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pin {
    /// Whose calls.
    pub key: PinKey,
    /// Which decision: 1 for the server that comes first, one more for each that is passed over, never 0. The later one
    /// is the larger one.
    pub generation: u32,
}

/// What carries a message over one hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// Datagrams, RFC 3261 §18.
    Udp,
    /// Streams framed by Content-Length, RFC 3261 §18.3.
    Tcp,
    /// The same inside TLS, RFC 3261 §26.2.1.
    Tls,
}

impl Transport {
    /// As written in Via: `UDP`, `TCP`, `TLS`.
    pub const fn via(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
        }
    }

    /// As written in a `transport` URI parameter: `udp`, `tcp`, `tls`.
    pub const fn param(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
        }
    }

    /// Reads either spelling, any case (RFC 3261 §7.3.1).
    pub fn parse(text: &[u8]) -> Option<Self> {
        if text.eq_ignore_ascii_case(b"udp") {
            Some(Transport::Udp)
        } else if text.eq_ignore_ascii_case(b"tcp") {
            Some(Transport::Tcp)
        } else if text.eq_ignore_ascii_case(b"tls") {
            Some(Transport::Tls)
        } else {
            None
        }
    }

    /// Whether the transport itself retransmits: RFC 3261 §17 turns timers A, E, G, D, I, J, K off or to zero.
    pub const fn reliable(self) -> bool {
        matches!(self, Transport::Tcp | Transport::Tls)
    }

    /// The port where none is written in a URI or Via (RFC 3261 §18.2.2, §19.1.2).
    pub const fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.param())
    }
}

/// A stream connection, for as long as it lives. Ids are never used twice by one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConnId(pub u64);

/// A configured listener: index into `sip.transport`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub u16);

/// One hop as this node sees it: which listener, from where to where. Of a received message `remote` is its true
/// source and `local` the address it came to; of a sent one `local` is the address it leaves from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// UDP, or what kind of stream.
    pub transport: Transport,
    /// The listener whose socket received or shall send it.
    pub listener: ListenerId,
    /// Our address. For a received message never a wildcard (IP_PKTINFO).
    pub local: SocketAddr,
    /// The other side's address.
    pub remote: SocketAddr,
    /// The stream, if there is one. For sending: preferred while it lives; else `remote` is connected to
    /// (RFC 3261 §18.2.2).
    pub conn: Option<ConnId>,
}

/// A host as written in a URI or Via.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Host<'a> {
    /// An IP literal; IPv6 without its brackets.
    Ip(std::net::IpAddr),
    /// A DNS name as written; compare without case.
    Name(&'a [u8]),
}

/// For how many entries an index begins with room whose limit is `limit`. What is sized for the largest site lies in
/// memory so thinly at a usual one that every look-up misses the cache; growing costs a shard about a millisecond, a few
/// times in its life.
pub const fn index_room(limit: usize) -> usize {
    const SMALL: usize = 512;
    if limit <= SMALL {
        limit
    } else if limit / 16 < SMALL {
        SMALL
    } else {
        limit / 16
    }
}

/// Hash of `bytes` under `seed`. Not for adversaries who know the seed. Digests that nodes compare are made of it, so it
/// is the same in every version.
pub fn table_hash(seed: u64, bytes: &[u8]) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut h = seed ^ (bytes.len() as u64).wrapping_mul(K);
    let (words, rest) = bytes.as_chunks::<8>();
    for word in words {
        h = fold(h ^ u64::from_le_bytes(*word), K ^ seed.rotate_left(17));
    }
    let mut last = [0u8; 8];
    last[..rest.len()].copy_from_slice(rest);
    h = fold(h ^ u64::from_le_bytes(last), 0xe703_7ed1_a0b4_28db ^ seed);
    fold(h, K)
}

fn fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product as u64) ^ ((product >> 64) as u64)
}

/// Numbers that bound this program. Full always has a defined, counted answer.
pub mod limits {
    use std::time::Duration;

    /// Octets of one SIP message: what a UDP datagram can carry, and what a `u16` span can name.
    pub const MESSAGE: usize = 65_535;
    /// Header fields of one message.
    pub const HEADERS: usize = 128;
    /// Via values of one message; Max-Forwards 70 allows 71.
    pub const VIAS: usize = 80;
    /// Route values of one message.
    pub const ROUTES: usize = 32;
    /// Header fields that a request may gain on its way through: Via, two Record-Routes, Max-Forwards.
    pub const GAINED_HEADERS: usize = 4;
    /// Octets that a request may gain: those fields, the resource's address, received and rport.
    pub const GAINED_OCTETS: usize = 1_024;
    /// Octets of a Request-URI.
    pub const URI: usize = 8_192;
    /// Octets of a Call-ID, a tag or a branch.
    pub const IDENTIFIER: usize = 1_024;
    /// Legs alive on one node.
    pub const LEGS: usize = 1_000_000;
    /// Keys that calls are bound by, on one node.
    pub const PINS: usize = 1_000_000;
    /// Transactions alive on one node.
    pub const TRANSACTIONS: usize = 500_000;
    /// Octets of one journal lane.
    pub const LANE: usize = 1 << 20;
    /// Octets of the payload of one frame between nodes: a full lane and the record that filled it.
    pub const FRAME: usize = LANE + (1 << 18);
    /// Messages of one shard that wait for the peer's word; more leave without it.
    pub const HELD: usize = 4_096;
    /// Frames of one lane that wait for an earlier one.
    pub const EARLY_FRAMES: usize = 256;
    /// Messages that a peer passes on before this node acts for the pair: as many as a hand-over may leave waiting.
    pub const EARLY_RELAYS: usize = 1_024;
    /// Datagrams that wait for the address that they leave from: what came of as many messages passed on.
    pub const UNADDRESSED: usize = EARLY_RELAYS;
    /// Octets of the opening message of a stream between nodes.
    pub const HELLO: usize = 512;
    /// Octets of the payload of one beat: it must fit a datagram on every path.
    pub const BEAT: usize = 1_024;
    /// Octets that wait for one urgent stream to a peer.
    pub const URGENT_OUTBOUND: usize = 4 << 20;
    /// Octets that wait for one bulk stream to a peer. Whoever fills it asks for room first.
    pub const BULK_OUTBOUND: usize = 4 << 20;
    /// With less room in it no further bucket is sent: one of a full node has a tenth of this.
    pub const BULK_ROOM: usize = 1 << 20;
    /// Octets of a bulk stream that the kernel holds unsent: what an urgent frame must never stand behind.
    pub const BULK_UNSENT: usize = 64 * 1024;
    /// Streams from peers that have not proved who they are.
    pub const HALF_OPEN: usize = 16;
    /// The same, from one source address.
    pub const HALF_OPEN_PER_SOURCE: usize = 4;
    /// Stream connections of one node.
    pub const CONNECTIONS: usize = 10_000;
    /// Descriptors that stream connections leave to everything else: listeners, operators, the peer, files. Of a process
    /// that may have few it is half of them.
    pub const DESCRIPTORS_KEPT: usize = 128;
    /// Stream connections from one source address (resources are exempt).
    pub const CONNECTIONS_PER_SOURCE: usize = 1_000;
    /// TLS handshakes of connections to this node that go on at one time.
    pub const HANDSHAKES: usize = 1_000;
    /// Octets of one stream connection that no message has claimed yet.
    pub const UNPARSED: usize = 64 * 1024;
    /// Octets waiting to be written to one stream connection.
    pub const OUTBOUND: usize = 1 << 20;
    /// Datagrams handled per wake-up.
    pub const BATCH: usize = 256;
    /// Shards of a node.
    pub const SHARDS: usize = 64;
    /// Hosts learnt from the Contact and Record-Route of one resource.
    pub const LEARNT_HOSTS: usize = 16;
    /// Attempts of one INVITE: how many members are tried before the caller is told.
    pub const ATTEMPTS: usize = 16;
    /// A message larger than this prefers a stream when the target offers one (RFC 3261 §18.1.1).
    pub const DATAGRAM_REQUEST: usize = 1_300;
    /// A TLS handshake must be complete within this time.
    pub const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(3);
    /// A stream must complete a begun message within this time.
    pub const HEADER_DEADLINE: Duration = Duration::from_secs(5);
    /// A stream without traffic is closed after this time.
    pub const IDLE_DEADLINE: Duration = Duration::from_secs(600);
    /// Connections of the admin listener at one time; the oldest gives way to a new one.
    pub const ADMIN_CONNECTIONS: usize = 64;
    /// An admin connection, one request and its answer, is over within this time.
    pub const ADMIN_VISIT: Duration = Duration::from_secs(10);
    /// The node must have answered an admin request by then; otherwise it is told 503.
    pub const ADMIN_ANSWER: Duration = Duration::from_secs(5);
    /// Rows of one `/api/calls` answer.
    pub const CALL_ROWS: usize = 10_000;
    /// Log lines waiting for their reader; more are dropped and counted.
    pub const LOG_LINES: usize = 4_096;
    /// Octets of one log line; the rest is cut.
    pub const LOG_LINE: usize = 4_096;
    /// Peers of one node.
    pub const PEERS: usize = 7;
    /// Paths to one peer: addresses of `cluster.member.N`.
    pub const PATHS: usize = 4;
}
