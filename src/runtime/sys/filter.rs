//! Filters that the kernel runs before a socket's buffer (classic BPF): what they refuse costs its owner nothing.
#![forbid(unsafe_code)]

use std::net::IpAddr;

use socket2::SockFilter;

/// Load a word.
pub const LOAD_WORD: u16 = 0x20;
/// Load an octet.
pub const LOAD_OCTET: u16 = 0x30;
/// Skip instructions if what is loaded is equal.
pub const IF_EQUAL: u16 = 0x15;
/// Return how many octets are taken.
pub const RETURN: u16 = 0x06;

/// Offsets from here count from the network header, which a datagram socket's own offsets lie behind (SKF_NET_OFF).
const NETWORK: u32 = (-0x10_0000i32) as u32;
/// Where the source address begins in an IPv4 and in an IPv6 header.
const SOURCES: [u32; 2] = [12, 8];

/// For a datagram socket: takes what comes from one of `ips`, whole, and nothing else. All are of the socket's family.
pub fn sources(ips: impl Iterator<Item = IpAddr>) -> Vec<SockFilter> {
    let mut program = Vec::new();
    for ip in ips {
        let (at, words) = match ip {
            IpAddr::V4(ip) => (SOURCES[0], vec![ip.to_bits()]),
            IpAddr::V6(ip) => (SOURCES[1], [96, 64, 32, 0].map(|shift| (ip.to_bits() >> shift) as u32).to_vec()),
        };
        for (n, word) in words.iter().enumerate() {
            // A word that differs leads to the next address: over the words that are left and the acceptance.
            let over = (2 * (words.len() - 1 - n) + 1) as u8;
            program.push(SockFilter::new(LOAD_WORD, 0, 0, NETWORK + at + 4 * n as u32));
            program.push(SockFilter::new(IF_EQUAL, 0, over, *word));
        }
        program.push(SockFilter::new(RETURN, 0, 0, u32::MAX));
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::net::{SocketAddr, UdpSocket};
    use std::time::Duration;

    use socket2::{Domain, Socket, Type};

    use super::*;

    fn filtered(at: &str, from: &[&str]) -> UdpSocket {
        let at = SocketAddr::new(at.parse().unwrap(), 0);
        let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None).unwrap();
        socket.attach_filter(&sources(from.iter().map(|ip| ip.parse().unwrap()))).unwrap();
        socket.bind(&at.into()).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.into()
    }

    #[test]
    fn only_the_named_sources_pass_and_what_they_send_is_whole() {
        let socket = filtered("127.0.0.1", &["127.0.0.2", "127.0.0.3"]);
        let to = socket.local_addr().unwrap();
        let sender = |ip: &str| UdpSocket::bind((ip, 0)).unwrap();
        for (ip, text) in [("127.0.0.9", "nine"), ("127.0.0.3", "three"), ("127.0.0.1", "one"), ("127.0.0.2", "two")] {
            sender(ip).send_to(text.as_bytes(), to).unwrap();
        }
        let mut memory = [0; 16];
        for wanted in ["three", "two"] {
            let length = socket.recv(&mut memory).unwrap();
            assert_eq!(&memory[..length], wanted.as_bytes());
        }
        socket.set_nonblocking(true).unwrap();
        assert_eq!(socket.recv(&mut memory).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }

    #[test]
    fn every_word_of_an_ipv6_source_counts() {
        let near = ["1::1", "0:0:1::1", "0:0:0:0:1::1", "::2"];
        let (open, closed) = (filtered("::1", &["::2", "::1"]), filtered("::1", &near));
        let sender = UdpSocket::bind("[::1]:0").unwrap();
        for socket in [&closed, &open] {
            sender.send_to(b"x", socket.local_addr().unwrap()).unwrap();
        }
        let mut memory = [0; 16];
        assert_eq!(open.recv(&mut memory).unwrap(), 1);
        closed.set_nonblocking(true).unwrap();
        assert_eq!(closed.recv(&mut memory).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}
