//! The deadlines of a node's parts, readable without taking the parts.

use std::sync::atomic::{AtomicU64, Ordering};

use crate::base::Time;

use super::seen::TimerName;

/// One deadline per part, and a lower bound of them all that costs one load.
pub(super) struct Deadlines {
    parts: Box<[AtomicU64]>,
    earliest: AtomicU64,
}

impl Deadlines {
    /// `parts` parts without a deadline.
    pub(super) fn new(parts: usize) -> Self {
        let never = || AtomicU64::new(u64::MAX);
        Self { parts: (0..parts).map(|_| never()).collect(), earliest: never() }
    }

    /// A part's next deadline.
    pub(super) fn publish(&self, part: usize, due: Time, name: TimerName) {
        let word = pack(due, name);
        self.parts[part].store(word, Ordering::SeqCst);
        self.earliest.fetch_min(word, Ordering::SeqCst);
    }

    /// Whether a part has something to do at `now`.
    pub(super) fn is_due(&self, part: usize, now: Time) -> bool {
        unpack(self.parts[part].load(Ordering::SeqCst)).0 <= now
    }

    /// No part has an earlier deadline; after a part moved its own, this may be too early until [`Deadlines::refresh`].
    pub(super) fn earliest(&self) -> (Time, TimerName) {
        unpack(self.earliest.load(Ordering::SeqCst))
    }

    /// Makes the lower bound exact.
    pub(super) fn refresh(&self) {
        // Whoever publishes meanwhile lowers it again after this line, or is seen by the loop.
        self.earliest.store(u64::MAX, Ordering::SeqCst);
        for part in &self.parts {
            self.earliest.fetch_min(part.load(Ordering::SeqCst), Ordering::SeqCst);
        }
    }
}

const NAMES: [TimerName; 5] =
    [TimerName::Transaction, TimerName::Coarse, TimerName::Probe, TimerName::Gate, TimerName::Sync];

/// Time and name in one word that sorts by time.
fn pack(due: Time, name: TimerName) -> u64 {
    match due.as_micros().checked_mul(8) {
        Some(word) => word | name as u64,
        None => u64::MAX,
    }
}

fn unpack(word: u64) -> (Time, TimerName) {
    match word {
        u64::MAX => (Time::NEVER, TimerName::Coarse),
        word => (Time::from_micros(word / 8), NAMES[(word % 8) as usize % NAMES.len()]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_is_never_late_and_exact_after_a_look() {
        let deadlines = Deadlines::new(3);
        let at = Time::from_micros;
        assert_eq!(deadlines.earliest().0, Time::NEVER);
        deadlines.publish(0, at(50), TimerName::Coarse);
        deadlines.publish(2, at(20), TimerName::Probe);
        assert_eq!(deadlines.earliest(), (at(20), TimerName::Probe));
        deadlines.publish(2, at(90), TimerName::Probe);
        assert!(deadlines.earliest().0 <= at(50));
        deadlines.refresh();
        assert_eq!(deadlines.earliest(), (at(50), TimerName::Coarse));
        assert!(deadlines.is_due(0, at(50)) && !deadlines.is_due(0, at(49)) && !deadlines.is_due(1, at(1_000)));
        deadlines.publish(0, Time::NEVER, TimerName::Coarse);
        deadlines.refresh();
        assert_eq!(deadlines.earliest(), (at(90), TimerName::Probe));
    }
}
