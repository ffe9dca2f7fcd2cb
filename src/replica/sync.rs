//! How two nodes come to hold the same: digests tell what differs, wanted buckets are sent whole, lanes do the rest.
//!
//! Of each lane the writer first says at which position it begins and what it holds there, as one digest per bucket. The
//! reader compares at exactly that position and answers which buckets it wants; none means that it holds the same. Each
//! wanted bucket is sent with the position at which it was true: records that a lane brought meanwhile are younger and
//! stay. Later digests, one lane after the other, find what went wrong all the same.

use std::collections::VecDeque;

use super::kind::Kind;
use super::sync_frame::{Digest, LANES, Part, Run, WHOLE_BUCKET};
use crate::base::{Bucket, Seq, limits};

/// What comes in from one peer.
#[derive(Debug, Default)]
pub struct Incoming {
    lanes: Vec<LaneIn>,
    /// The bucket that comes in parts.
    partial: Vec<u8>,
}

#[derive(Debug, Default)]
struct LaneIn {
    /// The position that was reached; `None`: its beginning has not been told.
    reached: Option<Seq>,
    /// Frames that came before an earlier one of their lane.
    early: Vec<Early>,
    run: u16,
    in_step: bool,
    /// Wants of this run whose last bucket has not come.
    wants: u16,
    /// The writer waits for the acknowledgement of this position, which was not reached yet.
    asked: Option<Seq>,
}

#[derive(Debug)]
struct Early {
    kind: Kind,
    from: Seq,
    payload: Vec<u8>,
}

/// Whether a frame's turn has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// Yes.
    Now,
    /// An earlier one is missing; it is kept.
    Early,
    /// Never: it is not wanted any more, or too many wait.
    Dropped,
}

impl Incoming {
    /// Nothing has come: the link is new.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// A Records frame that begins behind `from` and ends at `to`.
    pub fn records(&mut self, lane: u16, from: Seq, to: Seq, payload: &[u8]) -> Turn {
        if usize::from(lane) >= LANES {
            return Turn::Dropped;
        }
        let lane = self.lane(lane);
        match lane.reached {
            Some(reached) if reached == from => {
                lane.reached = Some(to);
                Turn::Now
            }
            Some(reached) if from < reached => Turn::Dropped,
            _ => lane.keep(Kind::Records, from, payload),
        }
    }

    /// A Digest frame.
    pub fn digest(&mut self, digest: &Digest<'_>, payload: &[u8]) -> Turn {
        if self.lanes.len() < usize::from(digest.lanes) {
            self.lanes.resize_with(usize::from(digest.lanes), LaneIn::default);
        }
        let lane = self.lane(digest.run.lane);
        if digest.begins {
            (lane.reached, lane.run) = (Some(digest.at.seq), digest.run.number);
            lane.early.retain(|early| early.from >= digest.at.seq);
            (lane.in_step, lane.wants) = (false, 0);
            return Turn::Now;
        }
        match lane.reached {
            // What it asks for would be answered to nobody.
            Some(_) if digest.run.number != lane.run => Turn::Dropped,
            Some(reached) if reached == digest.at.seq => Turn::Now,
            Some(reached) if digest.at.seq < reached => Turn::Dropped,
            _ => lane.keep(Kind::Digest, digest.at.seq, payload),
        }
    }

    /// The next frame of a lane whose turn has come meanwhile.
    pub fn next_early(&mut self, lane: u16) -> Option<(Kind, Vec<u8>)> {
        let lane = self.lanes.get_mut(usize::from(lane))?;
        // A digest says what holds at its position, so it comes before what follows there.
        let due = lane.early.iter().enumerate().filter(|(_, early)| Some(early.from) == lane.reached);
        let (at, _) = due.min_by_key(|(_, early)| early.kind == Kind::Records)?;
        let early = lane.early.swap_remove(at);
        Some((early.kind, early.payload))
    }

    /// A lane was compared: it holds the same on both sides, or buckets are wanted of it.
    pub fn compared(&mut self, lane: u16, same: bool) {
        let lane = self.lane(lane);
        lane.in_step = same;
        lane.wants += u16::from(!same);
    }

    /// The writer waits for the acknowledgement of a position of its lane.
    pub fn ask(&mut self, lane: u16, seq: Seq) {
        if let Some(lane) = self.lanes.get_mut(usize::from(lane))
            && lane.reached.is_none_or(|reached| reached < seq)
        {
            lane.asked = lane.asked.max(Some(seq));
        }
    }

    /// Whether somebody waits for the acknowledgement of what reaches up to `to`; says so once.
    pub fn take_asked(&mut self, lane: u16, to: Seq) -> bool {
        let lane = self.lanes.get_mut(usize::from(lane));
        lane.is_some_and(|lane| lane.asked.take_if(|asked| *asked <= to).is_some())
    }

    /// The last bucket of a want was taken; whether nothing else is wanted of its lane.
    pub fn mended(&mut self, run: Run) -> bool {
        let lane = self.lane(run.lane);
        if run.number != lane.run {
            return false;
        }
        lane.wants = lane.wants.saturating_sub(1);
        lane.in_step |= lane.wants == 0;
        lane.wants == 0
    }

    /// Whether every lane holds the same on both sides, and no bucket is on its way that is older than that.
    pub fn is_complete(&self) -> bool {
        !self.lanes.is_empty() && self.lanes.iter().all(|lane| lane.in_step && lane.wants == 0)
    }

    /// Adds a part; the whole bucket once it is there. `None`: too large, and the link is of no use.
    pub fn part(&mut self, part: &Part<'_>) -> Option<Option<Vec<u8>>> {
        if self.partial.len() + part.octets.len() > WHOLE_BUCKET {
            return None;
        }
        self.partial.extend_from_slice(part.octets);
        Some((!part.more).then(|| std::mem::take(&mut self.partial)))
    }

    fn lane(&mut self, lane: u16) -> &mut LaneIn {
        let needed = usize::from(lane) + 1;
        if self.lanes.len() < needed {
            self.lanes.resize_with(needed, LaneIn::default);
        }
        &mut self.lanes[needed - 1]
    }
}

impl LaneIn {
    fn keep(&mut self, kind: Kind, from: Seq, payload: &[u8]) -> Turn {
        if self.early.len() >= limits::EARLY_FRAMES {
            self.in_step = false;
            return Turn::Dropped;
        }
        self.early.push(Early { kind, from, payload: payload.to_vec() });
        Turn::Early
    }
}

/// What goes out to one peer beside the lanes.
#[derive(Debug, Default)]
pub struct Outgoing {
    /// What for, bucket, and whether it is the last one of its want.
    wanted: VecDeque<(Run, Bucket, bool)>,
    lanes: Vec<LaneOut>,
    /// The lane whose digest is sent next.
    round: u16,
}

#[derive(Clone, Copy, Debug, Default)]
struct LaneOut {
    run: u16,
    confirmed: bool,
}

impl Outgoing {
    /// The lanes begin anew.
    pub fn begin(&mut self, lanes: usize) {
        self.wanted.clear();
        self.lanes = vec![LaneOut::default(); lanes];
        self.round = 0;
    }

    /// The peer's answer to a digest.
    pub fn want(&mut self, run: Run, buckets: impl Iterator<Item = Bucket>) {
        let lane = self.lanes.get_mut(usize::from(run.lane)).filter(|lane| lane.run == run.number);
        let Some(lane) = lane else { return };
        let before = self.wanted.len();
        self.wanted.extend(buckets.map(|bucket| (run, bucket, false)));
        lane.confirmed = self.wanted.len() == before;
        if let (false, Some(last)) = (lane.confirmed, self.wanted.back_mut()) {
            last.2 = true;
        }
    }

    /// A lane begins anew: what the peer said of it holds no more.
    pub fn doubt(&mut self, lane: u16) {
        self.wanted.retain(|(of, ..)| of.lane != lane);
        if let Some(lane) = self.lanes.get_mut(usize::from(lane)) {
            *lane = LaneOut { run: lane.run.wrapping_add(1), confirmed: false };
        }
    }

    /// The present run of a lane.
    pub fn run(&self, lane: u16) -> Run {
        Run { lane, number: self.lanes.get(usize::from(lane)).map_or(0, |lane| lane.run) }
    }

    /// The next bucket to send.
    pub fn next_wanted(&mut self) -> Option<(Run, Bucket, bool)> {
        self.wanted.pop_front()
    }

    /// Whether buckets are still to be sent.
    pub fn is_sending(&self) -> bool {
        !self.wanted.is_empty()
    }

    /// The lane whose digest is due, one after the other; each is asked again only once its last answer is dealt with.
    pub fn next_round(&mut self) -> Option<u16> {
        let lanes = self.lanes.len() as u16;
        if lanes == 0 || self.is_sending() {
            return None;
        }
        let lane = self.round % lanes;
        self.round = (lane + 1) % lanes;
        Some(lane)
    }

    /// Whether the peer holds all that it was told of.
    pub fn is_complete(&self) -> bool {
        !self.lanes.is_empty() && self.lanes.iter().all(|lane| lane.confirmed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::sync_frame::PART;
    use super::*;
    use crate::base::{Epoch, NodeId, Version};

    fn at(seq: u64) -> Version {
        Version { epoch: Epoch { counter: 3, node: NodeId(1) }, seq: Seq(seq) }
    }

    const fn run(lane: u16) -> Run {
        Run { lane, number: 0 }
    }

    fn begin(lane: u16, seq: u64) -> Vec<u8> {
        let mut payload = Vec::new();
        Digest::write(&mut payload, (run(lane), 2), true, at(seq), [(Bucket(7), 9)].into_iter());
        payload
    }

    #[test]
    fn frames_of_a_lane_are_put_in_order() {
        let mut incoming = Incoming::default();
        assert_eq!(incoming.records(0, Seq(5), Seq(7), b"early"), Turn::Early);
        let payload = begin(0, 4);
        let digest = Digest::read(&payload).unwrap();
        assert_eq!((digest.at, digest.rows().collect::<Vec<_>>()), (at(4), vec![(Bucket(7), 9)]));
        assert_eq!(incoming.digest(&digest, &payload), Turn::Now);
        assert_eq!(incoming.next_early(0), None);
        assert_eq!(incoming.records(0, Seq(4), Seq(5), b"first"), Turn::Now);
        assert_eq!(incoming.next_early(0), Some((Kind::Records, b"early".to_vec())));
        assert_eq!(incoming.records(0, Seq(5), Seq(7), b"early"), Turn::Now);
        assert_eq!(incoming.records(0, Seq(4), Seq(5), b"again"), Turn::Dropped);
        assert!(!incoming.is_complete());
        incoming.compared(0, true);
        incoming.compared(1, true);
        assert!(incoming.is_complete());
    }

    #[test]
    fn a_digest_waits_for_its_position() {
        let mut incoming = Incoming::default();
        let first = begin(0, 4);
        incoming.digest(&Digest::read(&first).unwrap(), &first);
        let mut later = Vec::new();
        Digest::write(&mut later, (run(0), 2), false, at(6), std::iter::empty());
        assert_eq!(incoming.digest(&Digest::read(&later).unwrap(), &later), Turn::Early);
        assert_eq!(incoming.records(0, Seq(4), Seq(6), b""), Turn::Now);
        assert_eq!(incoming.next_early(0), Some((Kind::Digest, later)));
    }

    #[test]
    fn who_asks_before_its_records_have_come_is_remembered() {
        let mut incoming = Incoming::default();
        incoming.ask(0, Seq(6));
        assert!(!incoming.take_asked(0, Seq(6)), "a lane that nobody knows");
        let payload = begin(0, 4);
        incoming.digest(&Digest::read(&payload).unwrap(), &payload);
        incoming.ask(0, Seq(4));
        assert!(!incoming.take_asked(0, Seq(9)), "that was acknowledged");
        incoming.ask(0, Seq(6));
        assert!(!incoming.take_asked(0, Seq(5)));
        assert!(incoming.take_asked(0, Seq(6)));
        assert!(!incoming.take_asked(0, Seq(6)), "said once");
    }

    #[test]
    fn early_frames_are_bounded() {
        let mut incoming = Incoming::default();
        for n in 0..limits::EARLY_FRAMES as u64 {
            assert_eq!(incoming.records(0, Seq(10 + n), Seq(11 + n), b""), Turn::Early);
        }
        assert_eq!(incoming.records(0, Seq(9_999), Seq(10_000), b""), Turn::Dropped);
        assert_eq!(incoming.records(u16::MAX, Seq(0), Seq(1), b""), Turn::Dropped);
    }

    #[test]
    fn a_lane_is_confirmed_when_nothing_is_wanted_of_it() {
        let mut outgoing = Outgoing::default();
        outgoing.begin(2);
        outgoing.want(run(0), [Bucket(1), Bucket(3)].into_iter());
        outgoing.want(run(1), std::iter::empty());
        assert!(!outgoing.is_complete() && outgoing.next_round().is_none());
        assert_eq!(outgoing.next_wanted(), Some((run(0), Bucket(1), false)));
        assert_eq!(outgoing.next_wanted(), Some((run(0), Bucket(3), true)));
        outgoing.want(run(0), std::iter::empty());
        assert!(outgoing.is_complete());
        assert_eq!((outgoing.next_round(), outgoing.next_round(), outgoing.next_round()), (Some(0), Some(1), Some(0)));
    }

    #[test]
    fn what_answers_an_earlier_run_confirms_nothing() {
        let mut outgoing = Outgoing::default();
        outgoing.begin(1);
        let before = outgoing.run(0);
        outgoing.doubt(0);
        outgoing.want(before, [Bucket(1)].into_iter());
        outgoing.want(before, std::iter::empty());
        assert_eq!((outgoing.is_complete(), outgoing.next_wanted()), (false, None));
        outgoing.want(outgoing.run(0), std::iter::empty());
        assert!(outgoing.is_complete());

        let mut incoming = Incoming::default();
        for run in [before, outgoing.run(0)] {
            let mut payload = Vec::new();
            Digest::write(&mut payload, (run, 1), true, at(4), std::iter::empty());
            incoming.digest(&Digest::read(&payload).unwrap(), &payload);
            incoming.compared(0, false);
        }
        assert!(!incoming.mended(before) && !incoming.is_complete());
        assert!(incoming.mended(outgoing.run(0)) && incoming.is_complete());
        let mut late = Vec::new();
        Digest::write(&mut late, (before, 1), false, at(4), std::iter::empty());
        assert_eq!(incoming.digest(&Digest::read(&late).unwrap(), &late), Turn::Dropped, "it was written before");
    }

    #[test]
    fn a_lane_is_whole_when_the_last_of_its_wants_is_answered() {
        let mut incoming = Incoming::default();
        let payload = begin(0, 4);
        incoming.digest(&Digest::read(&payload).unwrap(), &payload);
        incoming.compared(1, true);
        incoming.compared(0, false);
        incoming.compared(0, false);
        assert!(!incoming.mended(run(0)) && !incoming.is_complete());
        incoming.compared(0, true);
        assert!(!incoming.is_complete(), "an older bucket is on its way");
        assert!(incoming.mended(run(0)) && incoming.is_complete());
    }

    #[test]
    fn a_large_bucket_comes_in_parts() {
        let octets = vec![7; 2 * PART + 5];
        let whole = Part { run: run(1), bucket: Bucket(9), more: false, last: true, at: at(3), octets: &octets };
        let mut incoming = Incoming::default();
        let mut parts = Vec::new();
        for part in whole.split() {
            let mut payload = Vec::new();
            part.write(&mut payload);
            let read = Part::read(&payload).unwrap();
            assert_eq!(read, part);
            parts.push((read.more, read.last, incoming.part(&read).unwrap()));
        }
        assert_eq!(parts.len(), 3);
        assert_eq!(parts[2], (false, true, Some(octets.clone())));
        assert_eq!(parts[0], (true, false, None));
        let empty = Part { octets: &[], ..whole };
        assert_eq!(empty.split().count(), 1);
    }
}
