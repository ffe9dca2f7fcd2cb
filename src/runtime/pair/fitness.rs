//! Whether this node does its work, as seen from beside its workers.
#![forbid(unsafe_code)]

use std::time::Duration;

use crate::base::Time;
use crate::cluster::Fitness;

/// A datagram that waits for longer was repeated by its sender (RFC 3261 17.1.1.2, T1).
const LATE: Duration = Duration::from_millis(500);
/// Late for so long, it is no burst.
const LASTING: Duration = Duration::from_secs(1);

/// What was seen of this node's work.
#[derive(Debug, Default)]
pub(super) struct Watched {
    late_since: Option<Time>,
}

impl Watched {
    /// Judges anew. `sound`: the workers turn and no shard failed; `waited`: how long the oldest datagram has.
    pub fn look(&mut self, now: Time, sound: bool, waited: Duration) -> Fitness {
        self.late_since = (waited >= LATE).then_some(self.late_since.unwrap_or(now));
        match self.late_since {
            _ if !sound => Fitness::Faulty,
            Some(since) if now.since(since) >= LASTING => Fitness::Behind,
            _ => Fitness::Fit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is said at `at`, when the oldest datagram has waited for so long, in milliseconds.
    fn look(watched: &mut Watched, at: u64, waited: u64) -> Fitness {
        watched.look(Time::from_micros(at * 1_000), true, Duration::from_millis(waited))
    }

    #[test]
    fn a_node_that_lags_for_a_second_is_behind() {
        let mut watched = Watched::default();
        assert_eq!(look(&mut watched, 1_000, 500), Fitness::Fit, "a burst");
        assert_eq!(look(&mut watched, 1_999, 700), Fitness::Fit);
        assert_eq!(look(&mut watched, 2_000, 700), Fitness::Behind);
        assert_eq!(look(&mut watched, 2_500, 499), Fitness::Fit);
        assert_eq!(look(&mut watched, 3_000, 500), Fitness::Fit);
    }

    #[test]
    fn who_catches_up_in_between_is_not_behind() {
        let mut watched = Watched::default();
        for at in (1_000..20_000).step_by(10) {
            let waited = if at % 900 == 0 { 499 } else { 60_000 };
            assert_eq!(look(&mut watched, at, waited), Fitness::Fit, "at {at}");
        }
    }

    #[test]
    fn a_fault_counts_more() {
        let mut watched = Watched::default();
        assert_eq!(watched.look(Time::from_micros(1), false, Duration::ZERO), Fitness::Faulty);
        assert_eq!(look(&mut watched, 2, 0), Fitness::Fit);
    }
}
