//! T1, T2, T4, and the one ordered queue of deadlines of a shard.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::Duration;

use crate::base::Time;

/// The base times of RFC 3261 table 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Round-trip estimate.
    pub t1: Duration,
    /// Longest interval between retransmissions of a non-INVITE request or a final response to INVITE.
    pub t2: Duration,
    /// Longest time that a message lives in the network.
    pub t4: Duration,
}

impl Timing {
    /// 64·T1: timers B, F, H, J, L, M.
    pub fn t1x64(&self) -> Duration {
        self.t1 * 64
    }

    /// Timer D: at least 32 s over an unreliable transport (RFC 3261 §17.1.1.2).
    pub fn d(&self) -> Duration {
        self.t1x64().max(Duration::from_secs(32))
    }
}

/// The two clocks of a transaction: when to repeat, when to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The present interval between retransmissions.
    pub interval: Duration,
    /// Timer A, E or G; `Time::NEVER` when off.
    pub repeat: Time,
    /// Timer B, D, F, H, I, J, K, L or M; `Time::NEVER` when off.
    pub end: Time,
}

impl Clock {
    /// Both off.
    pub const OFF: Clock = Clock { interval: Duration::ZERO, repeat: Time::NEVER, end: Time::NEVER };

    /// Ends after `after`, repeats nothing.
    pub fn ends(now: Time, after: Duration) -> Self {
        Clock { end: now + after, ..Clock::OFF }
    }

    /// Ends after `after`; repeats from `interval` on unless the transport is reliable.
    pub fn repeats(now: Time, reliable: bool, interval: Duration, after: Duration) -> Self {
        let repeat = if reliable { Time::NEVER } else { now + interval };
        Clock { interval, repeat, end: now + after }
    }

    /// The nearer of the two.
    pub fn next(&self) -> Time {
        self.repeat.min(self.end)
    }

    /// Doubles the interval up to `cap` and arms the next repetition.
    pub fn back_off(&mut self, now: Time, cap: Duration) {
        self.interval = (self.interval * 2).min(cap);
        self.repeat = now + self.interval;
    }
}

/// What a machine wants when one of its clocks has run out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fired {
    /// Nothing is due.
    Nothing,
    /// Send the last message again.
    Repeat,
    /// Timer B or F: no answer came.
    TimedOut,
    /// Timer H: no ACK came.
    NoAck,
    /// The transaction is over.
    Terminated,
}

/// Deadlines in order. Cancelling is lazy: an entry whose owner is gone or has moved its deadline is skipped by the
/// owner when it comes up.
///
/// Nearly all deadlines are a constant away from now (T1, T4, 64*T1, …). So a few lanes that are sorted because each entry
/// is put behind an earlier one take nearly all of them, and adding and taking touch their ends only. What fits behind
/// no lane waits in a heap.
#[derive(Debug)]
pub struct Queue<K> {
    lanes: [VecDeque<(Time, K)>; LANES],
    heap: BinaryHeap<Reverse<(Time, K)>>,
}

/// As many as there are usual waits.
const LANES: usize = 5;

impl<K> Default for Queue<K>
where
    K: Ord,
{
    fn default() -> Self {
        Self { lanes: std::array::from_fn(|_| VecDeque::new()), heap: BinaryHeap::new() }
    }
}

impl<K: Ord + Copy> Queue<K> {
    /// Adds a deadline, behind the latest of the earlier ones.
    pub fn push(&mut self, due: Time, key: K) {
        let last = |lane: &VecDeque<(Time, K)>| lane.back().map_or(Time::ZERO, |(last, _)| *last);
        let fitting = self.lanes.iter_mut().filter(|lane| last(lane) <= due);
        match fitting.max_by_key(|lane| last(lane)) {
            Some(lane) => lane.push_back((due, key)),
            None => self.heap.push(Reverse((due, key))),
        }
    }

    /// Takes the earliest deadline if it is due.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        let next = self.next().filter(|due| *due <= now)?;
        let first = |lane: &&mut VecDeque<(Time, K)>| lane.front().is_some_and(|(due, _)| *due == next);
        match self.lanes.iter_mut().find(first) {
            Some(lane) => lane.pop_front().map(|(_, key)| key),
            None => self.heap.pop().map(|Reverse((_, key))| key),
        }
    }

    /// Takes all out.
    pub fn clear(&mut self) {
        self.lanes.iter_mut().for_each(VecDeque::clear);
        self.heap.clear();
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        let fronts = self.lanes.iter().filter_map(|lane| lane.front()).map(|(due, _)| *due);
        fronts.chain(self.heap.peek().map(|Reverse((due, _))| *due)).min()
    }

    /// Entries, also the lazily cancelled ones.
    pub fn len(&self) -> usize {
        self.lanes.iter().map(VecDeque::len).sum::<usize>() + self.heap.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A small generator of numbers; the same run every time.
    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *state >> 33
    }

    #[test]
    fn entries_come_out_in_the_order_of_their_time() {
        let (mut queue, mut model, mut state) = (Queue::default(), Vec::new(), 7);
        let mut now = Time::ZERO;
        for key in 0..20_000u64 {
            let wait = [500_000, 2_000_000, 5_000_000, 32_000_000, 181_000_000, next(&mut state) % 9_000_000]
                [key as usize % 6];
            let due = now + Duration::from_micros(wait);
            queue.push(due, key);
            model.push((due, key));
            now = now + Duration::from_micros(next(&mut state) % 20_000);
            assert_eq!(queue.next(), model.iter().map(|(due, _)| *due).min());
            while let Some(key) = queue.pop_due(now) {
                let at = model.iter().position(|(_, k)| *k == key).unwrap();
                let (due, _) = model.swap_remove(at);
                assert!(due <= now && model.iter().all(|(other, _)| *other >= due));
            }
            assert_eq!(queue.len(), model.len());
        }
    }
}
