//! A node needs ports of resources.

use crate::balance::Borrow;
use crate::base::ResourceId;

/// Octets of one request: resource, free ports, what was lent before.
const LEN: usize = 20;

/// Appends one request.
pub fn write(borrow: &Borrow, payload: &mut Vec<u8>) {
    payload.extend_from_slice(&borrow.resource.0.to_be_bytes());
    payload.extend_from_slice(&borrow.free.to_be_bytes());
    payload.extend_from_slice(&borrow.seen.to_be_bytes());
}

/// The requests of a payload; a tail that is too short is left out.
pub fn read(payload: &[u8]) -> impl Iterator<Item = Borrow> {
    let (rows, _) = payload.as_chunks::<LEN>();
    rows.iter().map(|[r @ .., f0, f1, f2, f3, s0, s1, s2, s3, s4, s5, s6, s7]| Borrow {
        resource: ResourceId(u64::from_be_bytes(*r)),
        free: u32::from_be_bytes([*f0, *f1, *f2, *f3]),
        seen: u64::from_be_bytes([*s0, *s1, *s2, *s3, *s4, *s5, *s6, *s7]),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read_as_they_were_written() {
        let asked = [
            Borrow { resource: ResourceId(u64::MAX - 7), free: 0, seen: 1 << 39 },
            Borrow { resource: ResourceId(1), free: 3, seen: 0 },
        ];
        let mut payload = Vec::new();
        asked.iter().for_each(|borrow| write(borrow, &mut payload));
        assert_eq!(read(&payload).collect::<Vec<_>>(), asked);
        assert_eq!(read(&payload[..payload.len() - 1]).collect::<Vec<_>>(), asked[..1]);
    }
}
