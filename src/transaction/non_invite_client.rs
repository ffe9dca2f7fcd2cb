//! Non-INVITE client transaction: RFC 3261 §17.1.2 figure 6.

use crate::base::Time;

use super::timer::{Clock, Fired, Timing};

/// The states of figure 6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sent, no answer yet.
    Trying,
    /// A provisional came.
    Proceeding,
    /// The final came; retransmissions of it are absorbed.
    Completed,
}

/// One request other than INVITE and ACK on its way to one target.
#[derive(Clone, Copy, Debug)]
pub struct NonInviteClient {
    /// Where it stands.
    pub state: State,
    /// Timers E and F, or K.
    pub clock: Clock,
    reliable: bool,
}

impl NonInviteClient {
    /// The request leaves now.
    pub fn start(now: Time, timing: &Timing, reliable: bool) -> Self {
        let clock = Clock::repeats(now, reliable, timing.t1, timing.t1x64());
        Self { state: State::Trying, clock, reliable }
    }

    /// A response came; whether the proxy shall see it.
    pub fn on_response(&mut self, now: Time, timing: &Timing, status: u16) -> bool {
        if self.state == State::Completed {
            return false;
        }
        if status < 200 {
            self.state = State::Proceeding;
            // Timer E stays at T2 from now on (§17.1.2.2).
            self.clock.interval = timing.t2;
            return true;
        }
        self.state = State::Completed;
        let k = if self.reliable { std::time::Duration::ZERO } else { timing.t4 };
        self.clock = Clock::ends(now, k);
        true
    }

    /// A clock ran out.
    pub fn on_timer(&mut self, now: Time, timing: &Timing) -> Fired {
        if self.clock.end <= now {
            return if self.state == State::Completed { Fired::Terminated } else { Fired::TimedOut };
        }
        if self.clock.repeat <= now {
            self.clock.back_off(now, timing.t2);
            return Fired::Repeat;
        }
        Fired::Nothing
    }
}
