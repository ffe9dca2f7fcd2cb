//! Neighbour discovery (RFC 4861), as far as moving an IPv6 address needs it: whole Ethernet frames.
#![forbid(unsafe_code)]

use std::net::Ipv6Addr;

use super::arp::Mac;
use super::checksum::checksum;

/// EtherType of IPv6.
pub const ETHERTYPE: u16 = 0x86dd;

/// Octets before the ICMPv6 message: Ethernet and IPv6 headers.
const HEADERS: usize = 14 + 40;
/// Octets of a solicitation without options.
pub const SOLICITATION: usize = HEADERS + 24;
/// Octets of an advertisement with the target's link-layer address.
pub const ADVERTISEMENT: usize = HEADERS + 32;

/// The protocol number of ICMPv6.
pub const ICMPV6: u8 = 58;
/// ICMPv6 type of a neighbour solicitation.
pub const SOLICIT: u8 = 135;
/// ICMPv6 type of a neighbour advertisement.
pub const ADVERTISE: u8 = 136;

/// Flags of an advertisement: override what caches hold; neither a router nor an answer.
const OVERRIDE: u8 = 0x20;
/// The option that carries the target's link-layer address.
const TARGET_LINK_LAYER: u8 = 2;

/// "I have `ip`": an unsolicited advertisement to all nodes, which overrides what they hold (RFC 4861 §7.2.6).
pub fn announcement(mac: Mac, ip: Ipv6Addr) -> [u8; ADVERTISEMENT] {
    let mut message = [0; 32];
    message[0] = ADVERTISE;
    message[4] = OVERRIDE;
    message[8..24].copy_from_slice(&ip.octets());
    message[24..26].copy_from_slice(&[TARGET_LINK_LAYER, 1]);
    message[26..].copy_from_slice(&mac.0);
    frame(mac, ip, Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), &mut message)
}

/// "Who has `ip`?", asked by nobody, as for duplicate address detection (RFC 4862 §5.4.2): no cache learns from it, and
/// the holder answers all nodes.
pub fn probe(mac: Mac, ip: Ipv6Addr) -> [u8; SOLICITATION] {
    let mut message = [0; 24];
    message[0] = SOLICIT;
    message[8..].copy_from_slice(&ip.octets());
    frame(mac, Ipv6Addr::UNSPECIFIED, solicited_node(ip), &mut message)
}

/// Where those listen who may hold `ip` (RFC 4291 §2.7.1).
fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// Puts the checksum into an ICMPv6 message and the headers before it. `to` is a multicast group (RFC 2464 §7).
fn frame<const M: usize, const F: usize>(mac: Mac, from: Ipv6Addr, to: Ipv6Addr, message: &mut [u8; M]) -> [u8; F] {
    const { assert!(HEADERS + M == F, "a frame is its headers and its message") };
    let sum = checksum(from.into(), to.into(), ICMPV6, message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let [.., a, b, c, d] = to.octets();
    let mut frame = [0; F];
    frame[..6].copy_from_slice(&[0x33, 0x33, a, b, c, d]);
    frame[6..12].copy_from_slice(&mac.0);
    frame[12..14].copy_from_slice(&ETHERTYPE.to_be_bytes());
    frame[14] = 6 << 4;
    frame[18..20].copy_from_slice(&(M as u16).to_be_bytes());
    frame[20] = ICMPV6;
    // Anything less came through a router and is no neighbour's (RFC 4861 §7.1).
    frame[21] = 255;
    frame[22..38].copy_from_slice(&from.octets());
    frame[38..54].copy_from_slice(&to.octets());
    frame[54..].copy_from_slice(message);
    frame
}

/// Reads a received frame: who claims which address. An advertisement claims its target, by its option or else by the
/// frame's sender. `None` for anything else; a forged checksum is the kernel's to refuse, and an alarm's no more.
pub fn claim(frame: &[u8]) -> Option<(Ipv6Addr, Mac)> {
    let message = frame.get(HEADERS..)?;
    let ours = frame[12..14] == ETHERTYPE.to_be_bytes() && frame[20] == ICMPV6 && frame[21] == 255;
    if !ours || message.len() < 24 || message[..2] != [ADVERTISE, 0] {
        return None;
    }
    let target = Ipv6Addr::from(*message[8..].first_chunk::<16>()?);
    let sender = Mac(*frame[6..].first_chunk()?);
    let mut options = &message[24..];
    while let [kind, units, ..] = *options {
        let length = usize::from(units) * 8;
        if length == 0 || length > options.len() {
            break;
        }
        if kind == TARGET_LINK_LAYER && units == 1 {
            return Some((target, Mac(*options[2..].first_chunk()?)));
        }
        options = &options[length..];
    }
    Some((target, sender))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = Mac([0x02, 0, 0, 0, 0x0a, 0x01]);

    fn vip() -> Ipv6Addr {
        "2001:db8::12:3456".parse().unwrap()
    }

    #[test]
    fn an_announcement_overrides_and_names_its_link_layer_address() {
        let frame = announcement(MAC, vip());
        assert_eq!(frame[..14], [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0x0a, 1, 0x86, 0xdd]);
        assert_eq!((frame[18..20].to_vec(), frame[20], frame[21]), (vec![0, 32], 58, 255));
        let message = &frame[HEADERS..];
        assert_eq!((message[0], message[1], message[4]), (136, 0, 0x20));
        assert_eq!(message[24..], [2, 1, 2, 0, 0, 0, 0x0a, 1]);
        assert_eq!(checksum(vip().into(), "ff02::1".parse().unwrap(), ICMPV6, message), 0);
        assert_eq!(claim(&frame), Some((vip(), MAC)));
    }

    #[test]
    fn a_probe_comes_from_nobody_and_goes_to_the_solicited_node() {
        let frame = probe(MAC, vip());
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(frame[22..38], [0; 16]);
        let to = Ipv6Addr::from(*frame[38..].first_chunk::<16>().unwrap());
        assert_eq!(to, "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        assert_eq!(checksum(Ipv6Addr::UNSPECIFIED.into(), to.into(), ICMPV6, &frame[HEADERS..]), 0);
        assert_eq!(claim(&frame), None, "a question claims nothing");
    }

    #[test]
    fn bad_frames_claim_nothing_and_odd_options_are_skipped() {
        let frame = announcement(MAC, vip());
        for length in 0..HEADERS + 24 {
            assert_eq!(claim(&frame[..length]), None, "{length}");
        }
        let routed = |at: usize, value: u8| {
            let mut other = frame;
            other[at] = value;
            claim(&other)
        };
        assert_eq!(routed(21, 64), None, "through a router");
        assert_eq!(routed(HEADERS, 137), None, "a redirect");
        // An option of length zero or beyond the end: the sender of the frame stands for it.
        assert_eq!(routed(HEADERS + 25, 0), Some((vip(), MAC)));
        assert_eq!(routed(HEADERS + 25, 9), Some((vip(), MAC)));
        let mut nonce_first = frame[..HEADERS + 24].to_vec();
        nonce_first.extend([14, 1, 0, 0, 0, 0, 0, 0, 2, 1, 9, 9, 9, 9, 9, 9]);
        assert_eq!(claim(&nonce_first), Some((vip(), Mac([9; 6]))));
    }
}
