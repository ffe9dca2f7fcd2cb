//! Transactions of the sender to which messages may come in at the receiver.

use crate::base::Bucket;

/// Octets of one mark: the bucket of its Call-ID, and what it is known by.
const LEN: usize = 10;

/// Appends one mark.
pub fn write(bucket: Bucket, mark: u64, payload: &mut Vec<u8>) {
    payload.extend_from_slice(&bucket.0.to_be_bytes());
    payload.extend_from_slice(&mark.to_be_bytes());
}

/// The marks of a payload; a tail that is too short is left out.
pub fn read(payload: &[u8]) -> impl Iterator<Item = (Bucket, u64)> {
    let (marks, _) = payload.as_chunks::<LEN>();
    marks.iter().map(|[a, b, mark @ ..]| (Bucket(u16::from_be_bytes([*a, *b]) & 0x0fff), u64::from_be_bytes(*mark)))
}
