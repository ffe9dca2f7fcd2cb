//! A SIP message that came in at one node and is for another: its octets, and from where to where it came.

use std::net::{IpAddr, SocketAddr};

use crate::base::{Flow, ListenerId, Transport};

/// Octets of an address: family, 16 of IP, 2 of port.
const ADDR: usize = 19;
/// Octets before the message.
const HEAD: usize = 1 + 2 * ADDR;

/// Appends a message as it came in.
pub fn write(flow: Flow, message: &[u8], payload: &mut Vec<u8>) {
    payload.push(match flow.transport {
        Transport::Udp => 1,
        Transport::Tcp => 2,
        Transport::Tls => 3,
    });
    for addr in [flow.local, flow.remote] {
        let (family, ip) = match addr.ip() {
            IpAddr::V4(ip) => (4, ip.to_ipv6_mapped()),
            IpAddr::V6(ip) => (6, ip),
        };
        payload.push(family);
        payload.extend_from_slice(&ip.octets());
        payload.extend_from_slice(&addr.port().to_be_bytes());
    }
    payload.extend_from_slice(message);
}

/// Reads it. The listener is the reader's to find; a connection is another node's.
pub fn read(payload: &[u8]) -> Option<(Flow, &[u8])> {
    let (head, message) = payload.split_at_checked(HEAD)?;
    let transport = match head[0] {
        1 => Transport::Udp,
        2 => Transport::Tcp,
        3 => Transport::Tls,
        _ => return None,
    };
    let (local, remote) = (addr(&head[1..=ADDR])?, addr(&head[1 + ADDR..])?);
    Some((Flow { transport, listener: ListenerId(0), local, remote, conn: None }, message))
}

fn addr(octets: &[u8]) -> Option<SocketAddr> {
    let ip = std::net::Ipv6Addr::from(<[u8; 16]>::try_from(&octets[1..17]).ok()?);
    let ip = match octets[0] {
        4 => IpAddr::V4(ip.to_ipv4_mapped()?),
        6 => IpAddr::V6(ip),
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_be_bytes([octets[17], octets[18]])))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_arrives_as_it_came_in() {
        for (local, remote) in [("192.0.2.10:5060", "192.0.2.99:5062"), ("[2001:db8::1]:5060", "[::1]:9")] {
            let (local, remote) = (local.parse().unwrap(), remote.parse().unwrap());
            let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local, remote, conn: None };
            let mut payload = Vec::new();
            write(flow, b"BYE", &mut payload);
            assert_eq!(read(&payload), Some((flow, &b"BYE"[..])));
            assert_eq!(read(&payload[..HEAD - 1]), None);
            payload[0] = 9;
            assert_eq!(read(&payload), None);
        }
    }
}
