//! INVITE client transaction: RFC 3261 §17.1.1 figure 5, with the Accepted state of RFC 6026 §7.2.

use crate::base::Time;

use super::timer::{Clock, Fired, Timing};

/// The states of figure 5. A terminated transaction is removed, so it has no state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Sent, no answer yet.
    Calling,
    /// A provisional came.
    Proceeding,
    /// A 300–699 came and was acknowledged.
    Completed,
    /// A 2xx came; more may follow.
    Accepted,
}

/// What to do with a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Tell the proxy.
    Pass,
    /// Acknowledge it and tell the proxy.
    AckAndPass,
    /// A retransmitted final: acknowledge it again.
    Ack,
    /// Not expected in this state.
    Drop,
}

/// One INVITE on its way to one target.
#[derive(Clone, Copy, Debug)]
pub struct InviteClient {
    /// Where it stands.
    pub state: State,
    /// Timers A and B, D, or M.
    pub clock: Clock,
    reliable: bool,
}

impl InviteClient {
    /// The INVITE leaves now.
    pub fn start(now: Time, timing: &Timing, reliable: bool) -> Self {
        let clock = Clock::repeats(now, reliable, timing.t1, timing.t1x64());
        Self { state: State::Calling, clock, reliable }
    }

    /// The INVITE of another node, which may have been answered already, is sent again at `at`: its resource repeats its
    /// last answer, which tells where it stands. Over a stream, too, but then only once.
    pub fn resume(at: Time, timing: &Timing, reliable: bool) -> Self {
        let clock = Clock { interval: timing.t1 / 2, repeat: at, end: at + timing.t1x64() };
        Self { state: State::Calling, clock, reliable }
    }

    /// The INVITE of another node, to whose caller somebody else has answered. It may be long over where it went, and would
    /// be a new call there: it is not sent again, only cancelled.
    pub fn given_up(at: Time, timing: &Timing, reliable: bool) -> Self {
        Self { state: State::Proceeding, clock: Clock::ends(at, timing.t1x64()), reliable }
    }

    /// The INVITE of another node has had a 300-699 that may not have been acknowledged: it is when it comes again.
    pub fn completed(now: Time, timing: &Timing, reliable: bool) -> Self {
        Self { state: State::Completed, clock: Clock::ends(now, timing.d()), reliable }
    }

    /// A response came.
    pub fn on_response(&mut self, now: Time, timing: &Timing, status: u16) -> Verdict {
        match (self.state, status) {
            (State::Calling, ..200) => {
                self.state = State::Proceeding;
                self.clock = Clock::OFF;
                Verdict::Pass
            }
            // The clock of a cancelled INVITE runs on.
            (State::Proceeding, ..200) => Verdict::Pass,
            (State::Calling | State::Proceeding, ..300) => {
                self.state = State::Accepted;
                self.clock = Clock::ends(now, timing.t1x64());
                Verdict::Pass
            }
            (State::Calling | State::Proceeding, _) => {
                self.state = State::Completed;
                let d = if self.reliable { std::time::Duration::ZERO } else { timing.d() };
                self.clock = Clock::ends(now, d);
                Verdict::AckAndPass
            }
            (State::Completed, 300..) => Verdict::Ack,
            (State::Accepted, 200..300) => Verdict::Pass,
            _ => Verdict::Drop,
        }
    }

    /// A clock ran out.
    pub fn on_timer(&mut self, now: Time) -> Fired {
        if self.clock.end <= now {
            return if self.state == State::Calling { Fired::TimedOut } else { Fired::Terminated };
        }
        if self.clock.repeat <= now {
            // Timer A doubles without a cap (§17.1.1.2).
            self.clock.back_off(now, std::time::Duration::MAX);
            if self.reliable {
                self.clock.repeat = Time::NEVER;
            }
            return Fired::Repeat;
        }
        Fired::Nothing
    }

    /// Stops retransmitting, keeps listening: somebody else is being asked.
    pub fn hush(&mut self) {
        self.clock.repeat = Time::NEVER;
    }

    /// RFC 3261 §9.1: a cancelled INVITE that gets no final within 64·T1 counts as cancelled.
    pub fn cancelled(&mut self, now: Time, timing: &Timing) {
        if self.state == State::Proceeding {
            self.clock = Clock::ends(now, timing.t1x64());
        }
    }
}
