//! Bodies of records as they are read: protobuf, so that fields of a later version are skipped.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use prost::Message as _;

use super::record::{Class, Head, RecordError};
use crate::base::{CallKey, Flow, Host, ListenerId, Pin, PinKey, Transport};
use crate::session::change::Interval;

/// A change as it was read, with memory of its own.
#[derive(Clone, Debug, PartialEq)]
pub enum Read {
    /// See [`Change::Setup`](crate::session::change::Change::Setup).
    Setup(SetupBody),
    /// See [`Change::Gone`](crate::session::change::Change::Gone).
    Gone(CallKey),
    /// See [`Change::Leg`](crate::session::change::Change::Leg).
    Leg(LegBody),
    /// See [`Change::Ended`](crate::session::change::Change::Ended).
    Ended(CallKey),
    /// See [`Change::Heard`](crate::session::change::Change::Heard).
    Heard(Interval),
}

/// Reads the body of a record.
pub fn read(head: &Head, body: &[u8]) -> Result<Read, RecordError> {
    let bad = |_| RecordError::Body;
    match head.class {
        Class::Setup => SetupBody::decode(body).map(Read::Setup).map_err(bad),
        Class::Leg => LegBody::decode(body).map(Read::Leg).map_err(bad),
        Class::Gone => EndBody::decode(body).map(|b| Read::Gone(CallKey(b.call))).map_err(bad),
        Class::Ended => EndBody::decode(body).map(|b| Read::Ended(CallKey(b.call))).map_err(bad),
        Class::Heard => HeardBody::decode(body).map(|b| Read::Heard(b.interval())).map_err(bad),
    }
}

/// [`Setup`](crate::session::change::Setup) on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct SetupBody {
    /// The INVITE as received; empty: as told before.
    #[prost(bytes = "vec", tag = "1")]
    pub request: Vec<u8>,
    /// Where it came from.
    #[prost(message, optional, tag = "2")]
    pub source: Option<FlowBody>,
    /// Where its responses go.
    #[prost(message, optional, tag = "3")]
    pub upstream: Option<FlowBody>,
    /// Its session.
    #[prost(fixed64, tag = "4")]
    pub session: u64,
    /// Preloaded Route values.
    #[prost(uint32, tag = "5")]
    pub pops: u32,
    /// The service asked for; empty: any.
    #[prost(bytes = "vec", tag = "6")]
    pub service: Vec<u8>,
    /// Age in milliseconds.
    #[prost(uint64, tag = "7")]
    pub age: u64,
    /// 1 cancelled, 2 rang.
    #[prost(uint32, tag = "8")]
    pub flags: u32,
    /// The final status; 0: none yet.
    #[prost(uint32, tag = "9")]
    pub status: u32,
    /// The octets of a final that is no 2xx.
    #[prost(bytes = "vec", tag = "10")]
    pub response: Vec<u8>,
    /// What was tried.
    #[prost(message, repeated, tag = "11")]
    pub attempts: Vec<AttemptBody>,
    /// The hash of its Call-ID.
    #[prost(fixed64, tag = "12")]
    pub call: u64,
    /// The INVITE again in the transaction that is answered; empty: there is no other than the first.
    #[prost(bytes = "vec", tag = "14")]
    pub joined: Vec<u8>,
}

/// [`AttemptState`](crate::session::change::AttemptState) on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct AttemptBody {
    /// The leg.
    #[prost(fixed64, tag = "1")]
    pub leg: u64,
    /// The resource.
    #[prost(fixed64, tag = "2")]
    pub resource: u64,
    /// The literal branch.
    #[prost(bytes = "vec", tag = "3")]
    pub branch: Vec<u8>,
    /// Where it went.
    #[prost(message, optional, tag = "4")]
    pub target: Option<FlowBody>,
    /// `host:port` of its Request-URI.
    #[prost(string, tag = "5")]
    pub authority: String,
    /// The key of its Route tokens.
    #[prost(uint32, tag = "6")]
    pub key: u32,
    /// 1 holds a port, 2 pending, 4 superseded, 8 proceeding.
    #[prost(uint32, tag = "7")]
    pub flags: u32,
    /// Milliseconds until its wait ends.
    #[prost(uint64, tag = "8")]
    pub due: u64,
    /// The key that binds it to that resource.
    #[prost(fixed64, tag = "10")]
    pub pin: u64,
    /// The decision that bound it; 0: none did.
    #[prost(uint32, tag = "11")]
    pub generation: u32,
}

impl AttemptBody {
    /// What binds it to its resource.
    pub fn pin(&self) -> Option<Pin> {
        pin_of(self.pin, self.generation)
    }
}

/// [`LegState`](crate::session::change::LegState) on the wire.
#[derive(Clone, PartialEq, prost::Message)]
pub struct LegBody {
    /// The hash of its Call-ID.
    #[prost(fixed64, tag = "1")]
    pub call: u64,
    /// Its session.
    #[prost(fixed64, tag = "2")]
    pub session: u64,
    /// Where it lives.
    #[prost(fixed64, tag = "3")]
    pub resource: u64,
    /// Its Call-ID.
    #[prost(bytes = "vec", tag = "4")]
    pub call_id: Vec<u8>,
    /// Milliseconds since its INVITE came in.
    #[prost(uint64, tag = "5")]
    pub invited: u64,
    /// Milliseconds since it was answered.
    #[prost(uint64, tag = "6")]
    pub answered: u64,
    /// Milliseconds until its session interval ends, plus one; 0: it has none.
    #[prost(uint64, tag = "7")]
    pub expires: u64,
    /// Hosts that its resource named for itself: names.
    #[prost(bytes = "vec", repeated, tag = "8")]
    pub names: Vec<Vec<u8>>,
    /// The same: addresses, IP and a port of no meaning.
    #[prost(bytes = "vec", repeated, tag = "9")]
    pub addresses: Vec<Vec<u8>>,
    /// The key that binds it to that resource.
    #[prost(fixed64, tag = "10")]
    pub pin: u64,
    /// The decision that bound it; 0: none did.
    #[prost(uint32, tag = "11")]
    pub generation: u32,
}

impl LegBody {
    /// What binds it to its resource.
    pub fn pin(&self) -> Option<Pin> {
        pin_of(self.pin, self.generation)
    }

    /// Hosts that its resource named for itself.
    pub fn hosts(&self) -> impl Iterator<Item = Host<'_>> {
        let addresses = self.addresses.iter().filter_map(|octets| Some(Host::Ip(addr(octets)?.ip())));
        self.names.iter().map(|name| Host::Name(name)).chain(addresses)
    }
}

/// What stays of something that is over.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct EndBody {
    /// The hash of its Call-ID.
    #[prost(fixed64, tag = "1")]
    pub call: u64,
}

/// That a leg of the reader was heard of.
#[derive(Clone, Copy, PartialEq, prost::Message)]
pub struct HeardBody {
    /// The hash of its Call-ID.
    #[prost(fixed64, tag = "1")]
    pub call: u64,
    /// Milliseconds until its session interval ends, plus two; 1: it has none; 0: as before.
    #[prost(uint64, tag = "2")]
    pub ends: u64,
}

impl HeardBody {
    fn interval(&self) -> Interval {
        match self.ends {
            0 => Interval::Same,
            1 => Interval::None,
            millis => Interval::EndsIn(Duration::from_millis(millis - 2)),
        }
    }
}

/// A flow as another node can use it.
#[derive(Clone, PartialEq, prost::Message)]
pub struct FlowBody {
    /// 1 UDP, 2 TCP.
    #[prost(uint32, tag = "1")]
    pub transport: u32,
    /// The writer's address: IP and port, network order.
    #[prost(bytes = "vec", tag = "2")]
    pub local: Vec<u8>,
    /// The other side's.
    #[prost(bytes = "vec", tag = "3")]
    pub remote: Vec<u8>,
}

impl FlowBody {
    /// The flow; its listener is not known yet, and its connection is not ours.
    pub fn flow(&self) -> Option<Flow> {
        let transport = match self.transport {
            1 => Transport::Udp,
            2 => Transport::Tcp,
            3 => Transport::Tls,
            _ => return None,
        };
        let (local, remote) = (addr(&self.local)?, addr(&self.remote)?);
        Some(Flow { transport, listener: ListenerId(0), local, remote, conn: None })
    }
}

fn pin_of(key: u64, generation: u32) -> Option<Pin> {
    (generation > 0).then_some(Pin { key: PinKey(key), generation })
}

fn addr(octets: &[u8]) -> Option<SocketAddr> {
    let (ip, port) = octets.split_at_checked(octets.len().checked_sub(2)?)?;
    let ip: IpAddr = match ip.len() {
        4 => <[u8; 4]>::try_from(ip).ok()?.into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(ip).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([port[0], port[1]])))
}
