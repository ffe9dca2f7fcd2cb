//! Frames: digests, wants, acknowledgements and parts, relayed messages, callers' streams, settings, doubts; and the
//! numbers of kinds and streams. Goodbye and Handover are empty, Ask is written like an acknowledgement.

use std::time::Duration;

use tandem::balance::Doubt;
use tandem::base::{Bucket, ResourceId, Seq, Time, Transport};
use tandem::replica::callers::News;
use tandem::replica::sync_frame::{Digest, Part, Run, read_ack, read_want, write_ack, write_want};
use tandem::replica::{Kind, Stream, doubts, relay, settings};

use super::{VERSION, flow, hex, octets};

const DIGEST: &str = "010203040400010000000700020a0b0c0d0e0f10110abc11121314151617180fff2122232425262728";
const WANT: &str = "010203040abc0fff";
const ACK: &str = "0002000000000000000901020a0b0c0d0e0f1011";
const MORE: &str = "010203040abc010000000700020a0b0c0d0e0f10117265636f726473";
const LAST: &str = "010203040abc020000000700020a0b0c0d0e0f1011";
const RELAY_UDP: &str = "\
    010400000000000000000000ffffc000020a13c40400000000000000000000ffffc000026313c6425945207369703a78205349502f322e30";
const RELAY_TLS: &str = "\
    030620010db800000000000000000000001013c50620010db80000000000000000000000019c40425945207369703a78205349502f322e30";
const CALLERS: &str = "\
    0001020400000000000000000000ffffc000020a13c40620010db80000000000000000000000019c4002030620010db80000000000000000\
    0000001013c50620010db80000000000000000000000019c4003020000000009";
const SETTINGS: &str = "636c75737465722e666c6f6f720039300070726f78792e780000";
const DOUBTS: &str =
    "0a120908070605040302011002180120ac0228010a0b09ffffffffffffffff10030a0f090100000000000000300938e0d403";

const RUN: Run = Run { lane: 0x0102, number: 0x0304 };
const LANES: u16 = 0x0400;
const ROWS: [(Bucket, u64); 2] = [(Bucket(0xabc), 0x1112_1314_1516_1718), (Bucket(0xfff), 0x2122_2324_2526_2728)];
const ACKED: [(u16, Seq); 2] = [(2, Seq(9)), (0x0102, VERSION.seq)];
const MESSAGE: &[u8] = b"BYE sip:x SIP/2.0";
const LINES: [(&str, &str); 2] = [("cluster.floor", "90"), ("proxy.x", "")];

fn more() -> Part<'static> {
    Part { run: RUN, bucket: Bucket(0xabc), more: true, last: false, at: VERSION, octets: b"records" }
}

fn last() -> Part<'static> {
    Part { more: false, last: true, octets: b"", ..more() }
}

fn news() -> [News; 4] {
    let tcp = flow(Transport::Tcp, "192.0.2.10:5060", "[2001:db8::1]:40000");
    let tls = flow(Transport::Tls, "[2001:db8::10]:5061", "[2001:db8::1]:40000");
    [News::Anew, News::Opened(tcp), News::Ended(tls), News::Card([2, 0, 0, 0, 0, 9])]
}

/// What a server said and calls that it failed, mere failures, and ports that are left alone, at this time.
fn doubted(now: Time) -> [Doubt; 3] {
    let said = Doubt {
        failures: 2,
        calls: true,
        overloaded_until: now + Duration::from_millis(300),
        explicit: true,
        ..Doubt::of(ResourceId(0x0102_0304_0506_0708))
    };
    let failed = Doubt { failures: 3, ..Doubt::of(ResourceId(u64::MAX)) };
    let left = Doubt { withheld: 9, withheld_until: now + Duration::from_secs(60), ..Doubt::of(ResourceId(1)) };
    [said, failed, left]
}

fn at(seconds: u64) -> Time {
    Time::ZERO + Duration::from_secs(seconds)
}

/// A message that came over UDP and IPv4, and one over TLS and IPv6.
fn relayed() -> [(tandem::base::Flow, &'static [u8]); 2] {
    let udp = flow(Transport::Udp, "192.0.2.10:5060", "192.0.2.99:5062");
    let tls = flow(Transport::Tls, "[2001:db8::10]:5061", "[2001:db8::1]:40000");
    [(udp, MESSAGE), (tls, MESSAGE)]
}

fn written(write: impl FnOnce(&mut Vec<u8>)) -> String {
    let mut payload = Vec::new();
    write(&mut payload);
    hex(&payload)
}

#[test]
fn kinds_and_streams_have_their_numbers() {
    let kinds = [
        (1, Kind::Records),
        (2, Kind::Ack),
        (3, Kind::Digest),
        (4, Kind::Want),
        (5, Kind::Bucket),
        (6, Kind::Cluster),
        (7, Kind::Relay),
        (8, Kind::Goodbye),
        (9, Kind::Handover),
        (10, Kind::Settings),
        (11, Kind::Callers),
        (12, Kind::Ask),
        (13, Kind::Doubts),
        (14, Kind::Offer),
        (15, Kind::Marks),
        (16, Kind::Ports),
        (17, Kind::Hosts),
        (18, Kind::Tokens),
        (19, Kind::Borrow),
        (20, Kind::Sight),
    ];
    assert_eq!(kinds.map(|(_, kind)| kind), Kind::ALL);
    for (number, kind) in kinds {
        assert_eq!((kind as u8, Kind::of(number)), (number, Some(kind)));
        let known = [Kind::Doubts, Kind::Marks, Kind::Ports, Kind::Hosts, Kind::Tokens, Kind::Borrow, Kind::Sight];
        assert_eq!(kind.is_ignorable(), known.contains(&kind), "{kind:?}");
    }
    for (number, stream) in [(0, Stream::Urgent), (1, Stream::Bulk)] {
        assert_eq!((stream as u8, Stream::of(number)), (number, Some(stream)));
    }
}

#[test]
fn every_frame_is_written_as_it_was_frozen() {
    assert_eq!(written(|out| Digest::write(out, (RUN, LANES), true, VERSION, ROWS.into_iter())), DIGEST);
    assert_eq!(written(|out| write_want(RUN, ROWS.into_iter().map(|(bucket, _)| bucket), out)), WANT);
    assert_eq!(written(|out| ACKED.into_iter().for_each(|(lane, seq)| write_ack(lane, seq, out))), ACK);
    assert_eq!(written(|out| more().write(out)), MORE);
    assert_eq!(written(|out| last().write(out)), LAST);
    let frozen = [RELAY_UDP, RELAY_TLS];
    assert_eq!(relayed().map(|(flow, message)| written(|out| relay::write(flow, message, out))), frozen);
    assert_eq!(written(|out| news().iter().for_each(|news| news.write(out))), CALLERS);
    assert_eq!(written(|out| settings::write(out, LINES.into_iter())), SETTINGS);
    assert_eq!(written(|out| doubts::write(at(100), &doubted(at(100)), out)), DOUBTS);
}

#[test]
fn every_frame_is_read_as_it_was_meant() {
    let payload = octets(DIGEST);
    let digest = Digest::read(&payload).unwrap();
    assert_eq!((digest.run, digest.lanes, digest.begins, digest.at), (RUN, LANES, true, VERSION));
    assert_eq!(digest.rows().collect::<Vec<_>>(), ROWS);
    let payload = octets(WANT);
    let (run, buckets) = read_want(&payload).unwrap();
    assert_eq!((run, buckets.collect::<Vec<_>>()), (RUN, ROWS.map(|(bucket, _)| bucket).to_vec()));
    assert_eq!(read_ack(&octets(ACK)).collect::<Vec<_>>(), ACKED);
    assert_eq!(Part::read(&octets(MORE)), Some(more()));
    assert_eq!(Part::read(&octets(LAST)), Some(last()));
    for (frozen, meant) in [RELAY_UDP, RELAY_TLS].into_iter().zip(relayed()) {
        assert_eq!(relay::read(&octets(frozen)), Some(meant));
    }
    assert_eq!(News::read(&octets(CALLERS)).collect::<Vec<_>>(), news());
    assert_eq!(settings::read(&octets(SETTINGS)).collect::<Vec<_>>(), LINES);
    for later in ["", "32066669656c6473", "120101"] {
        assert_eq!(doubts::read(at(5), &octets(&[DOUBTS, later].concat())), Some(doubted(at(5)).to_vec()), "{later}");
    }
}

/// The octet of flags has room; a lane that does not begin, and what was not wanted of it, are the other halves of it.
#[test]
fn flags_of_a_later_version_are_not_taken_for_ours() {
    let with = |frozen: &str, flags: u8| {
        let mut payload = octets(frozen);
        payload[6] = flags;
        payload
    };
    assert!(!Digest::read(&with(DIGEST, 0xfe)).unwrap().begins);
    let part = with(LAST, 0xfc);
    let part = Part::read(&part).unwrap();
    assert!(!part.more && !part.last);
}
