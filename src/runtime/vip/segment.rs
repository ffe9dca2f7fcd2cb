//! A bare TCP segment that makes a caller's kernel notice that its connection's other end is gone (a "tickle ACK").
#![forbid(unsafe_code)]

use std::net::SocketAddr;

use super::checksum::checksum;

/// The protocol number of TCP.
pub const TCP: u8 = 6;

/// Octets of the segment: a header without options.
pub const SEGMENT: usize = 20;

/// An ACK from `from` to `to` whose numbers fit no window. The receiver answers it with its own numbers (RFC 9293
/// §3.10.7.4: an unacceptable segment is acknowledged); that answer reaches a host without such a connection, which
/// resets it (§3.10.7.1). A caller that has no such connection any more just resets ours, which nobody has.
pub fn tickle(from: SocketAddr, to: SocketAddr) -> [u8; SEGMENT] {
    const ACK: u8 = 0x10;
    const WORDS: u8 = (SEGMENT as u8 / 4) << 4;
    let mut segment = [0; SEGMENT];
    segment[..2].copy_from_slice(&from.port().to_be_bytes());
    segment[2..4].copy_from_slice(&to.port().to_be_bytes());
    segment[12] = WORDS;
    segment[13] = ACK;
    let sum = checksum(from.ip(), to.ip(), TCP, &segment);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    segment
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_a_bare_ack_with_a_true_checksum() {
        for (from, to) in [("192.0.2.10:5060", "198.51.100.7:40001"), ("[2001:db8::10]:5060", "[2001:db8:1::7]:40001")]
        {
            let (from, to): (SocketAddr, SocketAddr) = (from.parse().unwrap(), to.parse().unwrap());
            let segment = tickle(from, to);
            assert_eq!(segment[..4], [0x13, 0xc4, 0x9c, 0x41]);
            assert_eq!(segment[4..14], [0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10]);
            assert_eq!(checksum(from.ip(), to.ip(), TCP, &segment), 0);
        }
    }
}
