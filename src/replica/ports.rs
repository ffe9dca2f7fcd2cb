//! How many ports of each resource calls of the sender hold, said when the link comes up: more than its records show may be
//! held by attempts that are given up and not over.

use crate::base::ResourceId;

/// Octets of one row.
const LEN: usize = 12;

/// Appends one row.
pub fn write(resource: ResourceId, ports: u32, payload: &mut Vec<u8>) {
    payload.extend_from_slice(&resource.0.to_be_bytes());
    payload.extend_from_slice(&ports.to_be_bytes());
}

/// The rows of a payload; a tail that is too short is left out.
pub fn read(payload: &[u8]) -> impl Iterator<Item = (ResourceId, u32)> {
    let (rows, _) = payload.as_chunks::<LEN>();
    rows.iter().map(|row| {
        let (id, ports) = row.split_at(8);
        let id = u64::from_be_bytes(id.try_into().unwrap_or_default());
        (ResourceId(id), u32::from_be_bytes(ports.try_into().unwrap_or_default()))
    })
}
