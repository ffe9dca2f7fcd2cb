//! What the guard says to its links and hears from them: ARP and neighbour discovery about the virtual addresses.
#![forbid(unsafe_code)]

use std::io;
use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use socket2::SockFilter;

use super::arp::{Arp, Mac};
use super::{arp, nd};
use crate::runtime::sys::filter::{IF_EQUAL, LOAD_OCTET, LOAD_WORD, RETURN};
use crate::runtime::sys::packet::PacketSocket;
use std::os::fd::AsFd;

/// Frames taken in one go; a flood of them must not keep the guard from its clock.
const FRAMES: usize = 64;

/// Room for what is read of a frame.
const ROOM: usize = 256;

/// Packet sockets on all interfaces.
#[derive(Debug)]
pub struct Link {
    arp: PacketSocket,
    nd: PacketSocket,
}

impl Link {
    /// Needs CAP_NET_RAW. Hears only of `ips`.
    pub fn open(ips: &[IpAddr]) -> io::Result<Self> {
        Ok(Self {
            arp: PacketSocket::open(arp::ETHERTYPE, &arp_filter(ips))?,
            nd: PacketSocket::open(nd::ETHERTYPE, &nd_filter(ips))?,
        })
    }

    /// What becomes readable when there is something to [`Link::drain`].
    pub fn descriptors(&self) -> [BorrowedFd<'_>; 2] {
        [self.arp.as_fd(), self.nd.as_fd()]
    }

    /// "I have it." A link that takes no frames now is announced to when it is back.
    pub fn announce(&self, index: u32, mac: Mac, ip: IpAddr) {
        let _ = match ip {
            IpAddr::V4(ip) => self.arp.send(index, &Arp::announcement(mac, ip)),
            IpAddr::V6(ip) => self.nd.send(index, &nd::announcement(mac, ip)),
        };
    }

    /// The same in ARP's reply form; IPv6 has one form only.
    pub fn announce_as_reply(&self, index: u32, mac: Mac, ip: IpAddr) {
        if let IpAddr::V4(ip) = ip {
            let _ = self.arp.send(index, &Arp::announcement_as_reply(mac, ip));
        }
    }

    /// "Who has it?"
    pub fn probe(&self, index: u32, mac: Mac, ip: IpAddr) {
        let _ = match ip {
            IpAddr::V4(ip) => self.arp.send(index, &Arp::probe(mac, ip)),
            IpAddr::V6(ip) => self.nd.send(index, &nd::probe(mac, ip)),
        };
    }

    /// Takes what was heard: on which interface, which address, whose it is said to be.
    pub fn drain(&self, mut take: impl FnMut(u32, IpAddr, Mac)) {
        let mut frame = [0; ROOM];
        for _ in 0..FRAMES {
            let Ok((length, index)) = self.arp.receive(&mut frame) else { break };
            if let Some(heard) = Arp::read(&frame[..length]) {
                take(index, heard.sender.into(), heard.sender_mac);
            }
        }
        for _ in 0..FRAMES {
            let Ok((length, index)) = self.nd.receive(&mut frame) else { break };
            if let Some((ip, mac)) = nd::claim(&frame[..length]) {
                take(index, ip.into(), mac);
            }
        }
    }
}

fn accept_if_one_of(words: &[u32], program: &mut Vec<SockFilter>) {
    for (n, word) in words.iter().enumerate() {
        // Over the comparisons that are left and the refusal, to the acceptance.
        let over = (words.len() - n) as u8;
        program.push(SockFilter::new(IF_EQUAL, over, 0, *word));
    }
    program.push(SockFilter::new(RETURN, 0, 0, 0));
    program.push(SockFilter::new(RETURN, 0, 0, ROOM as u32));
}

/// ARP whose sender's protocol address, at octet 28, is one of ours.
fn arp_filter(ips: &[IpAddr]) -> Vec<SockFilter> {
    let word = |ip: &IpAddr| if let IpAddr::V4(ip) = ip { Some(ip.to_bits()) } else { None };
    let words: Vec<u32> = ips.iter().filter_map(word).collect();
    let mut program = vec![SockFilter::new(LOAD_WORD, 0, 0, 28)];
    accept_if_one_of(&words, &mut program);
    program
}

/// Neighbour advertisements (next header at 20, ICMPv6 type at 54) whose target ends, at 74, as one of ours.
fn nd_filter(ips: &[IpAddr]) -> Vec<SockFilter> {
    let word = |ip: &IpAddr| if let IpAddr::V6(ip) = ip { Some(ip.to_bits() as u32) } else { None };
    let words: Vec<u32> = ips.iter().filter_map(word).collect();
    let refuse = words.len() as u8;
    let mut program = vec![
        SockFilter::new(LOAD_OCTET, 0, 0, 20),
        SockFilter::new(IF_EQUAL, 0, refuse + 3, nd::ICMPV6.into()),
        SockFilter::new(LOAD_OCTET, 0, 0, 54),
        SockFilter::new(IF_EQUAL, 0, refuse + 1, nd::ADVERTISE.into()),
        SockFilter::new(LOAD_WORD, 0, 0, 74),
    ];
    accept_if_one_of(&words, &mut program);
    program
}
