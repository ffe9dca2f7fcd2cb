//! Datagrams as they pass between the sockets and the driver.
#![forbid(unsafe_code)]

use std::io;
use std::net::{IpAddr, SocketAddr};

/// A received datagram.
#[derive(Clone, Copy, Debug)]
pub struct Datagram<'a> {
    /// Its octets.
    pub bytes: &'a [u8],
    /// Who sent it.
    pub source: SocketAddr,
    /// The address it was sent to (IP_PKTINFO).
    pub local: Option<IpAddr>,
    /// Datagrams that this socket has lost so far because its buffer was full (SO_RXQ_OVFL); wraps.
    pub dropped: Option<u32>,
}

/// A datagram to send.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// Its octets.
    pub bytes: &'a [u8],
    /// Where to.
    pub to: SocketAddr,
    /// The local address it leaves from; `None` leaves it to the kernel (right for a socket bound to one address).
    pub from: Option<IpAddr>,
}

/// A datagram of ours that the network, or this host, refused.
#[derive(Debug)]
pub struct Refused<'a> {
    /// The head of the datagram as the ICMP error quotes it; may be cut short or empty.
    pub quoted: &'a [u8],
    /// Where it was sent to.
    pub to: SocketAddr,
    /// The local address it left from, as far as the kernel tells.
    pub from: Option<IpAddr>,
    /// The host whose ICMP error it is; this one's own where nobody answers ARP.
    pub by: Option<IpAddr>,
    /// Why.
    pub cause: io::Error,
}

/// How a receive treats an empty socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Returns at once.
    No,
    /// Sleeps until a first datagram is there or the socket's receive timeout has passed.
    ForOne,
}
