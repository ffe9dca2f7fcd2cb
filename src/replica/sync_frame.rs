//! The frames by which two nodes compare what they hold: digests, wants, acknowledgements, and parts of buckets.

use crate::base::{Bucket, Epoch, NodeId, Seq, Version};

/// One run of a lane: from a beginning to the next. What answers an earlier run says nothing of this one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Run {
    /// Which lane.
    pub lane: u16,
    /// Counts its beginnings.
    pub number: u16,
}

impl Run {
    fn write(self, payload: &mut Vec<u8>) {
        payload.extend_from_slice(&self.lane.to_be_bytes());
        payload.extend_from_slice(&self.number.to_be_bytes());
    }

    fn read(octets: &[u8]) -> Option<Self> {
        let [a, b, c, d] = *octets.first_chunk()?;
        Some(Self { lane: u16::from_be_bytes([a, b]), number: u16::from_be_bytes([c, d]) })
    }
}

/// What a writer holds in a lane, at a position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest<'a> {
    /// Which lane, since when.
    pub run: Run,
    /// How many lanes the writer has.
    pub lanes: u16,
    /// Records follow from here on; what was waited for before will not come.
    pub begins: bool,
    /// The position.
    pub at: Version,
    rows: &'a [u8],
}

/// Octets of a run.
const RUN: usize = 4;
/// Octets of a position.
const VERSION: usize = 14;
/// Octets before the rows of a digest.
const DIGEST_HEAD: usize = 7 + VERSION;
/// Octets of a row: bucket and digest.
const ROW: usize = 10;

impl<'a> Digest<'a> {
    /// Appends a digest.
    pub fn write(
        payload: &mut Vec<u8>,
        (run, lanes): (Run, u16),
        begins: bool,
        at: Version,
        rows: impl Iterator<Item = (Bucket, u64)>,
    ) {
        run.write(payload);
        payload.extend_from_slice(&lanes.to_be_bytes());
        payload.push(u8::from(begins));
        write_version(at, payload);
        for (bucket, digest) in rows {
            payload.extend_from_slice(&bucket.0.to_be_bytes());
            payload.extend_from_slice(&digest.to_be_bytes());
        }
    }

    /// Reads a digest.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let (head, rows) = payload.split_at_checked(DIGEST_HEAD)?;
        let (run, lanes) = (Run::read(head)?, u16::from_be_bytes([head[4], head[5]]));
        let at = read_version(&head[7..])?;
        let sound = rows.len() % ROW == 0 && run.lane < lanes && usize::from(lanes) <= LANES;
        sound.then_some(Self { run, lanes, begins: head[6] & 1 == 1, at, rows })
    }

    /// Buckets and their digests.
    pub fn rows(&self) -> impl Iterator<Item = (Bucket, u64)> + 'a {
        self.rows.as_chunks::<ROW>().0.iter().map(|row| {
            let digest = u64::from_be_bytes(std::array::from_fn(|n| row[2 + n]));
            (Bucket(u16::from_be_bytes([row[0], row[1]]) & 0x0fff), digest)
        })
    }
}

/// Lanes of a node: as many as there can be buckets to share out.
pub(super) const LANES: usize = 4_096;

/// Which buckets of a lane differ; none: the lane is in step.
pub fn write_want(run: Run, buckets: impl Iterator<Item = Bucket>, payload: &mut Vec<u8>) {
    run.write(payload);
    buckets.for_each(|bucket| payload.extend_from_slice(&bucket.0.to_be_bytes()));
}

/// What a want is for, and its buckets.
pub fn read_want(payload: &[u8]) -> Option<(Run, impl Iterator<Item = Bucket>)> {
    let run = Run::read(payload)?;
    let (buckets, rest) = payload[RUN..].as_chunks::<2>();
    let bucket = |word: &[u8; 2]| Bucket(u16::from_be_bytes(*word) & 0x0fff);
    rest.is_empty().then(|| (run, buckets.iter().map(bucket)))
}

/// One acknowledged position of one lane.
pub fn write_ack(lane: u16, seq: Seq, payload: &mut Vec<u8>) {
    payload.extend_from_slice(&lane.to_be_bytes());
    payload.extend_from_slice(&seq.0.to_be_bytes());
}

/// The positions of an acknowledgement.
pub fn read_ack(payload: &[u8]) -> impl Iterator<Item = (u16, Seq)> {
    payload.as_chunks::<10>().0.iter().map(|entry| {
        let seq = u64::from_be_bytes(std::array::from_fn(|n| entry[2 + n]));
        (u16::from_be_bytes([entry[0], entry[1]]), Seq(seq))
    })
}

/// A part of a wanted bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Part<'a> {
    /// What it was wanted for.
    pub run: Run,
    /// Which bucket.
    pub bucket: Bucket,
    /// More octets of this bucket follow.
    pub more: bool,
    /// It is the last bucket that was wanted of its lane.
    pub last: bool,
    /// When it was true.
    pub at: Version,
    /// Octets of its records.
    pub octets: &'a [u8],
}

/// Octets of records in one part.
pub(super) const PART: usize = 128 * 1024;
/// Octets before them.
const PART_HEAD: usize = 7 + VERSION;
/// Octets of the records of one bucket. A bucket holds one in 4,096 of the calls.
pub(super) const WHOLE_BUCKET: usize = 64 << 20;

impl<'a> Part<'a> {
    /// The parts of a bucket. There is at least one.
    pub fn split(self) -> impl Iterator<Item = Part<'a>> {
        let count = self.octets.len().div_ceil(PART).max(1);
        (0..count).map(move |n| {
            let end = self.octets.len().min((n + 1) * PART);
            Part { more: n + 1 < count, last: self.last && n + 1 == count, octets: &self.octets[n * PART..end], ..self }
        })
    }

    /// Appends it.
    pub fn write(&self, payload: &mut Vec<u8>) {
        self.run.write(payload);
        payload.extend_from_slice(&self.bucket.0.to_be_bytes());
        payload.push(u8::from(self.more) | u8::from(self.last) << 1);
        write_version(self.at, payload);
        payload.extend_from_slice(self.octets);
    }

    /// Reads it.
    pub fn read(payload: &'a [u8]) -> Option<Self> {
        let (head, octets) = payload.split_at_checked(PART_HEAD)?;
        let (more, last) = (head[6] & 1 == 1, head[6] & 2 == 2);
        Some(Part {
            run: Run::read(head)?,
            bucket: Bucket(u16::from_be_bytes([head[4], head[5]]) & 0x0fff),
            more,
            last,
            at: read_version(&head[7..])?,
            octets,
        })
    }
}

fn write_version(version: Version, payload: &mut Vec<u8>) {
    payload.extend_from_slice(&version.epoch.counter.to_be_bytes());
    payload.extend_from_slice(&version.epoch.node.0.to_be_bytes());
    payload.extend_from_slice(&version.seq.0.to_be_bytes());
}

fn read_version(octets: &[u8]) -> Option<Version> {
    let octets = octets.first_chunk::<VERSION>()?;
    let counter = u32::from_be_bytes(std::array::from_fn(|n| octets[n]));
    let seq = u64::from_be_bytes(std::array::from_fn(|n| octets[6 + n]));
    let epoch = Epoch { counter, node: NodeId(u16::from_be_bytes([octets[4], octets[5]])) };
    Some(Version { epoch, seq: Seq(seq) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wants_and_acks_are_read_as_they_were_written() {
        let mut payload = Vec::new();
        write_want(Run { lane: 3, number: 9 }, [Bucket(1), Bucket(4_095)].into_iter(), &mut payload);
        let (lane, buckets) = read_want(&payload).unwrap();
        assert_eq!((lane, buckets.collect::<Vec<_>>()), (Run { lane: 3, number: 9 }, vec![Bucket(1), Bucket(4_095)]));
        assert!(read_want(&payload[..3]).is_none() && read_want(&[]).is_none());
        let mut payload = Vec::new();
        write_ack(2, Seq(9), &mut payload);
        write_ack(3, Seq(1 << 50), &mut payload);
        assert_eq!(read_ack(&payload).collect::<Vec<_>>(), [(2, Seq(9)), (3, Seq(1 << 50))]);
    }
}
