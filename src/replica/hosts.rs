//! Hosts that resources have named for themselves: a dialog may go on there, and either node may be asked to.

use std::net::{IpAddr, Ipv6Addr};

use crate::base::{Host, ResourceId};

/// Appends one host; a name of more than 255 octets is left out.
pub fn write(resource: ResourceId, host: &Host<'_>, payload: &mut Vec<u8>) {
    let mut put = |family: u8, octets: &[u8]| {
        let Ok(length) = u8::try_from(octets.len()) else { return };
        payload.extend_from_slice(&resource.0.to_be_bytes());
        payload.extend_from_slice(&[family, length]);
        payload.extend_from_slice(octets);
    };
    match host {
        Host::Ip(IpAddr::V4(ip)) => put(4, &ip.octets()),
        Host::Ip(IpAddr::V6(ip)) => put(6, &ip.octets()),
        Host::Name(name) => put(0, name),
    }
}

/// The hosts of a payload, up to the first that makes no sense.
pub fn read(mut payload: &[u8]) -> impl Iterator<Item = (ResourceId, Host<'_>)> {
    std::iter::from_fn(move || {
        let (id, rest) = payload.split_first_chunk::<8>()?;
        let ([family, length], rest) = rest.split_first_chunk::<2>()?;
        let (octets, rest) = rest.split_at_checked(usize::from(*length))?;
        payload = rest;
        let host = match family {
            4 => Host::Ip(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?)),
            6 => Host::Ip(Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into()),
            _ => Host::Name(octets),
        };
        Some((ResourceId(u64::from_be_bytes(*id)), host))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_read_as_they_were_written() {
        let hosts = [
            (ResourceId(7), Host::Ip("192.0.2.7".parse().unwrap())),
            (ResourceId(8), Host::Name(b"mcp1.example.com")),
            (ResourceId(u64::MAX), Host::Ip("2001:db8::1".parse().unwrap())),
        ];
        let mut payload = Vec::new();
        hosts.iter().for_each(|(resource, host)| write(*resource, host, &mut payload));
        write(ResourceId(9), &Host::Name(&[b'x'; 256]), &mut payload);
        assert_eq!(read(&payload).collect::<Vec<_>>(), hosts);
        assert_eq!(read(&payload[..payload.len() - 1]).collect::<Vec<_>>(), hosts[..2], "the last one is cut");
    }
}
