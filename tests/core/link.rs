//! What nodes say to each other: the octets of version 1, which no later version may read otherwise, and properties of
//! the decoder.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::RngSeed;
use tandem::base::{NodeId, PathId, limits};
use tandem::replica::envelope::{self, Address};
use tandem::replica::frame::{Broken, Decoder, HEADER};
use tandem::replica::handshake::{self, Local, Opened, VERSIONS, cluster_hash};
use tandem::replica::{Kind, Stream};
use tandem::token::Keys;

use crate::frozen::{hex, octets};

/// Frozen: a node of version 1 writes these octets, and every later version reads them.
const HELLO_V1: &str = "\
    544e444d00600192010100000002000101020304050607020000000000000005be99f424ccd6490b5ac8176f2f86a9ca\
    c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2c2bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb698b2aff44c97a86a5ce47896bb119be";
const ANSWER_V1: &str = "\
    544e444d00600292010100000001000201020304050607010000000000000005be99f424ccd6490b5ac8176f2f86a9ca\
    c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1c1ccccccccccccccccccccccccccccccccc62b1d553cf9f83eb20a4b558468de23";
const FRAMES_V1: &str = "\
    54460101000000000000000700000000000000000e31ce691a8a7046fd2544cf08781d827265636f7264735446010800\
    0000000000000000000000000000019091a7bf30538597817554d84389138d5446016301000000000000040000000000\
    0000020e148d2c5adb6e4dfb8a13058cd5fee96e657773";
const BEAT_V1: &str = "\
    544201920002000101020304050607020162656174eab7ed2a9159529e71fd860d9d2e032f";

fn keys() -> Keys {
    Keys::new("tandem", &[b"a secret of the tests"]).unwrap()
}

fn local(node: u16) -> Local {
    Local {
        node: NodeId(node),
        incarnation: 0x0102_0304_0506_0700 + u64::from(node),
        cluster: cluster_hash("tandem"),
        config: [0xC0 + node as u8; 16],
        capabilities: 5,
        versions: VERSIONS,
        members: vec![NodeId(1), NodeId(2)],
    }
}

/// Node 2 connects to node 1: hello, answer, and the stream as either sees it.
fn opened() -> (Vec<u8>, Vec<u8>, Opened, Opened) {
    let keys = keys();
    let (hello, asked) = handshake::hello(&keys, &local(2), NodeId(1), Stream::Urgent, [0xAA; 16], [0xBB; 16]);
    let (answer, one) = handshake::answer(&keys, &local(1), [0xAA; 16], &hello, [0xCC; 16]);
    let answer = answer.unwrap();
    let two = asked.opened(&keys, &local(2), &answer).unwrap();
    (hello, answer, one.unwrap(), two)
}

/// What a stream says when it arrives in pieces of these sizes, over and over, and how it ended.
fn read(decoder: &mut Decoder, mut octets: &[u8], sizes: &[usize]) -> (Vec<(Kind, Vec<u8>)>, Option<Broken>) {
    let mut sizes = sizes.iter().cycle();
    let mut frames = Vec::new();
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => frames.push((frame.kind, frame.payload.to_vec())),
            Ok(None) if octets.is_empty() => return (frames, None),
            Ok(None) => {
                let room = decoder.room();
                let count = room.len().min(*sizes.next().unwrap()).min(octets.len());
                room[..count].copy_from_slice(&octets[..count]);
                octets = &octets[count..];
                decoder.filled(count);
            }
            Err(broken) => return (frames, Some(broken)),
        }
    }
}

#[test]
fn version_1_is_written_as_it_was_frozen() {
    let (hello, answer, _, mut two) = opened();
    let mut frames = Vec::new();
    two.sealer.seal(Kind::Records, b"records", &mut frames).unwrap();
    two.sealer.seal(Kind::Goodbye, b"", &mut frames).unwrap();
    two.sealer.seal_number(99, true, b"news", &mut frames).unwrap();
    let address = Address { from: NodeId(2), to: NodeId(1), incarnation: 0x0102_0304_0506_0702, path: PathId(1) };
    let mut beat = Vec::new();
    assert!(envelope::seal(&keys(), &address, b"beat", &mut beat));
    let written = [hex(&hello), hex(&answer), hex(&frames), hex(&beat)];
    assert_eq!(written, [HELLO_V1, ANSWER_V1, FRAMES_V1, BEAT_V1]);
}

#[test]
fn version_1_is_read_as_it_was_meant() {
    let keys = keys();
    let (_, one) = handshake::answer(&keys, &local(1), [0xAA; 16], &octets(HELLO_V1), [0xCC; 16]);
    let mut one = one.unwrap();
    assert_eq!((one.peer, one.stream, one.version, one.capabilities), (NodeId(2), Stream::Urgent, 1, 5));
    assert_eq!((one.incarnation, one.config), (0x0102_0304_0506_0702, [0xC2; 16]));
    let (frames, broken) = read(&mut one.decoder, &octets(FRAMES_V1), &[11]);
    assert_eq!(frames, [(Kind::Records, b"records".to_vec()), (Kind::Goodbye, vec![])]);
    assert_eq!((broken, one.decoder.skipped()), (None, 1));

    let (_, asked) = handshake::hello(&keys, &local(2), NodeId(1), Stream::Urgent, [0xAA; 16], [0xBB; 16]);
    let two = asked.opened(&keys, &local(2), &octets(ANSWER_V1)).unwrap();
    assert_eq!((two.peer, two.incarnation, two.config), (NodeId(1), 0x0102_0304_0506_0701, [0xC1; 16]));

    let datagram = octets(BEAT_V1);
    let (address, beat) = envelope::open(&keys, NodeId(1), 1, &datagram).unwrap();
    assert_eq!((address.from, address.incarnation, address.path), (NodeId(2), 0x0102_0304_0506_0702, PathId(1)));
    assert_eq!(beat, b"beat");
}

/// Sizes around every edge of the decoder: none, some, its memory, the limit.
fn size() -> impl Strategy<Value = usize> {
    prop_oneof![
        6 => 0..300usize,
        2 => 65_536 - 2 * HEADER..65_536 + 2 * HEADER,
        1 => limits::FRAME - HEADER..=limits::FRAME,
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, rng_seed: RngSeed::Fixed(3), ..ProptestConfig::default() })]

    /// However a stream is cut, the same frames come out of it.
    #[test]
    fn cuts_do_not_matter(sizes in vec(size(), 1..6), pieces in vec(1..70_000usize, 1..8)) {
        let (_, _, mut one, mut two) = opened();
        let payloads: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(n, size)| vec![n as u8; *size]).collect();
        let mut octets = Vec::new();
        payloads.iter().for_each(|payload| two.sealer.seal(Kind::Bucket, payload, &mut octets).unwrap());
        let (frames, broken) = read(&mut one.decoder, &octets, &pieces);
        prop_assert_eq!(broken, None);
        prop_assert!(frames.iter().map(|(_, payload)| payload).eq(&payloads));
    }

    /// Whatever is changed on the way, only frames that were sealed come out, in order, and none from the change on.
    #[test]
    fn no_change_is_believed(
        count in 1..6usize,
        at in any::<prop::sample::Index>(),
        with in vec(any::<u8>(), 0..40),
        cut in 0..40usize,
        piece in 1..500usize,
    ) {
        let (_, _, mut one, mut two) = opened();
        let mut octets = Vec::new();
        let mut ends = Vec::new();
        for n in 0..count {
            two.sealer.seal(Kind::Records, &vec![n as u8; n * 9], &mut octets).unwrap();
            ends.push(octets.len());
        }
        let at = at.index(octets.len());
        let until = (at + cut).min(octets.len());
        let changed = [&octets[..at], &with, &octets[until..]].concat();
        let same = changed.iter().zip(&octets).take_while(|(a, b)| a == b).count();
        let whole = ends.iter().filter(|end| **end <= same).count();
        let (frames, _) = read(&mut one.decoder, &changed, &[piece]);
        prop_assert_eq!(frames.len(), whole);
        let numbered = |(n, (kind, payload)): (usize, &(Kind, Vec<u8>))| {
            *kind == Kind::Records && *payload == vec![n as u8; n * 9]
        };
        prop_assert!(frames.iter().enumerate().all(numbered));
    }

    /// Octets of a stranger open nothing, and cost no panic.
    #[test]
    fn a_stranger_opens_nothing(octets in vec(any::<u8>(), 0..600), magic in any::<bool>()) {
        let mut octets = octets;
        if magic && octets.len() >= 6 {
            let length = (octets.len() as u16).to_be_bytes();
            octets[..4].copy_from_slice(b"TNDM");
            octets[4..6].copy_from_slice(&length);
        }
        let (sent, opened) = handshake::answer(&keys(), &local(1), [0xAA; 16], &octets, [0xCC; 16]);
        prop_assert!(sent.is_none() && opened.is_err());
        let (_, asked) = handshake::hello(&keys(), &local(2), NodeId(1), Stream::Bulk, [0xAA; 16], [0xBB; 16]);
        prop_assert!(asked.opened(&keys(), &local(2), &octets).is_err());
        prop_assert!(envelope::open(&keys(), NodeId(1), 1, &octets).is_err());
    }
}
