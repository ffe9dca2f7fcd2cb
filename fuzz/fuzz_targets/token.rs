//! Sealed octets: one spelling each, and nothing opens that we did not seal.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::token::{Keys, MAC, Purpose, decode, encode, same};

fuzz_target!(|data: &[u8]| {
    text::<14>(data);
    text::<30>(data);
    text::<33>(data);

    let keys = Keys::new("fuzz", &[b"a secret of the fuzzer"]).unwrap();
    let Some((cut, rest)) = data.split_first() else { return };
    let (left, right) = rest.split_at(usize::from(*cut).min(rest.len()));
    let mac = keys.mac(Purpose::Route, keys.id(), &[left, right]).unwrap();
    // Parts are framed: no other cut of the same octets has this MAC.
    if !right.is_empty() {
        let (l, r) = rest.split_at(left.len() + 1);
        assert!(!same(&mac, &keys.mac(Purpose::Route, keys.id(), &[l, r]).unwrap()));
    }
    if rest.len() >= MAC {
        assert!(!same(&mac, &rest[rest.len() - MAC..]), "a guess was right");
    }
});

/// Whatever decodes is what `encode` writes for it.
fn text<const N: usize>(data: &[u8]) {
    if let Some(octets) = decode::<N>(data) {
        let mut text = Vec::new();
        encode(&octets, &mut text);
        assert_eq!(text, data);
    }
}
