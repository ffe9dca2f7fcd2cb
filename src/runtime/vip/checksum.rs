//! The checksum of the Internet, with the pseudo-header of either family (RFC 1071, RFC 9293 §3.1, RFC 8200 §8.1).
#![forbid(unsafe_code)]

use std::net::IpAddr;

/// The checksum of `segment` between two addresses of one family. Its own field must be zero in `segment`.
pub fn checksum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let mut sum = u32::from(protocol) + segment.len() as u32;
    for ip in [from, to] {
        sum += match ip {
            IpAddr::V4(ip) => words(&ip.octets()),
            IpAddr::V6(ip) => words(&ip.octets()),
        };
    }
    sum += words(segment);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn words(octets: &[u8]) -> u32 {
    let (pairs, rest) = octets.as_chunks::<2>();
    let last = rest.first().map_or(0, |b| u32::from(*b) << 8);
    pairs.iter().map(|pair| u32::from(u16::from_be_bytes(*pair))).sum::<u32>() + last
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_with_its_checksum_sums_to_zero() {
        let from: IpAddr = "192.0.2.10".parse().unwrap();
        let to: IpAddr = "198.51.100.7".parse().unwrap();
        let mut segment = *b"odd\0\0octets";
        let sum = checksum(from, to, 6, &segment);
        assert_ne!(sum, 0);
        segment[3..5].fill(0);
        // The field stands at an odd place, where its octets change sides.
        segment[3..5].copy_from_slice(&sum.swap_bytes().to_be_bytes());
        assert_eq!(checksum(from, to, 6, &segment), 0);
    }

    #[test]
    fn it_is_that_of_a_known_packet() {
        // A router solicitation as RFC 4861 §4.1 lays it out, without options.
        let from: IpAddr = "fe80::1".parse().unwrap();
        let to: IpAddr = "ff02::2".parse().unwrap();
        let solicitation = [133, 0, 0, 0, 0, 0, 0, 0];
        // fe80 + 1 + ff02 + 2 + 8 + 58 + 8500 = 282c7; folded 82c9; inverted 7d36.
        assert_eq!(checksum(from, to, 58, &solicitation), 0x7d36);
    }
}
