//! T1, T2, T4, and the one ordered queue of deadlines of a shard.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
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
#[derive(Debug, Default)]
pub struct Queue<K> {
    heap: BinaryHeap<Reverse<(Time, K)>>,
}

impl<K: Ord + Copy> Queue<K> {
    /// A queue with room for `capacity` entries.
    pub fn with_capacity(capacity: usize) -> Self {
        Self { heap: BinaryHeap::with_capacity(capacity) }
    }

    /// Adds a deadline.
    pub fn push(&mut self, due: Time, key: K) {
        self.heap.push(Reverse((due, key)));
    }

    /// Takes the earliest deadline if it is due.
    pub fn pop_due(&mut self, now: Time) -> Option<K> {
        let Reverse((due, key)) = *self.heap.peek()?;
        if due > now {
            return None;
        }
        self.heap.pop();
        Some(key)
    }

    /// The earliest deadline.
    pub fn next(&self) -> Option<Time> {
        self.heap.peek().map(|Reverse((due, _))| *due)
    }

    /// Entries, also the lazily cancelled ones.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there is no entry.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}
