//! Crossed addresses: in active-active without a balancer each node has addresses of its own, which callers know it by. The
//! active one holds those of a peer that does not serve, and gives them back once it does.

use std::time::Duration;

use crate::base::Time;

use super::io::Wish;

/// Between two attempts to hold what was lost; the first one is made at once.
const AGAIN: Duration = Duration::from_secs(5);

/// What becomes of the peer's addresses at this node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Guest {
    /// What the driver was told of them.
    told: Option<Wish>,
    /// They are kept quiet until then.
    quiet: Time,
    /// They were taken away: only a claim can put them back, not before `not_before`.
    lost: bool,
    not_before: Time,
    lost_at: Time,
}

impl Guest {
    /// What is to become of them, if that changed. `stands_in`: this node serves for the peer; `acts`: it serves, or passes on
    /// what comes to them; `lingers`: how long what began there may live.
    pub fn wish(&mut self, now: Time, stands_in: bool, acts: bool, lingers: Duration) -> Option<Wish> {
        let wish = match self.told {
            _ if stands_in && !self.lost => Wish::Hold,
            Some(Wish::Hold) if acts => {
                self.quiet = now + lingers;
                Wish::Quiet
            }
            Some(Wish::Quiet) if acts && now < self.quiet => Wish::Quiet,
            _ => Wish::Drop,
        };
        (self.told.replace(wish) != Some(wish)).then_some(wish)
    }

    /// They are here no more, although nobody wished that.
    pub fn dropped(&mut self, now: Time) {
        self.lost = self.told.take() == Some(Wish::Hold);
        self.not_before = now.max(self.lost_at + AGAIN);
        self.lost_at = self.not_before;
    }

    /// Whether a claim is to put them back now.
    pub fn wants_claim(&self, now: Time) -> bool {
        self.lost && now >= self.not_before
    }

    /// There is a new claim, under which they can be held.
    pub fn claimed(&mut self) {
        if std::mem::take(&mut self.lost) {
            self.told = None;
        }
    }

    /// When they are to be looked at again.
    pub fn due(&self) -> [Time; 2] {
        [self.quiet, self.not_before]
    }
}
