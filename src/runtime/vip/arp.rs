//! ARP over Ethernet (RFC 826), as far as moving an address needs it (RFC 5227): whole frames, header included.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::Ipv4Addr;

/// EtherType of ARP.
pub const ETHERTYPE: u16 = 0x0806;

/// Octets of a frame: 14 of Ethernet, 28 of ARP. The driver pads to Ethernet's least length.
pub const FRAME: usize = 42;

/// An Ethernet address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Everybody on the link.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What a frame says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// A reply; otherwise a request.
    pub reply: bool,
    /// The hardware address that the sender claims `sender` for.
    pub sender_mac: Mac,
    /// The protocol address of the sender; unspecified in a probe.
    pub sender: Ipv4Addr,
    /// The protocol address that is asked for or answered to.
    pub target: Ipv4Addr,
}

/// The fixed part of ARP for IPv4 over Ethernet: hardware 1, protocol 0x0800, lengths 6 and 4.
const IPV4_OVER_ETHERNET: [u8; 6] = [0, 1, 8, 0, 6, 4];

impl Arp {
    /// "I have `ip`": an ARP announcement, in request form, which every host takes (RFC 5227 §2.3, §3).
    pub fn announcement(mac: Mac, ip: Ipv4Addr) -> [u8; FRAME] {
        Arp { reply: false, sender_mac: mac, sender: ip, target: ip }.frame(Mac::default())
    }

    /// The same in reply form, which some switches want. Linux believes it only if both hardware addresses are equal.
    pub fn announcement_as_reply(mac: Mac, ip: Ipv4Addr) -> [u8; FRAME] {
        Arp { reply: true, sender_mac: mac, sender: ip, target: ip }.frame(mac)
    }

    /// "Who has `ip`?", asked by nobody, so that no cache learns from the question (RFC 5227 §2.1.1).
    pub fn probe(mac: Mac, ip: Ipv4Addr) -> [u8; FRAME] {
        Arp { reply: false, sender_mac: mac, sender: Ipv4Addr::UNSPECIFIED, target: ip }.frame(Mac::default())
    }

    /// As a broadcast frame.
    fn frame(&self, target_mac: Mac) -> [u8; FRAME] {
        let mut frame = [0; FRAME];
        let mut at = 0;
        let mut put = |octets: &[u8]| {
            frame[at..at + octets.len()].copy_from_slice(octets);
            at += octets.len();
        };
        put(&Mac::BROADCAST.0);
        put(&self.sender_mac.0);
        put(&ETHERTYPE.to_be_bytes());
        put(&IPV4_OVER_ETHERNET);
        put(&[0, if self.reply { 2 } else { 1 }]);
        put(&self.sender_mac.0);
        put(&self.sender.octets());
        put(&target_mac.0);
        put(&self.target.octets());
        frame
    }

    /// Reads a received frame; `None` for anything but an ARP request or reply for IPv4 over Ethernet.
    pub fn read(frame: &[u8]) -> Option<Arp> {
        let (head, arp) = frame.split_at_checked(14)?;
        let arp: &[u8; 28] = arp.first_chunk()?;
        if head[12..] != ETHERTYPE.to_be_bytes() || arp[..6] != IPV4_OVER_ETHERNET {
            return None;
        }
        let reply = match arp[6..8] {
            [0, 1] => false,
            [0, 2] => true,
            _ => return None,
        };
        let ip = |at: usize| Ipv4Addr::from(*arp[at..].first_chunk::<4>().expect("28 octets"));
        let sender_mac = Mac(*arp[8..].first_chunk().expect("28 octets"));
        Some(Arp { reply, sender_mac, sender: ip(14), target: ip(24) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x02, 0, 0, 0, 0x0a, 0x01]);
    const VIP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);

    #[test]
    fn an_announcement_is_a_broadcast_request_for_oneself() {
        let wanted = [
            0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0x0a, 1, 0x08, 0x06, // Ethernet
            0, 1, 8, 0, 6, 4, 0, 1, // request
            2, 0, 0, 0, 0x0a, 1, 192, 0, 2, 10, // sender
            0, 0, 0, 0, 0, 0, 192, 0, 2, 10, // target
        ];
        assert_eq!(Arp::announcement(MAC, VIP), wanted);
        let mut reply = wanted;
        reply[21] = 2;
        reply[32..38].copy_from_slice(&MAC.0);
        assert_eq!(Arp::announcement_as_reply(MAC, VIP), reply);
    }

    #[test]
    fn a_probe_names_no_sender() {
        let probe = Arp::probe(MAC, VIP);
        assert_eq!(probe[28..32], [0; 4]);
        let wanted = Arp { reply: false, sender_mac: MAC, sender: Ipv4Addr::UNSPECIFIED, target: VIP };
        assert_eq!(Arp::read(&probe), Some(wanted));
        assert_eq!(MAC.to_string(), "02:00:00:00:0a:01");
    }

    #[test]
    fn what_is_not_arp_for_ipv4_over_ethernet_is_nothing() {
        let frame = Arp::announcement_as_reply(MAC, VIP);
        let mut padded = frame.to_vec();
        padded.extend([0; 18]);
        assert_eq!(Arp::read(&padded), Some(Arp { reply: true, sender_mac: MAC, sender: VIP, target: VIP }));
        for length in 0..FRAME {
            assert_eq!(Arp::read(&frame[..length]), None, "{length}");
        }
        // EtherType, hardware, protocol, lengths, operation.
        for at in [12, 13, 14, 15, 16, 17, 18, 19, 20, 21] {
            let mut other = frame;
            other[at] ^= 0x40;
            assert_eq!(Arp::read(&other), None, "{at}");
        }
    }
}
