//! A lane: the changes of one shard, in order, on their way to the peer.
//!
//! TCP carries them; what was handed to the stream arrives, or the stream ends. So a lane keeps only what it has not
//! handed over yet. When the stream ends, the lane closes, and digests find out what is missing.

use super::record::Head;
use crate::base::{Epoch, Seq, Version, limits};

/// The changes of one shard.
#[derive(Debug, Default)]
pub struct Lane {
    number: u16,
    epoch: Epoch,
    last: Seq,
    /// The position up to which changes were handed over.
    handed: Seq,
    /// Whether somebody takes what is written.
    open: bool,
    /// Written and not handed over.
    pending: Vec<u8>,
    /// The limit was met since the lane was opened: the peer has a gap.
    overflowed: bool,
}

impl Lane {
    /// A closed lane.
    pub fn new(number: u16) -> Self {
        Self { number, ..Self::default() }
    }

    /// Which lane of its writer.
    pub fn number(&self) -> u16 {
        self.number
    }

    /// The version of the last change.
    pub fn last(&self) -> Version {
        Version { epoch: self.epoch, seq: self.last }
    }

    /// Whether somebody takes what is written.
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// From here on changes are written down for the peer; the position before the first of them.
    pub fn open(&mut self) -> Seq {
        self.open = true;
        self.handed = self.last;
        self.overflowed = false;
        self.pending.clear();
        self.handed
    }

    /// Nobody takes changes any more; positions go on growing.
    pub fn close(&mut self) {
        self.open = false;
        self.pending = Vec::new();
    }

    /// Later changes belong to `epoch`, and stand behind everything up to `seen`.
    pub fn begin_epoch(&mut self, epoch: Epoch, seen: Seq) {
        self.epoch = epoch;
        self.last = self.last.max(seen);
    }

    /// Whether the limit was met; says so once.
    pub fn take_overflow(&mut self) -> bool {
        std::mem::take(&mut self.overflowed)
    }

    /// A change that nobody reads takes its position all the same.
    pub fn skip(&mut self) -> Version {
        self.last.0 += 1;
        self.last()
    }

    /// Writes one change down: `head` without its version and length, `body` appends the rest.
    pub fn write(&mut self, head: Head, body: impl FnOnce(&mut Vec<u8>)) -> Version {
        self.last.0 += 1;
        let version = self.last();
        if !self.open {
            return version;
        }
        if self.pending.len() >= limits::LANE {
            self.overflowed = true;
            return version;
        }
        Head { version, ..head }.write(&mut self.pending, body);
        version
    }

    /// Octets that were written and not handed over.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Hands over what was written since the last call, as the payload of a Records frame; whether there was any. A
    /// position that has grown without a change is handed over, too: the peer would wait for what stands in between.
    pub fn take_pending(&mut self, payload: &mut Vec<u8>) -> bool {
        if !self.open || self.handed == self.last {
            return false;
        }
        super::record::write_preamble(payload, self.number, self.handed, self.last);
        payload.extend_from_slice(&self.pending);
        self.pending.clear();
        self.handed = self.last;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::{Class, Records};
    use super::*;
    use crate::base::{Bucket, NodeId};

    fn head(id: u64) -> Head {
        Head { class: Class::Ended, ignorable: false, bucket: Bucket(7), id, version: Version::default() }
    }

    #[test]
    fn positions_grow_whether_somebody_listens_or_not() {
        let mut lane = Lane::new(3);
        lane.begin_epoch(Epoch { counter: 2, node: NodeId(1) }, Seq(0));
        assert_eq!(lane.write(head(1), |_| {}).seq, Seq(1));
        let mut payload = Vec::new();
        assert!(!lane.take_pending(&mut payload) && payload.is_empty());
        lane.open();
        assert_eq!(lane.write(head(2), |b| b.push(9)).seq, Seq(2));
        assert!(lane.take_pending(&mut payload));
        let records = Records::read(&payload).unwrap();
        assert_eq!((records.lane, records.from, records.to), (3, Seq(1), Seq(2)));
        let all: Vec<_> = records.map(|r| r.unwrap()).collect();
        assert_eq!(all.len(), 1);
        assert_eq!((all[0].0.id, all[0].0.version, all[0].1), (2, lane.last(), &[9][..]));
        assert!(!lane.take_pending(&mut payload));
    }

    #[test]
    fn a_new_epoch_stands_behind_what_was_seen_of_the_old_owner() {
        let mut lane = Lane::new(0);
        lane.begin_epoch(Epoch { counter: 5, node: NodeId(2) }, Seq(40));
        let version = lane.write(head(1), |_| {});
        assert_eq!(version, Version { epoch: Epoch { counter: 5, node: NodeId(2) }, seq: Seq(41) });
    }

    #[test]
    fn a_position_that_grows_without_a_change_is_handed_over() {
        let mut lane = Lane::new(0);
        lane.open();
        lane.begin_epoch(Epoch { counter: 5, node: NodeId(2) }, Seq(40));
        let mut payload = Vec::new();
        assert!(lane.take_pending(&mut payload), "the peer acknowledges it, and digests at it can be compared");
        let records = Records::read(&payload).unwrap();
        assert_eq!((records.from, records.to, records.count()), (Seq(0), Seq(40), 0));
        assert!(!lane.take_pending(&mut payload));
        lane.close();
        lane.begin_epoch(Epoch { counter: 6, node: NodeId(2) }, Seq(50));
        assert!(!lane.take_pending(&mut payload), "nobody takes it");
    }

    #[test]
    fn a_full_lane_drops_and_says_so_once() {
        let mut lane = Lane::new(0);
        lane.open();
        while !lane.overflowed {
            lane.write(head(1), |b| b.resize(b.len() + 60_000, 0));
        }
        assert!(lane.pending.len() < limits::LANE + 61_000);
        assert!(lane.take_overflow() && !lane.take_overflow());
    }
}
