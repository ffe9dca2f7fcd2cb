//! Records: how changes stand in frames. A fixed head by hand, a protobuf body. Who does not know a field skips it; who
//! does not know a class skips the record if its head permits that.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use prost::encoding::{WireType, encode_key, encode_varint};

use crate::base::{Bucket, Epoch, Flow, Host, NodeId, Pin, Seq, Transport, Version};
use crate::session::change::{Answer, AttemptState, Change, Interval, LegState, Setup};

/// What a record is about. The number goes on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Class {
    /// [`Change::Setup`].
    Setup = 1,
    /// [`Change::Gone`].
    Gone = 2,
    /// [`Change::Leg`].
    Leg = 3,
    /// [`Change::Ended`].
    Ended = 4,
    /// [`Change::Heard`].
    Heard = 5,
}

impl Class {
    fn of(number: u8) -> Option<Self> {
        [Class::Setup, Class::Gone, Class::Leg, Class::Ended, Class::Heard].into_iter().find(|c| *c as u8 == number)
    }
}

/// The fixed head of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Head {
    /// What it is about.
    pub class: Class,
    /// Who does not know the class may skip the record.
    pub ignorable: bool,
    /// The bucket of its call.
    pub bucket: Bucket,
    /// Which invite or leg.
    pub id: u64,
    /// Which of two states of it is the later one.
    pub version: Version,
}

/// Octets of a preamble.
const PREAMBLE: usize = 18;
/// Octets of a head.
const HEAD: usize = 30;

/// Why records cannot be read. The link that brought them is of no use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordError {
    /// They end in the middle.
    Cut,
    /// A class that this version does not know and may not skip.
    Class,
    /// A body that says nothing usable.
    Body,
}

/// Begins the payload of a Records frame: the lane of its writer, and the positions before its first record and of its
/// last one. Frames of a lane may overtake each other between the writer's threads; positions put them in order again.
pub fn write_preamble(payload: &mut Vec<u8>, lane: u16, from: Seq, to: Seq) {
    payload.extend_from_slice(&lane.to_be_bytes());
    payload.extend_from_slice(&from.0.to_be_bytes());
    payload.extend_from_slice(&to.0.to_be_bytes());
}

impl Head {
    /// Appends head and body.
    pub fn write(&self, payload: &mut Vec<u8>, body: impl FnOnce(&mut Vec<u8>)) {
        payload.push(self.class as u8);
        payload.push(u8::from(self.ignorable));
        payload.extend_from_slice(&self.bucket.0.to_be_bytes());
        payload.extend_from_slice(&self.id.to_be_bytes());
        payload.extend_from_slice(&self.version.epoch.counter.to_be_bytes());
        payload.extend_from_slice(&self.version.epoch.node.0.to_be_bytes());
        payload.extend_from_slice(&self.version.seq.0.to_be_bytes());
        let at = payload.len();
        payload.extend_from_slice(&[0; 4]);
        body(payload);
        if cfg!(feature = "next") {
            octets(1_000, b"of a later version", payload);
        }
        let length = (payload.len() - at - 4) as u32;
        payload[at..at + 4].copy_from_slice(&length.to_be_bytes());
        if cfg!(feature = "next") {
            // A class of a later version, to be skipped.
            payload.extend_from_slice(&[u8::MAX, 1]);
            payload.extend_from_slice(&[0; HEAD - 2]);
        }
    }
}

/// The records of one payload.
#[derive(Clone, Debug)]
pub struct Records<'a> {
    /// The writer's lane; means nothing else to a reader.
    pub lane: u16,
    /// The position before the first record.
    pub from: Seq,
    /// The position of the last record.
    pub to: Seq,
    rest: &'a [u8],
}

impl<'a> Records<'a> {
    /// Reads the preamble.
    pub fn read(payload: &'a [u8]) -> Result<Self, RecordError> {
        let (head, rest) = payload.split_at_checked(PREAMBLE).ok_or(RecordError::Cut)?;
        let word = |at: usize| Seq(u64::from_be_bytes(std::array::from_fn(|n| head[at + n])));
        Ok(Self { lane: u16::from_be_bytes([head[0], head[1]]), from: word(2), to: word(10), rest })
    }

    /// Records that follow each other without a preamble.
    pub fn bare(rest: &'a [u8]) -> Self {
        Self { lane: 0, from: Seq(0), to: Seq(0), rest }
    }

    fn take(&mut self) -> Result<Option<(Head, &'a [u8])>, RecordError> {
        let (head, rest) = self.rest.split_at_checked(HEAD).ok_or(RecordError::Cut)?;
        let half = |at: usize| u32::from_be_bytes(std::array::from_fn(|n| head[at + n]));
        let word = |at: usize| u64::from_be_bytes(std::array::from_fn(|n| head[at + n]));
        let length = half(26) as usize;
        let (body, rest) = rest.split_at_checked(length).ok_or(RecordError::Cut)?;
        self.rest = rest;
        let ignorable = head[1] & 1 == 1;
        let Some(class) = Class::of(head[0]) else {
            return if ignorable { Ok(None) } else { Err(RecordError::Class) };
        };
        let epoch = Epoch { counter: half(12), node: NodeId(u16::from_be_bytes([head[16], head[17]])) };
        let version = Version { epoch, seq: Seq(word(18)) };
        let bucket = Bucket(u16::from_be_bytes([head[2], head[3]]) & 0x0fff);
        Ok(Some((Head { class, ignorable, bucket, id: word(4), version }, body)))
    }
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<(Head, &'a [u8]), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        while !self.rest.is_empty() {
            match self.take() {
                Ok(Some(record)) => return Some(Ok(record)),
                Ok(None) => {}
                Err(why) => {
                    self.rest = &[];
                    return Some(Err(why));
                }
            }
        }
        None
    }
}

/// The head of a change, its version left open.
pub fn head(change: &Change<'_>) -> Head {
    let (class, id) = match change {
        Change::Setup(setup) => (Class::Setup, setup.invite.0),
        Change::Gone { invite, .. } => (Class::Gone, invite.0),
        Change::Leg(leg) => (Class::Leg, leg.leg.0),
        Change::Ended { leg, .. } => (Class::Ended, leg.0),
        Change::Heard { leg, .. } => (Class::Heard, leg.0),
    };
    // Whoever skips that a leg was heard of ends it early at worst.
    let ignorable = class == Class::Heard;
    Head { class, ignorable, bucket: change.call().bucket(), id, version: Version::default() }
}

/// Appends the body of a change.
pub fn write_body(change: &Change<'_>, payload: &mut Vec<u8>) {
    match change {
        Change::Setup(setup) => write_setup(setup, payload),
        Change::Leg(leg) => write_leg(leg, payload),
        Change::Gone { call, .. } | Change::Ended { call, .. } => fixed(1, call.0, payload),
        Change::Heard { call, interval, .. } => {
            fixed(1, call.0, payload);
            let ends = match interval {
                Interval::Same => 0,
                Interval::None => 1,
                Interval::EndsIn(left) => millis(*left).saturating_add(2),
            };
            number(2, ends, payload);
        }
    }
}

fn write_setup(setup: &Setup<'_>, out: &mut Vec<u8>) {
    if let Some(request) = setup.request {
        octets(1, request, out);
    }
    flow(2, &setup.source, out);
    flow(3, &setup.upstream, out);
    fixed(4, setup.session.0, out);
    number(5, u64::from(setup.pops), out);
    octets(6, setup.service.unwrap_or_default().as_bytes(), out);
    number(7, millis(setup.age), out);
    number(8, u64::from(setup.cancelled) | u64::from(setup.rang) << 1, out);
    match setup.answer {
        Answer::None => {}
        Answer::Refused { status, response } => {
            number(9, u64::from(status), out);
            octets(10, response, out);
        }
        Answer::Accepted => number(9, 200, out),
    }
    for attempt in setup.attempts {
        nested(11, out, |out| write_attempt(attempt, out));
    }
    fixed(12, setup.call.0, out);
    octets(14, setup.joined.unwrap_or_default(), out);
}

fn write_attempt(attempt: &AttemptState<'_>, out: &mut Vec<u8>) {
    fixed(1, attempt.leg.0, out);
    fixed(2, attempt.resource.0, out);
    octets(3, attempt.branch, out);
    flow(4, &attempt.target, out);
    octets(5, attempt.authority.as_bytes(), out);
    number(6, u64::from(attempt.key), out);
    let flags = [attempt.holds_port, attempt.pending, attempt.superseded, attempt.proceeding];
    number(7, flags.iter().enumerate().map(|(n, flag)| u64::from(*flag) << n).sum(), out);
    number(8, millis(attempt.due_in), out);
    pin(attempt.pin, out);
}

fn write_leg(leg: &LegState<'_>, out: &mut Vec<u8>) {
    fixed(1, leg.call.0, out);
    fixed(2, leg.session.0, out);
    fixed(3, leg.resource.0, out);
    octets(4, leg.call_id, out);
    number(5, millis(leg.invited), out);
    number(6, millis(leg.answered), out);
    if let Some(left) = leg.expires_in {
        number(7, millis(left) + 1, out);
    }
    for host in leg.hosts {
        match host {
            Host::Name(name) => octets(8, name, out),
            Host::Ip(ip) => {
                let mut text = [0; 18];
                let length = addr_octets(SocketAddr::new(*ip, 0), &mut text);
                octets(9, &text[..length], out);
            }
        }
    }
    pin(leg.pin, out);
}

/// Key and decision, under the numbers that they have in every body.
fn pin(pin: Option<Pin>, out: &mut Vec<u8>) {
    if let Some(pin) = pin {
        fixed(10, pin.key.0, out);
        number(11, u64::from(pin.generation), out);
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX - 1)
}

fn number(tag: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        encode_key(tag, WireType::Varint, out);
        encode_varint(value, out);
    }
}

fn fixed(tag: u32, value: u64, out: &mut Vec<u8>) {
    if value != 0 {
        encode_key(tag, WireType::SixtyFourBit, out);
        out.extend_from_slice(&value.to_le_bytes());
    }
}

fn octets(tag: u32, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        encode_key(tag, WireType::LengthDelimited, out);
        encode_varint(value.len() as u64, out);
        out.extend_from_slice(value);
    }
}

/// A nested message shorter than 16,384 octets: its length takes two octets, known before it is written.
fn nested(tag: u32, out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>)) {
    encode_key(tag, WireType::LengthDelimited, out);
    let at = out.len();
    out.extend_from_slice(&[0; 2]);
    write(out);
    let length = out.len() - at - 2;
    debug_assert!(length < 1 << 14);
    out[at] = (length & 0x7f) as u8 | 0x80;
    out[at + 1] = (length >> 7) as u8;
}

/// Transport, our address, the other one: what another node can use of a flow.
fn flow(tag: u32, flow: &Flow, out: &mut Vec<u8>) {
    nested(tag, out, |out| {
        number(1, transport_number(flow.transport), out);
        for (tag, addr) in [(2, flow.local), (3, flow.remote)] {
            let mut text = [0; 18];
            let length = addr_octets(addr, &mut text);
            octets(tag, &text[..length], out);
        }
    });
}

fn addr_octets(addr: SocketAddr, text: &mut [u8; 18]) -> usize {
    let length = match addr.ip() {
        IpAddr::V4(ip) => {
            text[..4].copy_from_slice(&ip.octets());
            4
        }
        IpAddr::V6(ip) => {
            text[..16].copy_from_slice(&ip.octets());
            16
        }
    };
    text[length..length + 2].copy_from_slice(&addr.port().to_be_bytes());
    length + 2
}

fn transport_number(transport: Transport) -> u64 {
    match transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::super::body::{Read, SetupBody, read};
    use super::*;
    use crate::base::{CallKey, InviteId, LegId, ListenerId, PinKey, ResourceId, SessionId};

    const PIN: Pin = Pin { key: PinKey(0xfedc_ba98_7654_3210), generation: 3 };

    fn flow_of(port: u16) -> Flow {
        let (local, remote) =
            ("192.0.2.10:5060".parse().unwrap(), SocketAddr::from(([2001, 0xdb8, 0, 0, 0, 0, 0, 1], port)));
        Flow { transport: Transport::Tcp, listener: ListenerId(3), local, remote, conn: None }
    }

    fn round(change: &Change<'_>) -> (Head, Read) {
        let mut payload = Vec::new();
        write_preamble(&mut payload, 5, Seq(0), Seq(1));
        let version = Version { epoch: Epoch { counter: 7, node: NodeId(2) }, seq: Seq(1 << 40) };
        Head { version, ..head(change) }.write(&mut payload, |out| write_body(change, out));
        let mut records = Records::read(&payload).unwrap();
        assert_eq!(records.lane, 5);
        let (head, body) = records.next().unwrap().unwrap();
        assert_eq!(head.version, version);
        assert!(records.next().is_none());
        (head, read(&head, body).unwrap())
    }

    #[test]
    fn a_setup_is_read_as_it_was_written() {
        let attempt = AttemptState {
            leg: LegId(11),
            resource: ResourceId(u64::MAX),
            branch: b"z9hG4bKabc",
            target: flow_of(5070),
            authority: "[2001:db8::1]:5070",
            key: 200,
            holds_port: true,
            pending: true,
            superseded: false,
            proceeding: true,
            due_in: Duration::from_millis(1_500),
            pin: Some(PIN),
        };
        let setup = Setup {
            invite: InviteId(99),
            call: CallKey(0xabc0_0000_0000_0001),
            request: Some(b"INVITE sip:x SIP/2.0"),
            joined: Some(b"INVITE sip:y SIP/2.0"),
            source: flow_of(1),
            upstream: flow_of(65_535),
            session: SessionId(4),
            pops: 2,
            service: Some("voicexml"),
            age: Duration::from_secs(3),
            cancelled: true,
            rang: false,
            answer: Answer::Refused { status: 486, response: b"SIP/2.0 486 Busy Here" },
            attempts: &[attempt, attempt],
        };
        let (head, Read::Setup(body)) = round(&Change::Setup(setup)) else { panic!("another class") };
        assert_eq!((head.class, head.id, head.bucket), (Class::Setup, 99, Bucket(0xabc)));
        assert_eq!((&*body.request, &*body.joined), (&b"INVITE sip:x SIP/2.0"[..], &b"INVITE sip:y SIP/2.0"[..]));
        assert_eq!(body.source.clone().unwrap().flow(), Some(Flow { listener: ListenerId(0), ..flow_of(1) }));
        assert_eq!(body.upstream.clone().unwrap().flow().unwrap().remote.port(), 65_535);
        assert_eq!((body.pops, body.age, body.flags, body.status), (2, 3_000, 1, 486));
        assert_eq!(body.attempts.len(), 2);
        assert_eq!((body.attempts[1].key, body.attempts[1].flags, body.attempts[1].due), (200, 1 | 2 | 8, 1_500));
        assert_eq!(body.attempts[1].pin(), Some(PIN));
        // What the library would write has the same meaning, octet lengths of nested messages aside.
        assert_eq!(SetupBody::decode(&*body.encode_to_vec()).unwrap(), body);
    }

    #[test]
    fn a_leg_and_an_end_are_read_as_they_were_written() {
        let leg = LegState {
            leg: LegId(5),
            call: CallKey(1),
            session: SessionId(1),
            resource: ResourceId(8),
            call_id: b"a@b",
            invited: Duration::from_millis(70),
            answered: Duration::from_millis(20),
            expires_in: Some(Duration::ZERO),
            hosts: &[Host::Name(b"mcp"), Host::Ip("192.0.2.9".parse().unwrap())],
            pin: Some(PIN),
        };
        let (head, Read::Leg(body)) = round(&Change::Leg(leg)) else { panic!("another class") };
        assert_eq!((head.class, head.id, body.expires, body.call_id.as_slice()), (Class::Leg, 5, 1, &b"a@b"[..]));
        assert_eq!((body.hosts().collect::<Vec<_>>(), body.pin()), (leg.hosts.to_vec(), Some(PIN)));
        let (_, Read::Leg(free)) = round(&Change::Leg(LegState { pin: None, ..leg })) else { panic!("another class") };
        assert_eq!(free.pin(), None);
        let end = round(&Change::Ended { call: CallKey(77), leg: LegId(6) });
        assert_eq!((end.0.id, end.1), (6, Read::Ended(CallKey(77))));
    }

    #[test]
    fn what_a_newer_version_adds_is_skipped() {
        let mut body = Vec::new();
        write_body(&Change::Ended { call: CallKey(77), leg: LegId(6) }, &mut body);
        number(15, 4, &mut body);
        octets(16, b"news", &mut body);
        let ended = head(&Change::Ended { call: CallKey(77), leg: LegId(6) });
        assert_eq!(read(&ended, &body), Ok(Read::Ended(CallKey(77))), "an unknown field");

        let mut payload = Vec::new();
        write_preamble(&mut payload, 1, Seq(0), Seq(1));
        for (ignorable, number) in [(true, 200), (false, 4), (false, 201)] {
            let at = payload.len();
            Head { ignorable, ..ended }.write(&mut payload, |out| out.extend_from_slice(&body));
            payload[at] = number;
        }
        let read: Vec<_> = Records::read(&payload).unwrap().map(|r| r.map(|(head, _)| head.class)).collect();
        assert_eq!(read, [Ok(Class::Ended), Err(RecordError::Class)], "an unknown class");
    }

    #[test]
    fn no_cut_is_read_as_something_else() {
        let mut payload = Vec::new();
        write_preamble(&mut payload, 1, Seq(0), Seq(1));
        let change = Change::Ended { call: CallKey(77), leg: LegId(6) };
        head(&change).write(&mut payload, |out| write_body(&change, out));
        for cut in 0..payload.len() {
            let read = Records::read(&payload[..cut]).map(|records| records.collect::<Vec<_>>());
            assert!(matches!(read.as_deref(), Err(RecordError::Cut) | Ok([]) | Ok([Err(RecordError::Cut)])), "{cut}");
        }
    }
}
