//! Digests of what lives, per owner and bucket: equal digests at the same position mean equal records, so that only what
//! differs is sent again.

use smallvec::SmallVec;

use super::record::Class;
use crate::base::{Bucket, NodeId, Version, table_hash};

/// Buckets of a cluster: 12 bits of the hash of a Call-ID.
const BUCKETS: usize = 1 << 12;

/// The digests of one shard.
#[derive(Debug)]
pub struct Digests {
    shards: usize,
    owners: SmallVec<[(NodeId, Box<[u64]>); 2]>,
}

impl Digests {
    /// Nothing lives. `shards`: how many shards this node has.
    pub fn new(shards: usize) -> Self {
        Self { shards: shards.max(1), owners: SmallVec::new() }
    }

    /// A state of something came into being or went: the same call does both.
    pub fn toggle(&mut self, owner: NodeId, class: Class, bucket: Bucket, id: u64, version: Version) {
        let (epoch, seq) = (version.epoch, version.seq.0);
        let words = [id, u64::from(epoch.counter) << 16 | u64::from(epoch.node.0), seq, class as u64];
        let mut octets = [0; 32];
        for (place, word) in octets.as_chunks_mut::<8>().0.iter_mut().zip(words) {
            *place = word.to_le_bytes();
        }
        let at = usize::from(bucket.0) / self.shards;
        let row = self.row(owner);
        row[at] ^= table_hash(DIGEST_SEED, &octets);
    }

    /// The digest of one bucket.
    pub fn of(&self, owner: NodeId, bucket: Bucket) -> u64 {
        let row = self.owners.iter().find(|(o, _)| *o == owner);
        row.map_or(0, |(_, row)| row[usize::from(bucket.0) / self.shards])
    }

    fn row(&mut self, owner: NodeId) -> &mut [u64] {
        if let Some(n) = self.owners.iter().position(|(o, _)| *o == owner) {
            return &mut self.owners[n].1;
        }
        let row = vec![0; BUCKETS.div_ceil(self.shards)].into_boxed_slice();
        self.owners.push((owner, row));
        let last = self.owners.len() - 1;
        &mut self.owners[last].1
    }
}

/// Digests are compared by every node of a cluster.
const DIGEST_SEED: u64 = 0x7461_6e64_656d_0002;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{Epoch, Seq};

    fn version(seq: u64) -> Version {
        Version { epoch: Epoch { counter: 1, node: NodeId(1) }, seq: Seq(seq) }
    }

    #[test]
    fn equal_records_in_any_order_have_equal_digests() {
        let (mut one, mut two) = (Digests::new(64), Digests::new(16));
        for id in 0..50 {
            one.toggle(NodeId(1), Class::Leg, Bucket(9), id, version(id));
        }
        for id in (0..50).rev() {
            two.toggle(NodeId(1), Class::Leg, Bucket(9), id, version(id));
        }
        assert_ne!(one.of(NodeId(1), Bucket(9)), 0);
        assert_eq!(one.of(NodeId(1), Bucket(9)), two.of(NodeId(1), Bucket(9)));
        two.toggle(NodeId(1), Class::Leg, Bucket(9), 7, version(7));
        assert_ne!(one.of(NodeId(1), Bucket(9)), two.of(NodeId(1), Bucket(9)));
        two.toggle(NodeId(1), Class::Leg, Bucket(9), 7, version(8));
        assert_ne!(one.of(NodeId(1), Bucket(9)), two.of(NodeId(1), Bucket(9)), "another state of the same leg");
        assert_eq!((one.of(NodeId(2), Bucket(9)), one.of(NodeId(1), Bucket(9 + 64))), (0, 0));
    }
}
