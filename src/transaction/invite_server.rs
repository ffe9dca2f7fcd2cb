//! INVITE server transaction: RFC 3261 §17.2.1 figure 7, with the Accepted state of RFC 6026 §7.1.

use crate::base::Time;

use super::timer::{Clock, Fired, Timing};

/// The states of figure 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No final yet.
    Proceeding,
    /// A 300–699 was sent and waits for its ACK.
    Completed,
    /// The ACK came; more of them are absorbed.
    Confirmed,
    /// A 2xx was sent; retransmitted INVITEs are absorbed, more 2xx pass.
    Accepted,
}

/// One INVITE that came in.
#[derive(Clone, Copy, Debug)]
pub struct InviteServer {
    /// Where it stands.
    pub state: State,
    /// Timers G and H, I, or L.
    pub clock: Clock,
    reliable: bool,
}

impl InviteServer {
    /// The INVITE came in.
    pub fn start(reliable: bool) -> Self {
        Self { state: State::Proceeding, clock: Clock::OFF, reliable }
    }

    /// An INVITE that is refused with the first response it gets. A client that was told nothing repeats its INVITE until
    /// it has heard this (RFC 3261 §17.1.1.2), and each repetition is answered. So timer G does not run: it would only
    /// multiply what a forged INVITE sends to its victim.
    pub fn refused(now: Time, timing: &Timing, reliable: bool) -> Self {
        Self { state: State::Completed, clock: Clock::ends(now, timing.t1x64()), reliable }
    }

    /// Its final was decided on another node, and nobody knows whether it left there. Over a stream neither side repeats
    /// anything (timer G is off), so a refusal leaves from here, too, T1 after `at`, but then only once.
    pub fn take_over(&mut self, at: Time, timing: &Timing) {
        if self.reliable && self.state == State::Completed {
            self.clock.repeat = at + timing.t1;
        }
    }

    /// Whether a retransmitted INVITE is answered with the last response (it is absorbed otherwise).
    pub fn repeats_to_invite(&self) -> bool {
        matches!(self.state, State::Proceeding | State::Completed)
    }

    /// The proxy wants to send a response; whether this state lets it.
    pub fn on_send(&mut self, now: Time, timing: &Timing, status: u16) -> bool {
        match (self.state, status) {
            (State::Proceeding, ..200) => true,
            (State::Proceeding, ..300) => {
                self.state = State::Accepted;
                self.clock = Clock::ends(now, timing.t1x64());
                true
            }
            (State::Proceeding, _) => {
                self.state = State::Completed;
                self.clock = Clock::repeats(now, self.reliable, timing.t1, timing.t1x64());
                true
            }
            // RFC 6026 §7.1: further 2xx pass while Accepted.
            (State::Accepted, 200..300) => true,
            _ => false,
        }
    }

    /// An ACK that matches the transaction came; whether it ended the wait for one.
    pub fn on_ack(&mut self, now: Time, timing: &Timing) -> bool {
        if self.state != State::Completed {
            return false;
        }
        self.state = State::Confirmed;
        let i = if self.reliable { std::time::Duration::ZERO } else { timing.t4 };
        self.clock = Clock::ends(now, i);
        true
    }

    /// A clock ran out.
    pub fn on_timer(&mut self, now: Time, timing: &Timing) -> Fired {
        if self.clock.end <= now {
            return if self.state == State::Completed { Fired::NoAck } else { Fired::Terminated };
        }
        if self.clock.repeat <= now {
            self.clock.back_off(now, timing.t2);
            if self.reliable {
                self.clock.repeat = Time::NEVER;
            }
            return Fired::Repeat;
        }
        Fired::Nothing
    }
}
