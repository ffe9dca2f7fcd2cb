//! A frozen corpus: octets that a node of version 1 writes. Every later version has to read them as they were meant,
//! and to write them as long as it speaks version 1. Hello, answer, frames and the envelope of a beat are in `link.rs`.

mod cluster;
mod derived;
mod frames;
mod records;

use std::fmt::Write;
use std::net::SocketAddr;

use tandem::base::{Epoch, Flow, ListenerId, NodeId, Seq, Transport, Version};

/// Octets as they are frozen.
pub fn hex(octets: &[u8]) -> String {
    octets.iter().fold(String::new(), |mut text, octet| {
        write!(text, "{octet:02x}").unwrap();
        text
    })
}

/// The octets that were frozen.
pub fn octets(hex: &str) -> Vec<u8> {
    let (pairs, _) = hex.as_bytes().as_chunks::<2>();
    pairs.iter().map(|pair| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
}

const EPOCH: Epoch = Epoch { counter: 7, node: NodeId(2) };
const VERSION: Version = Version { epoch: EPOCH, seq: Seq(0x0a0b_0c0d_0e0f_1011) };

/// A flow as another node can use it.
fn flow(transport: Transport, local: &str, remote: &str) -> Flow {
    let [local, remote] = [local, remote].map(|addr| addr.parse::<SocketAddr>().unwrap());
    Flow { transport, listener: ListenerId(0), local, remote, conn: None }
}
