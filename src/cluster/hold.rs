//! Patience that grows: who claimed on silence and met a live active peer was wrong, and waits longer the next time.

use std::time::Duration;

use crate::base::Time;

use super::timing::{SILENCE_CLAIMS, Timing};

/// How long silence must last before it may lead to a claim.
#[derive(Clone, Debug, Default)]
pub(super) struct Hold {
    /// Meetings of two active nodes, since the pair was calm for [`Timing::hold_max`].
    level: u32,
    /// The last claims on silence, newest first.
    claims: [Option<Time>; SILENCE_CLAIMS],
}

impl Hold {
    /// How long the peer must have been silent.
    pub fn wait(&self, timing: &Timing) -> Duration {
        match self.level {
            0 => timing.suspicion,
            n => (timing.hold * (1 << (n - 1).min(10))).min(timing.hold_max).max(timing.suspicion),
        }
    }

    /// When the next claim on silence is possible, for a peer that is silent since `since`.
    pub fn until(&self, since: Time, timing: &Timing) -> Time {
        let crowd = self.claims[SILENCE_CLAIMS - 1].map_or(Time::ZERO, |oldest| oldest + timing.hold_max);
        crowd.max(since + self.wait(timing))
    }

    /// A claim on silence is made.
    pub fn claimed(&mut self, now: Time) {
        self.claims.rotate_right(1);
        self.claims[0] = Some(now);
    }

    /// Two active nodes met.
    pub fn met(&mut self) {
        self.level = self.level.saturating_add(1);
    }

    /// Nothing has happened for long enough.
    pub fn calm(&mut self) {
        self.level = 0;
    }

    /// Whether it waits longer than usual.
    pub fn raised(&self) -> bool {
        self.level > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Time {
        Time::from_micros(secs * 1_000_000)
    }

    #[test]
    fn the_wait_doubles_up_to_its_limit() {
        let timing = Timing::default();
        let mut hold = Hold::default();
        assert_eq!(hold.wait(&timing), Duration::from_millis(150));
        let mut waits = Vec::new();
        for _ in 0..7 {
            hold.met();
            waits.push(hold.wait(&timing).as_secs());
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 60, 60]);
        hold.calm();
        assert_eq!(hold.wait(&timing), Duration::from_millis(150));
    }

    #[test]
    fn the_fourth_claim_within_a_minute_waits() {
        let timing = Timing::default();
        let mut hold = Hold::default();
        for second in [1, 2, 3] {
            assert!(hold.until(at(second), &timing) < at(second + 1));
            hold.claimed(at(second));
        }
        assert_eq!(hold.until(at(4), &timing), at(61));
    }
}
