//! A stream: where messages end does not depend on how its octets were cut.
#![no_main]

use libfuzzer_sys::fuzz_target;
use tandem::sip::framing::{Frame, Framer};
use tandem::sip::header::Index;

/// What a stream said: its frames, and how it ended.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    Message(Vec<u8>),
    Ping,
    Noise(usize),
    Lost(tandem::sip::Malformed),
}

fuzz_target!(|data: &[u8]| {
    let whole = read(data, usize::MAX);
    let step = usize::from(data.last().copied().unwrap_or(1) % 64) + 1;
    assert_eq!(merged(read(data, step)), merged(whole), "cut every {step} octets");
});

/// Reads a stream that arrives `step` octets at a time.
fn read(data: &[u8], step: usize) -> Vec<Said> {
    let mut framer = Framer::new();
    let mut buffered = Vec::new();
    let mut said = Vec::new();
    for piece in data.chunks(step.min(data.len().max(1))) {
        buffered.extend_from_slice(piece);
        loop {
            let taken = match framer.next(&buffered) {
                Ok(Frame::Incomplete) => break,
                Ok(Frame::Message(n)) => {
                    agrees(&buffered[..n]);
                    said.push(Said::Message(buffered[..n].to_vec()));
                    n
                }
                Ok(Frame::Ping(n)) => {
                    said.push(Said::Ping);
                    n
                }
                Ok(Frame::Noise(n)) => {
                    said.push(Said::Noise(n));
                    n
                }
                Err(lost) => {
                    assert!(lost.head <= buffered.len());
                    said.push(Said::Lost(lost.reason));
                    return said;
                }
            };
            assert!(taken > 0 && taken <= buffered.len());
            buffered.drain(..taken);
            framer.consumed();
        }
    }
    said
}

/// Line ends between messages may be told apart or together.
fn merged(said: Vec<Said>) -> Vec<Said> {
    said.into_iter().filter(|s| !matches!(s, Said::Ping | Said::Noise(_))).collect()
}

/// The framer and the parser see the same end: else octets of one message could pass as another.
fn agrees(framed: &[u8]) {
    let mut index = Index::new();
    if index.parse(framed).is_ok() {
        assert_eq!(index.message(framed).bytes().len(), framed.len());
    }
}
