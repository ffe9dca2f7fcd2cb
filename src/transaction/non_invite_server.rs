//! Non-INVITE server transaction: RFC 3261 §17.2.2 figure 8.

use crate::base::Time;

use super::timer::{Clock, Fired, Timing};

/// The states of figure 8. Proceeding is missing: a proxy passes no provisional of a non-INVITE request on
/// (RFC 4320 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No final yet.
    Trying,
    /// The final was sent and is repeated to retransmissions.
    Completed,
}

/// One request other than INVITE and ACK that came in.
#[derive(Clone, Copy, Debug)]
pub struct NonInviteServer {
    /// Where it stands.
    pub state: State,
    /// Timer J; before the final, the longest time that a final may take.
    pub clock: Clock,
    reliable: bool,
}

impl NonInviteServer {
    /// The request came in. Without a final it is over when its sender has given up (RFC 4320 §4.2: no 408).
    pub fn start(now: Time, timing: &Timing, reliable: bool) -> Self {
        Self { state: State::Trying, clock: Clock::ends(now, timing.t1x64() + timing.t4), reliable }
    }

    /// The proxy wants to send the final; whether this state lets it.
    pub fn on_send(&mut self, now: Time, timing: &Timing) -> bool {
        if self.state == State::Completed {
            return false;
        }
        self.state = State::Completed;
        let j = if self.reliable { std::time::Duration::ZERO } else { timing.t1x64() };
        self.clock = Clock::ends(now, j);
        true
    }

    /// A clock ran out.
    pub fn on_timer(&mut self, now: Time) -> Fired {
        if self.clock.end <= now { Fired::Terminated } else { Fired::Nothing }
    }
}
