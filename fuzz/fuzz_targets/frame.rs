//! What comes in on the peer port: frames, openings and beats, of a peer through a bad network and of strangers.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::base::NodeId;
use tandem::replica::frame::{Decoder, Sealer};
use tandem::replica::handshake::{self, Local, VERSIONS, cluster_hash};
use tandem::replica::{Kind, Stream, envelope};
use tandem::token::Keys;

fuzz_target!(|data: &[u8]| {
    let keys = Keys::new("fuzz", &[b"a secret of the fuzzer"]).unwrap();
    stranger(&keys, data);
    let Some((head, rest)) = data.split_first_chunk::<8>() else { return };
    peer(&keys, *head, rest);
});

/// Nothing that was not sealed is believed, whoever is asked to.
fn stranger(keys: &Keys, data: &[u8]) {
    let one = Local {
        node: NodeId(1),
        incarnation: 1,
        cluster: cluster_hash("fuzz"),
        config: [0; 16],
        capabilities: 0,
        versions: VERSIONS,
        members: vec![NodeId(1), NodeId(2)],
    };
    let two = Local { node: NodeId(2), incarnation: 2, ..one.clone() };
    let (sent, opened) = handshake::answer(keys, &one, [1; 16], data, [2; 16]);
    assert!(sent.is_none() && opened.is_err());
    let (_, asked) = handshake::hello(keys, &two, NodeId(1), Stream::Urgent, [1; 16], [2; 16]);
    assert!(asked.opened(keys, &two, data).is_err());
    assert!(envelope::open(keys, NodeId(1), 1, data).is_err());
    let mut decoder = Decoder::new(keys.session(keys.id(), &[b"fuzz"]).unwrap());
    assert!(read(&mut decoder, data, data.len().max(1)).0.is_empty());
}

/// Frames with the rest of the input as payloads, one of whose octets is then changed: those before it arrive whole
/// and in order, at every cut, and none from it on.
fn peer(keys: &Keys, [count, step, flip, a0, a1, kind, tail, _]: [u8; 8], rest: &[u8]) {
    let key = || keys.session(keys.id(), &[b"fuzz"]).unwrap();
    let mut sealer = Sealer::new(key());
    let (mut octets, mut ends) = (Vec::new(), Vec::new());
    let count = usize::from(count % 8) + 1;
    let payloads: Vec<&[u8]> = rest.chunks(rest.len().div_ceil(count).max(1)).collect();
    for payload in &payloads {
        sealer.seal(Kind::Records, payload, &mut octets).unwrap();
        ends.push(octets.len());
    }
    let mut whole = payloads.len();
    if flip != 0 && !octets.is_empty() {
        let at = usize::from(u16::from_be_bytes([a0, a1])) % octets.len();
        octets[at] ^= flip;
        whole = ends.iter().filter(|end| **end <= at).count();
    } else if Kind::of(kind).is_none() {
        sealer.seal_number(kind, tail & 1 == 0, rest, &mut octets).unwrap();
    }
    let mut decoder = Decoder::new(key());
    let (frames, broken) = read(&mut decoder, &octets, usize::from(step) * 37 + 1);
    assert_eq!(frames.len(), whole);
    assert!(frames.iter().zip(&payloads).all(|(frame, payload)| frame == payload));
    if flip == 0 && !broken {
        assert!(decoder.is_between_frames());
    }
}

/// The payloads of a stream that arrives `step` octets at a time, and whether it broke.
fn read(decoder: &mut Decoder, mut octets: &[u8], step: usize) -> (Vec<Vec<u8>>, bool) {
    let mut frames = Vec::new();
    loop {
        match decoder.next_frame() {
            Ok(Some(frame)) => frames.push(frame.payload.to_vec()),
            Ok(None) if octets.is_empty() => return (frames, false),
            Ok(None) => {
                let room = decoder.room();
                assert!(!room.is_empty());
                let count = room.len().min(step).min(octets.len());
                room[..count].copy_from_slice(&octets[..count]);
                octets = &octets[count..];
                decoder.filled(count);
            }
            Err(_) => return (frames, true),
        }
    }
}
