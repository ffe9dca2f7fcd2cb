//! Recorded sends wait for whoever must know their record first. Without a peer there is nobody to wait for.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::Duration;

use crate::base::{Epoch, Flow, NodeId, Seq, Time, Version, limits};
use crate::out::{Frame, Out, Transmit};
use crate::proxy::{Commit, View};
use crate::replica::lane::Lane;
use crate::replica::{Kind, Stream};
use crate::replica::{record, sync_frame};
use crate::session::change::Change;
use crate::transaction::kept::{Kept, Pool};

/// How many positions are remembered with the time at which they were put out: a peer that lags by more is far behind
/// in any case.
const MARKS: usize = 64;
/// Where nothing waits for the peer, records gather for so long, or
const GATHER: Duration = Duration::from_millis(2);
/// until they have so many octets: a write costs as much as a message.
const GATHERED: usize = 16 * 1024;

/// What a gate counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct GateStats {
    /// Messages that waited for the peer.
    pub held: u64,
    /// Messages that left without the peer's word: it did not come in time, or there is no armed peer.
    pub unprotected: u64,
    /// Microseconds that messages waited, in all.
    pub waited_us: u64,
    /// Records written for the peer.
    pub records: u64,
    /// How often a lane was full, and the peer got out of step.
    pub overflows: u64,
}

impl GateStats {
    /// Adds another shard's counters.
    pub fn add(&mut self, other: &GateStats) {
        self.held += other.held;
        self.unprotected += other.unprotected;
        self.waited_us += other.waited_us;
        self.records += other.records;
        self.overflows += other.overflows;
    }
}

/// The gate of one shard, and its lane.
#[derive(Debug)]
pub struct Gate {
    lane: Lane,
    /// Who is told.
    peer: Option<NodeId>,
    /// Whether the peer holds all that was recorded before.
    armed: bool,
    /// Whether this node acts for the pair; what waits while it does not leaves when it does again.
    active: bool,
    commit: Commit,
    cap: Duration,
    acked: Seq,
    /// The last message that left before the peer's word came waits for the acknowledgement of this.
    untold: Seq,
    /// The peer was asked to acknowledge up to here at once.
    asked: Seq,
    /// When records that gather are put out; `NEVER`: there are none.
    due: Time,
    /// What [`Gate::take_tells`] said last.
    tells: bool,
    /// When what was put out last reached which position; the first one is not acknowledged.
    marks: VecDeque<(Seq, Time)>,
    /// As they came: one may wait for an earlier position than the one before it.
    held: VecDeque<Held>,
    /// The last position that any of them waited for.
    awaited: Seq,
    pool: Pool,
    /// Counters since the start.
    pub stats: GateStats,
}

#[derive(Debug)]
struct Held {
    seq: Seq,
    since: Time,
    flow: Flow,
    message: Kept,
    name: Option<Kept>,
}

impl Gate {
    /// The gate of shard `number`.
    pub fn new(number: usize, view: &View) -> Self {
        let mut gate = Self {
            lane: Lane::new(number as u16),
            peer: None,
            armed: false,
            active: view.active,
            commit: view.commit,
            cap: view.commit_timeout,
            acked: Seq(0),
            untold: Seq(0),
            asked: Seq(0),
            due: Time::NEVER,
            tells: true,
            marks: VecDeque::with_capacity(MARKS),
            held: VecDeque::new(),
            awaited: Seq(0),
            pool: Pool::default(),
            stats: GateStats::default(),
        };
        gate.lane.begin_epoch(view.epoch, Seq(0));
        gate
    }

    /// What the hub says now. Messages that wait for a peer that is not armed any more wait no longer.
    pub fn set_view(&mut self, now: Time, view: &View, out: &mut Out) {
        (self.commit, self.cap) = (view.commit, view.commit_timeout);
        self.lane.begin_epoch(view.epoch, Seq(0));
        let before = std::mem::replace(&mut self.armed, view.armed && self.lane.is_open());
        if self.armed && !before {
            // What was recorded until now waited for nobody.
            self.untold = self.lane.last().seq;
        }
        self.active = view.active;
        if !self.armed || self.commit == Commit::Async {
            self.release(now, out);
        }
        self.send_acknowledged(now, out);
    }

    /// Later records of `epoch` stand behind `seen`.
    pub fn begin_epoch(&mut self, epoch: Epoch, seen: Seq) {
        self.lane.begin_epoch(epoch, seen);
    }

    /// The version of the last record.
    pub fn last(&self) -> Version {
        self.lane.last()
    }

    /// What is recorded from here on is told to `peer`; the position before the first record.
    pub fn open(&mut self, peer: NodeId) -> Seq {
        self.peer = Some(peer);
        // What stands before is a matter of digests.
        self.acked = self.lane.open();
        (self.untold, self.asked, self.due) = (Seq(0), self.acked, Time::NEVER);
        self.marks.clear();
        self.acked
    }

    /// Nobody is told any more.
    pub fn close(&mut self, now: Time, out: &mut Out) {
        self.peer = None;
        self.armed = false;
        self.lane.close();
        self.due = Time::NEVER;
        self.marks.clear();
        self.release(now, out);
    }

    /// What waits never leaves: it was for another node to send.
    pub fn discard(&mut self) {
        self.held.clear();
    }

    /// Whether the lane was full since it was opened; says so once.
    pub fn take_overflow(&mut self) -> bool {
        let full = self.lane.take_overflow();
        self.stats.overflows += u64::from(full);
        full
    }

    /// The peer holds everything up to `seq`.
    pub fn acked(&mut self, now: Time, seq: Seq, out: &mut Out) {
        self.acked = self.acked.max(seq.min(self.lane.last().seq));
        let acked = self.acked;
        while self.marks.front().is_some_and(|(seq, _)| *seq <= acked) {
            self.marks.pop_front();
        }
        self.send_acknowledged(now, out);
    }

    fn send_acknowledged(&mut self, now: Time, out: &mut Out) {
        while self.active && self.held.front().is_some_and(|h| h.seq <= self.acked) {
            self.send_first(now, out);
        }
    }

    /// Whether the peer has acknowledged all that was recorded.
    pub fn is_acknowledged(&self) -> bool {
        self.acked >= self.lane.last().seq
    }

    /// Whether the peer knew of every message before it left, or knows of it by now; `None`: as it was said last.
    pub fn take_tells(&mut self) -> Option<bool> {
        let tells = self.untold <= self.acked;
        (std::mem::replace(&mut self.tells, tells) != tells).then_some(tells)
    }

    /// How far the peer holds what was recorded.
    pub fn acknowledged(&self) -> Seq {
        self.acked
    }

    /// Records that the peer has not acknowledged; when the oldest of them was put out, or one not much younger.
    pub fn unacknowledged(&self) -> (u64, Option<Time>) {
        if self.peer.is_none() {
            return (0, None);
        }
        (self.lane.last().seq.0.saturating_sub(self.acked.0), self.marks.front().map(|(_, at)| *at))
    }

    /// When the cap of the oldest message passes, or records have gathered for long enough.
    pub fn next_timeout(&self) -> Time {
        self.cap_passes().min(self.due)
    }

    fn cap_passes(&self) -> Time {
        self.held.front().filter(|_| self.active).map_or(Time::NEVER, |held| held.since + self.cap)
    }

    /// Lets go what has waited too long.
    pub fn handle_timeout(&mut self, now: Time, out: &mut Out) {
        while self.cap_passes() <= now {
            self.stats.unprotected += 1;
            self.untold = self.untold.max(self.held[0].seq);
            self.send_first(now, out);
        }
    }

    /// How many messages wait.
    pub fn waiting(&self) -> usize {
        self.held.len()
    }

    /// Puts out what was recorded, unless nothing waits for it and more may come.
    pub fn flush(&mut self, now: Time, out: &mut Out) {
        let pending = self.lane.pending();
        if self.commit == Commit::Async && self.peer.is_some() && pending > 0 && pending < GATHERED {
            if self.due == Time::NEVER {
                self.due = now + GATHER;
            }
            if now < self.due {
                return;
            }
        }
        self.put_out(now, out);
        if let Some(peer) = self.peer
            && !self.held.is_empty()
            && self.awaited > self.asked
        {
            self.ask(peer, out);
        }
    }

    /// Puts out all that was recorded; whether the peer has acknowledged it. If not, it is asked to.
    pub fn flush_all(&mut self, now: Time, out: &mut Out) -> bool {
        self.put_out(now, out);
        let done = self.is_acknowledged();
        if let (false, Some(peer)) = (done, self.peer) {
            self.ask(peer, out);
        }
        done
    }

    fn ask(&mut self, peer: NodeId, out: &mut Out) {
        self.asked = self.lane.last().seq;
        let (lane, asked) = (self.lane.number(), self.asked);
        out.frame(peer, Stream::Urgent, Kind::Ask, |payload| sync_frame::write_ack(lane, asked, payload));
    }

    /// Puts out all that was recorded.
    pub fn put_out(&mut self, now: Time, out: &mut Out) {
        let Some(peer) = self.peer else { return };
        self.due = Time::NEVER;
        let start = out.arena.len() as u32;
        if self.lane.take_pending(&mut out.arena) {
            if self.marks.len() < MARKS {
                self.marks.push_back((self.lane.last().seq, now));
            }
            let payload = start..out.arena.len() as u32;
            out.frames.push(Frame { peer, stream: Stream::Urgent, kind: Kind::Records, payload });
        }
    }

    /// Nothing that waits will ever leave: the shard cannot be trusted any more.
    pub fn forget(&mut self) {
        self.discard();
        self.marks.clear();
        self.lane.close();
        self.due = Time::NEVER;
        self.peer = None;
        // What was recorded and not put out reaches nobody: a hand-over must not wait for it.
        (self.acked, self.untold) = (self.lane.last().seq, Seq(0));
    }

    fn release(&mut self, now: Time, out: &mut Out) {
        while self.active && !self.held.is_empty() {
            self.stats.unprotected += 1;
            self.send_first(now, out);
        }
    }

    fn send_first(&mut self, now: Time, out: &mut Out) {
        let Some(held) = self.held.pop_front() else { return };
        self.stats.waited_us += now.since(held.since).as_micros() as u64;
        out.send(held.flow, |bytes| {
            bytes.extend_from_slice(&held.message);
            true
        });
        if let Some(name) = held.name {
            out.name_last(&name);
            self.pool.give_back(name);
        }
        self.pool.give_back(held.message);
    }
}

impl crate::proxy::Gate for Gate {
    fn is_recording(&self) -> bool {
        self.lane.is_open()
    }

    fn is_synced(&self) -> bool {
        self.armed
    }

    fn record(&mut self, change: &Change<'_>) -> Version {
        self.stats.records += u64::from(self.lane.is_open());
        self.lane.write(record::head(change), |out| record::write_body(change, out))
    }

    fn skip(&mut self) -> Version {
        self.lane.skip()
    }

    fn hold(&mut self, now: Time, out: &mut Out, sends: Range<usize>, seq: Seq) {
        if sends.is_empty() || self.commit == Commit::Async || seq <= self.acked {
            return;
        }
        if !self.armed || self.held.len() >= limits::HELD {
            self.stats.unprotected += u64::from(self.peer.is_some());
            if self.armed {
                self.untold = self.untold.max(seq);
            }
            return;
        }
        let Out { arena, transmits, .. } = out;
        let octets = |range: &Range<u32>| &arena[range.start as usize..range.end as usize];
        for Transmit { flow, bytes, name } in transmits.drain(sends) {
            let message = self.pool.keep(octets(&bytes));
            let name = name.as_ref().map(|name| self.pool.keep(octets(name)));
            self.held.push_back(Held { seq, since: now, flow, message, name });
            self.stats.held += 1;
        }
        self.awaited = self.awaited.max(seq);
    }

    fn is_held(&self, seq: Seq) -> bool {
        seq != Seq(0) && self.held.iter().any(|held| held.seq == seq)
    }

    fn retract(&mut self, seq: Seq) -> bool {
        if !self.is_held(seq) {
            return false;
        }
        let mut kept = VecDeque::with_capacity(self.held.len());
        for held in self.held.drain(..) {
            // With the next request waits the ACK of the refusal before it, which is owed all the same (§17.1.1.2).
            if held.seq == seq && !held.message.starts_with(b"ACK ") {
                self.pool.give_back(held.message);
                held.name.into_iter().for_each(|name| self.pool.give_back(name));
            } else {
                kept.push_back(held);
            }
        }
        self.held = kept;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::{CallKey, LegId};
    use crate::proxy::Gate as _;
    use crate::token::Keys;

    const PEER: NodeId = NodeId(2);

    fn keys() -> Keys {
        Keys::new("c", &[b"a secret"]).unwrap()
    }

    fn gate() -> Gate {
        Gate::new(0, &View::alone(NodeId(1), Epoch { counter: 1, node: NodeId(1) }, keys(), Time::ZERO))
    }

    fn ended() -> Change<'static> {
        Change::Ended { call: CallKey(7), leg: LegId(9) }
    }

    fn at(micros: u64) -> Time {
        Time::from_micros(micros)
    }

    /// Records something and sends what depends on it.
    fn hold(gate: &mut Gate, now: Time, out: &mut Out) -> Seq {
        let seq = gate.record(&ended()).seq;
        hold_until(seq, b"x", gate, now, out);
        seq
    }

    /// Sends what depends on an earlier record.
    fn hold_until(seq: Seq, message: &[u8], gate: &mut Gate, now: Time, out: &mut Out) {
        use crate::base::{ListenerId, Transport};
        let addr = "192.0.2.1:5060".parse().unwrap();
        let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local: addr, remote: addr, conn: None };
        out.send(flow, |bytes| {
            bytes.extend_from_slice(message);
            true
        });
        let sends = out.transmits.len() - 1..out.transmits.len();
        gate.hold(now, out, sends, seq);
    }

    #[test]
    fn what_left_without_a_word_of_the_peer_is_known_until_that_comes() {
        let (mut gate, mut out) = (gate(), Out::new());
        let view = View::alone(NodeId(1), Epoch { counter: 1, node: NodeId(1) }, keys(), Time::ZERO);
        let armed = View { armed: true, ..view };
        gate.open(PEER);
        let seq = hold(&mut gate, at(0), &mut out);
        assert_eq!((gate.waiting(), gate.take_tells()), (0, None), "the peer that is not armed is not spoken of");
        gate.set_view(at(1), &armed, &mut out);
        assert_eq!(gate.take_tells(), Some(false), "what left before it was armed counts");
        gate.acked(at(2), seq, &mut out);
        assert_eq!(gate.take_tells(), Some(true));
        let seq = hold(&mut gate, at(3), &mut out);
        assert_eq!((gate.waiting(), gate.take_tells()), (1, None));
        gate.handle_timeout(gate.next_timeout(), &mut out);
        assert_eq!((gate.waiting(), gate.take_tells(), gate.take_tells()), (0, Some(false), None));
        hold(&mut gate, at(4), &mut out);
        gate.acked(at(5), seq, &mut out);
        assert_eq!((gate.waiting(), gate.take_tells()), (1, Some(true)));
        for _ in 0..=limits::HELD {
            hold(&mut gate, at(6), &mut out);
        }
        assert_eq!((gate.waiting(), gate.take_tells()), (limits::HELD, Some(false)), "no more can wait");
    }

    /// Kinds of the frames that were put out, and how many records the last one has.
    fn put_out(out: &mut Out) -> (Vec<Kind>, usize) {
        let last = out.frames.iter().rfind(|frame| frame.kind == Kind::Records);
        let records = last.map(|frame| record::Records::read(out.payload(frame)).unwrap().count()).unwrap_or_default();
        (out.frames.drain(..).map(|frame| frame.kind).collect(), records)
    }

    #[test]
    fn records_that_nothing_waits_for_gather_for_a_while() {
        let view = View::alone(NodeId(1), Epoch { counter: 1, node: NodeId(1) }, keys(), Time::ZERO);
        let (mut gate, mut out) = (gate(), Out::new());
        gate.open(PEER);
        gate.set_view(at(0), &View { armed: true, commit: Commit::Async, ..view }, &mut out);
        hold(&mut gate, at(10), &mut out);
        assert_eq!((gate.waiting(), gate.next_timeout()), (0, Time::NEVER));
        gate.flush(at(10), &mut out);
        gate.record(&ended());
        gate.flush(at(2_009), &mut out);
        assert_eq!((put_out(&mut out), gate.next_timeout()), ((vec![], 0), at(2_010)));
        gate.flush(at(2_010), &mut out);
        assert_eq!((put_out(&mut out), gate.next_timeout()), ((vec![Kind::Records], 2), Time::NEVER));
        while gate.lane.pending() < GATHERED {
            gate.record(&ended());
        }
        gate.flush(at(2_011), &mut out);
        assert_eq!(put_out(&mut out).0, [Kind::Records], "they are many");
        gate.record(&ended());
        gate.flush(at(2_012), &mut out);
        gate.put_out(at(2_012), &mut out);
        assert_eq!(put_out(&mut out), (vec![Kind::Records], 1), "something stands behind them");
    }

    #[test]
    fn the_peer_is_asked_once_for_what_a_message_waits_for() {
        let view = View::alone(NodeId(1), Epoch { counter: 1, node: NodeId(1) }, keys(), Time::ZERO);
        let (mut gate, mut out) = (gate(), Out::new());
        gate.open(PEER);
        gate.set_view(at(0), &View { armed: true, ..view }, &mut out);
        gate.record(&ended());
        gate.flush(at(1), &mut out);
        assert_eq!(put_out(&mut out), (vec![Kind::Records], 1), "nothing waits for it");
        let seq = hold(&mut gate, at(2), &mut out);
        gate.flush(at(2), &mut out);
        assert_eq!(put_out(&mut out), (vec![Kind::Records, Kind::Ask], 1));
        gate.flush(at(3), &mut out);
        assert_eq!(put_out(&mut out), (vec![], 0));
        assert!(!gate.flush_all(at(4), &mut out));
        assert_eq!(put_out(&mut out), (vec![Kind::Ask], 0), "a hand-over waits for it, too");
        gate.acked(at(5), seq, &mut out);
        assert!(gate.flush_all(at(6), &mut out));
        assert_eq!(put_out(&mut out), (vec![], 0));
    }

    #[test]
    fn the_peer_is_asked_for_the_last_of_what_messages_wait_for() {
        let view = View::alone(NodeId(1), Epoch { counter: 1, node: NodeId(1) }, keys(), Time::ZERO);
        let (mut gate, mut out) = (gate(), Out::new());
        gate.open(PEER);
        gate.set_view(at(0), &View { armed: true, ..view }, &mut out);
        let first = hold(&mut gate, at(1), &mut out);
        gate.flush(at(1), &mut out);
        assert_eq!(put_out(&mut out), (vec![Kind::Records, Kind::Ask], 1));
        let second = hold(&mut gate, at(2), &mut out);
        hold_until(first, b"x", &mut gate, at(2), &mut out);
        gate.flush(at(2), &mut out);
        assert_eq!(put_out(&mut out), (vec![Kind::Records, Kind::Ask], 1));
        gate.acked(at(3), second, &mut out);
        assert_eq!(gate.waiting(), 0);
    }

    #[test]
    fn an_acknowledgement_leaves_without_the_request_that_waited_with_it() {
        let view = View::alone(NodeId(1), Epoch { counter: 1, node: NodeId(1) }, keys(), Time::ZERO);
        let (mut gate, mut out) = (gate(), Out::new());
        gate.open(PEER);
        gate.set_view(at(0), &View { armed: true, ..view }, &mut out);
        let seq = gate.record(&ended()).seq;
        hold_until(seq, b"INVITE sip:b", &mut gate, at(1), &mut out);
        hold_until(seq, b"ACK sip:a", &mut gate, at(1), &mut out);
        assert!(gate.retract(seq));
        gate.acked(at(2), seq, &mut out);
        let sent: Vec<&[u8]> = out.transmits.iter().map(|sent| &out.arena[sent.bytes.start as usize..][..4]).collect();
        assert_eq!((sent, gate.waiting()), (vec![&b"ACK "[..]], 0));
    }

    #[test]
    fn the_oldest_record_that_is_not_acknowledged_has_an_age() {
        let (mut gate, mut out) = (gate(), Out::new());
        gate.record(&ended());
        assert_eq!(gate.unacknowledged(), (0, None), "nobody is told");
        let start = gate.open(PEER);
        let mut flush = |gate: &mut Gate, now| {
            gate.record(&ended());
            gate.flush(now, &mut out);
        };
        flush(&mut gate, at(10));
        flush(&mut gate, at(20));
        assert_eq!(gate.unacknowledged(), (2, Some(at(10))));
        gate.acked(at(30), Seq(start.0 + 1), &mut Out::new());
        assert_eq!(gate.unacknowledged(), (1, Some(at(20))));
        gate.acked(at(40), Seq(start.0 + 2), &mut Out::new());
        assert_eq!(gate.unacknowledged(), (0, None));
        (0..2 * MARKS as u64).for_each(|n| flush(&mut gate, at(50 + n)));
        assert_eq!((gate.unacknowledged(), gate.marks.len()), ((2 * MARKS as u64, Some(at(50))), MARKS));
    }

    #[test]
    fn what_waits_while_another_node_acts_leaves_when_this_one_does_again_or_never() {
        let view = View::alone(NodeId(1), Epoch { counter: 1, node: NodeId(1) }, keys(), Time::ZERO);
        let armed = View { armed: true, ..view.clone() };
        let (mut gate, mut out) = (gate(), Out::new());
        let start = gate.open(PEER);
        gate.set_view(at(0), &armed, &mut out);
        hold(&mut gate, at(1), &mut out);
        gate.set_view(at(2), &View { active: false, ..armed.clone() }, &mut out);
        gate.acked(at(3), Seq(start.0 + 1), &mut out);
        gate.close(at(4), &mut out);
        gate.handle_timeout(at(1_000_000), &mut out);
        assert_eq!((gate.waiting(), out.transmits.len(), gate.next_timeout()), (1, 0, Time::NEVER));
        gate.set_view(at(5), &view, &mut out);
        assert_eq!((gate.waiting(), out.transmits.len()), (0, 1));
        gate.open(PEER);
        gate.set_view(at(6), &armed, &mut out);
        hold(&mut gate, at(6), &mut out);
        gate.discard();
        gate.set_view(at(7), &view, &mut out);
        assert_eq!((gate.waiting(), out.transmits.len()), (0, 1));
    }

    #[test]
    fn nothing_is_waited_for_of_a_shard_that_fell_silent() {
        let (mut gate, mut out) = (gate(), Out::new());
        gate.open(PEER);
        gate.armed = true;
        hold(&mut gate, at(1), &mut out);
        gate.handle_timeout(at(1_000_000), &mut out);
        assert_eq!(gate.take_tells(), Some(false), "it left without the peer's word");
        gate.record(&ended());
        gate.forget();
        out.clear();
        assert!(gate.flush_all(at(1_000_001), &mut out));
        assert_eq!((gate.take_tells(), put_out(&mut out)), (Some(true), (vec![], 0)));
    }

    #[test]
    fn a_lane_that_nobody_empties_overflows_and_says_so_once() {
        let mut gate = gate();
        gate.open(PEER);
        for _ in 0..limits::LANE / 8 {
            gate.record(&ended());
        }
        assert!(gate.take_overflow() && !gate.take_overflow());
        assert_eq!(gate.stats.overflows, 1);
    }
}
