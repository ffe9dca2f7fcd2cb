//! Observed health of one resource: what probes and calls have shown. Nothing here needs a timer: all that time
//! changes is worked out when a member is looked at.

use std::time::Duration;

use crate::base::{ResourceId, Time};

/// Failed calls in a row that take an unmonitored member down. A monitored one uses its group's `down_after`.
pub const CALL_FAILURES: u8 = 3;
/// How long a suspect member waits for its next trial call while others are usable.
pub const TRIAL_HOLD: Duration = Duration::from_secs(5);
/// How long an unmonitored member stays down before its first trial call; doubles with each failed trial.
pub const DOWN_HOLD: Duration = Duration::from_secs(10);
/// Longest time between two trial calls of an unmonitored member that is down.
pub const DOWN_HOLD_MAX: Duration = Duration::from_secs(60);
/// How long a 503 without Retry-After counts as overload.
pub const OVERLOAD_HOLD: Duration = Duration::from_secs(5);
/// Longest Retry-After that is believed.
pub const OVERLOAD_HOLD_MAX: Duration = Duration::from_secs(300);

/// What is known of a member besides probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It answered something.
    Answered,
    /// A 503, with Retry-After if it had one (RFC 3261 §21.5.4).
    Overloaded(Option<Duration>),
    /// It gave no answer to an INVITE in time.
    Silent,
    /// A packet to it could not be delivered (ICMP, connection refused).
    Unreachable,
}

/// What a probe said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A response other than 503/408 came in time.
    Answered,
    /// 503, with its Retry-After.
    Overloaded(Option<Duration>),
    /// No answer in time, or it could not be delivered.
    Failed,
}

/// OPTIONS probing of a group's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Time between probes of one member.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that take a member down.
    pub down_after: u8,
    /// Successes in a row that bring it up.
    pub up_after: u8,
}

/// A resource that became usable or unusable for new calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// Which.
    pub resource: ResourceId,
    /// What it is now.
    pub usable: bool,
}

/// What speaks against a member, for a node that takes over its calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Doubt {
    /// Which.
    pub resource: ResourceId,
    /// Failures in a row that nothing has excused yet; 0: none.
    pub failures: u8,
    /// Calls failed, not only probes.
    pub calls: bool,
    /// Until when it is overloaded.
    pub overloaded_until: Time,
    /// The server itself named that time.
    pub explicit: bool,
    /// How many of its ports are left alone.
    pub withheld: u32,
    /// Until when.
    pub withheld_until: Time,
}

impl Doubt {
    /// Nothing speaks against it.
    pub fn of(resource: ResourceId) -> Self {
        Self {
            resource,
            failures: 0,
            calls: false,
            overloaded_until: Time::ZERO,
            explicit: false,
            withheld: 0,
            withheld_until: Time::ZERO,
        }
    }
}

/// How willingly a member is chosen; the lower rank wins whatever the scheme says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// Nothing against it, or its trial call is due.
    Good,
    /// Suspect: only when no good member has a port.
    Doubtful,
    /// Said 503 without Retry-After, which is to be treated like a 500 (RFC 3261 §21.5.4): rather than refusing.
    LastResort,
}

impl Rank {
    /// How many there are.
    pub const ALL: usize = 3;
}

/// Health of one resource.
///
/// * *suspect*: a call or a probe failed. Chosen only when no good member has a port, except for one trial call per
///   [`TRIAL_HOLD`]. An answered call ends it; an answered probe ends it when only probes had failed, because a server
///   may answer OPTIONS and swallow INVITEs.
/// * *down*: too many failures in a row. A monitored member comes back by answered probes alone, and on trial if calls
///   had taken it down. An unmonitored one gets one trial call per hold time; its answer brings it back.
/// * *overloaded*: said 503. Alive, but left alone until Retry-After has passed.
#[derive(Clone, Debug)]
pub struct Health {
    monitor: Option<Monitor>,
    state: State,
    /// Failures in a row, by what saw them.
    call_failures: u8,
    probe_failures: u8,
    /// Answered probes in a row.
    probe_answers: u8,
    /// Wait before the next trial call of an unmonitored member that is down.
    hold: Duration,
    overloaded_until: Time,
    /// The server itself named the time.
    overload_explicit: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Up,
    Suspect {
        trial_at: Time,
    },
    Down {
        trial_at: Time,
        /// A trial call is on its way.
        on_trial: bool,
        by_calls: bool,
    },
}

impl Health {
    /// Up until something says otherwise.
    pub fn new(monitor: Option<Monitor>) -> Self {
        Self {
            monitor,
            state: State::Up,
            call_failures: 0,
            probe_failures: 0,
            probe_answers: 0,
            hold: DOWN_HOLD,
            overloaded_until: Time::ZERO,
            overload_explicit: false,
        }
    }

    /// How it is probed, if it is.
    pub fn monitor(&self) -> Option<Monitor> {
        self.monitor
    }

    /// A new configuration; what was observed stays.
    pub fn set_monitor(&mut self, monitor: Option<Monitor>) {
        self.monitor = monitor;
    }

    /// Whether it is anything but down.
    pub fn usable(&self) -> bool {
        !matches!(self.state, State::Down { .. })
    }

    /// How willingly it is chosen at `now`; `None`: not at all.
    pub fn rank(&self, now: Time) -> Option<Rank> {
        let overloaded = now < self.overloaded_until;
        if overloaded && self.overload_explicit {
            return None;
        }
        match self.state {
            State::Down { trial_at, .. } => (self.monitor.is_none() && now >= trial_at).then_some(Rank::Good),
            _ if overloaded => Some(Rank::LastResort),
            State::Suspect { trial_at } if now < trial_at => Some(Rank::Doubtful),
            State::Suspect { .. } | State::Up => Some(Rank::Good),
        }
    }

    /// It was chosen. If that was its trial call, the next one waits.
    pub fn chosen(&mut self, now: Time) {
        match &mut self.state {
            State::Suspect { trial_at } if now >= *trial_at => *trial_at = now + TRIAL_HOLD,
            State::Down { trial_at, on_trial, .. } => {
                *trial_at = now + self.hold;
                *on_trial = true;
            }
            _ => {}
        }
    }

    /// What a call has shown. `Some(usable)` when it went down or came back.
    pub fn evidence(&mut self, now: Time, evidence: Evidence) -> Option<bool> {
        match evidence {
            Evidence::Answered => self.call_answered(),
            Evidence::Overloaded(retry_after) => {
                self.overload(now, retry_after, OVERLOAD_HOLD);
                self.call_answered()
            }
            Evidence::Silent | Evidence::Unreachable => self.call_failed(now),
        }
    }

    /// What a probe has shown. `Some(usable)` when the member went down or came back.
    pub fn probed(&mut self, now: Time, probe: Probe) -> Option<bool> {
        match probe {
            Probe::Answered => {
                if !self.overload_explicit {
                    self.overloaded_until = Time::ZERO;
                }
                self.probe_answered(now)
            }
            Probe::Overloaded(retry_after) => {
                // Without Retry-After the state lasts until the next probe can tell.
                let lasting = self.monitor.map_or(OVERLOAD_HOLD, |m| m.interval + m.timeout);
                self.overload(now, retry_after, lasting.max(OVERLOAD_HOLD));
                self.probe_answered(now)
            }
            Probe::Failed => self.probe_failed(now),
        }
    }

    /// What speaks at `now` against it, which is `resource`.
    pub fn doubt(&self, now: Time, resource: ResourceId) -> Option<Doubt> {
        let calls = match self.state {
            State::Up => false,
            State::Suspect { .. } => self.call_failures > 0,
            State::Down { by_calls, .. } => by_calls,
        };
        let failures = match self.state {
            State::Up => 0,
            _ if calls => self.call_failures.max(1),
            _ => self.probe_failures.max(1),
        };
        let overloaded_until = if now < self.overloaded_until { self.overloaded_until } else { Time::ZERO };
        let explicit = overloaded_until > Time::ZERO && self.overload_explicit;
        let doubt = Doubt { failures, calls, overloaded_until, explicit, ..Doubt::of(resource) };
        (failures > 0 || overloaded_until > Time::ZERO).then_some(doubt)
    }

    /// What another node has seen makes a member that is up here suspect, one failure from down, but never down: the
    /// other node may have been cut off from what this one reaches. Overload is the server's own word.
    pub fn hear(&mut self, now: Time, doubt: &Doubt) {
        if doubt.failures > 0 && self.state == State::Up {
            self.suspect(now);
            match doubt.calls {
                true => self.call_failures = doubt.failures.min(self.call_threshold() - 1),
                false => self.probe_failures = doubt.failures.min(self.monitor.map_or(1, |m| m.down_after).max(1) - 1),
            }
        }
        let until = doubt.overloaded_until.min(now + OVERLOAD_HOLD_MAX);
        if until > self.overloaded_until.max(now) {
            (self.overloaded_until, self.overload_explicit) = (until, doubt.explicit);
        }
    }

    /// `up`, `suspect`, `overloaded`, `down`.
    pub fn name(&self, now: Time) -> &'static str {
        match self.state {
            State::Down { .. } => "down",
            _ if now < self.overloaded_until => "overloaded",
            State::Suspect { .. } => "suspect",
            State::Up => "up",
        }
    }

    /// Why it is not `up`, in a few words; empty when it is.
    pub fn reason(&self, now: Time) -> &'static str {
        match self.state {
            State::Down { by_calls: true, .. } => "calls failed in a row",
            State::Down { .. } => "probes failed in a row",
            _ if now < self.overloaded_until && self.overload_explicit => "503 with Retry-After",
            _ if now < self.overloaded_until => "503",
            State::Suspect { .. } if self.call_failures > 0 => "the last call failed",
            State::Suspect { .. } => "the last probe failed",
            State::Up => "",
        }
    }

    fn call_answered(&mut self) -> Option<bool> {
        match self.state {
            State::Up => {
                self.call_failures = 0;
                None
            }
            State::Suspect { .. } => {
                self.call_failures = 0;
                self.state = State::Up;
                None
            }
            State::Down { on_trial: true, .. } if self.monitor.is_none() => {
                self.up();
                Some(true)
            }
            State::Down { .. } => None,
        }
    }

    fn call_failed(&mut self, now: Time) -> Option<bool> {
        if let State::Down { trial_at, on_trial, .. } = &mut self.state {
            // Failures of calls that were placed before it went down say nothing new.
            if std::mem::take(on_trial) {
                self.hold = (self.hold * 2).min(DOWN_HOLD_MAX);
                *trial_at = now + self.hold;
            }
            return None;
        }
        self.call_failures = self.call_failures.saturating_add(1);
        if self.call_failures >= self.call_threshold() {
            return self.down(now, true);
        }
        self.suspect(now);
        None
    }

    fn call_threshold(&self) -> u8 {
        self.monitor.map_or(CALL_FAILURES, |m| m.down_after).max(1)
    }

    fn probe_answered(&mut self, now: Time) -> Option<bool> {
        self.probe_failures = 0;
        self.probe_answers = self.probe_answers.saturating_add(1);
        match self.state {
            State::Suspect { .. } if self.call_failures == 0 => {
                self.state = State::Up;
                None
            }
            State::Down { by_calls, .. } if self.probe_answers >= self.monitor.map_or(1, |m| m.up_after) => {
                let failures = self.call_threshold() - 1;
                self.up();
                if by_calls && failures > 0 {
                    // It answers OPTIONS, but calls had failed: the first one decides.
                    self.call_failures = failures;
                    self.state = State::Suspect { trial_at: now };
                }
                Some(true)
            }
            _ => None,
        }
    }

    fn probe_failed(&mut self, now: Time) -> Option<bool> {
        self.probe_answers = 0;
        self.probe_failures = self.probe_failures.saturating_add(1);
        if !self.usable() {
            return None;
        }
        if self.probe_failures >= self.monitor.map_or(1, |m| m.down_after) {
            return self.down(now, false);
        }
        self.suspect(now);
        None
    }

    fn overload(&mut self, now: Time, retry_after: Option<Duration>, default: Duration) {
        let until = now + retry_after.unwrap_or(default).min(OVERLOAD_HOLD_MAX);
        if until >= self.overloaded_until {
            self.overloaded_until = until;
            self.overload_explicit = retry_after.is_some();
        }
    }

    fn suspect(&mut self, now: Time) {
        self.state = State::Suspect { trial_at: now + TRIAL_HOLD };
    }

    fn down(&mut self, now: Time, by_calls: bool) -> Option<bool> {
        self.probe_answers = 0;
        self.state = State::Down { trial_at: now + self.hold, on_trial: false, by_calls };
        Some(false)
    }

    fn up(&mut self) {
        self.state = State::Up;
        self.call_failures = 0;
        self.probe_failures = 0;
        self.hold = DOWN_HOLD;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::ZERO + Duration::from_secs(seconds)
    }

    fn monitored() -> Health {
        Health::new(Some(Monitor {
            interval: Duration::from_secs(1),
            timeout: Duration::from_secs(1),
            down_after: 3,
            up_after: 2,
        }))
    }

    #[test]
    fn probes_take_down_and_up_by_their_thresholds() {
        let mut h = monitored();
        assert_eq!(h.probed(at(1), Probe::Failed), None);
        assert_eq!((h.name(at(1)), h.rank(at(1))), ("suspect", Some(Rank::Doubtful)));
        assert_eq!(h.reason(at(1)), "the last probe failed");
        assert_eq!(h.probed(at(2), Probe::Answered), None);
        assert_eq!(h.name(at(2)), "up");
        assert_eq!(h.probed(at(3), Probe::Failed), None);
        assert_eq!(h.probed(at(4), Probe::Failed), None);
        assert_eq!(h.probed(at(5), Probe::Failed), Some(false));
        assert_eq!(h.probed(at(6), Probe::Failed), None, "down is told once");
        assert_eq!(h.reason(at(6)), "probes failed in a row");
        assert_eq!(h.rank(at(1_000)), None, "time alone does not bring a monitored member back");
        assert_eq!(h.evidence(at(1_000), Evidence::Answered), None, "nor does a call");
        assert_eq!(h.probed(at(1_001), Probe::Answered), None);
        assert_eq!(h.probed(at(1_002), Probe::Failed), None);
        assert_eq!(h.probed(at(1_003), Probe::Answered), None, "successes count in a row");
        assert_eq!(h.probed(at(1_004), Probe::Answered), Some(true));
        assert_eq!((h.name(at(1_004)), h.rank(at(1_004))), ("up", Some(Rank::Good)));
        assert_eq!(h.reason(at(1_004)), "");
    }

    #[test]
    fn failed_calls_make_suspect_then_down_and_an_answer_clears() {
        let mut h = monitored();
        assert_eq!(h.evidence(at(0), Evidence::Unreachable), None);
        assert_eq!(h.rank(at(0)), Some(Rank::Doubtful));
        assert_eq!(h.reason(at(0)), "the last call failed");
        assert_eq!(h.probed(at(1), Probe::Answered), None);
        assert_eq!(h.name(at(1)), "suspect", "OPTIONS does not excuse a failed INVITE");
        h.evidence(at(1), Evidence::Answered);
        assert_eq!(h.name(at(1)), "up");
        assert_eq!(h.evidence(at(2), Evidence::Silent), None);
        assert_eq!(h.evidence(at(2), Evidence::Unreachable), None);
        assert_eq!(h.evidence(at(2), Evidence::Silent), Some(false));
        assert_eq!(h.evidence(at(2), Evidence::Silent), None);
    }

    #[test]
    fn a_member_that_calls_took_down_returns_on_trial() {
        let mut h = monitored();
        for _ in 0..3 {
            h.evidence(at(0), Evidence::Silent);
        }
        h.probed(at(1), Probe::Answered);
        assert_eq!(h.probed(at(2), Probe::Answered), Some(true));
        assert_eq!(h.rank(at(2)), Some(Rank::Good), "one trial call");
        h.chosen(at(2));
        assert_eq!(h.rank(at(2)), Some(Rank::Doubtful));
        let mut answering = h.clone();
        assert_eq!(answering.evidence(at(2), Evidence::Answered), None);
        assert_eq!(answering.rank(at(2)), Some(Rank::Good));
        assert_eq!(h.evidence(at(4), Evidence::Silent), Some(false), "the trial failed");
    }

    #[test]
    fn a_suspect_gets_one_trial_call_per_hold() {
        let mut h = Health::new(None);
        h.evidence(at(0), Evidence::Silent);
        assert_eq!(h.rank(at(4)), Some(Rank::Doubtful));
        assert_eq!(h.rank(at(5)), Some(Rank::Good));
        h.chosen(at(5));
        assert_eq!(h.rank(at(9)), Some(Rank::Doubtful));
        assert_eq!(h.rank(at(10)), Some(Rank::Good));
    }

    #[test]
    fn an_unmonitored_member_comes_back_by_trial_with_doubling_hold() {
        let mut h = Health::new(None);
        h.evidence(at(0), Evidence::Unreachable);
        h.evidence(at(0), Evidence::Unreachable);
        assert_eq!(h.evidence(at(0), Evidence::Unreachable), Some(false));
        assert_eq!(h.evidence(at(1), Evidence::Silent), None, "an older call: the hold does not grow");
        let mut now = 0;
        for hold in [10, 20, 40, 60, 60] {
            assert_eq!(h.rank(at(now + hold - 1)), None);
            now += hold;
            assert_eq!(h.rank(at(now)), Some(Rank::Good));
            h.chosen(at(now));
            assert_eq!(h.rank(at(now)), None, "one call at a time");
            assert_eq!(h.evidence(at(now), Evidence::Silent), None);
        }
        now += 60;
        h.chosen(at(now));
        assert_eq!(h.evidence(at(now), Evidence::Answered), Some(true));
        assert_eq!((h.name(at(now)), h.rank(at(now))), ("up", Some(Rank::Good)));
        for _ in 0..3 {
            h.evidence(at(now), Evidence::Silent);
        }
        assert_eq!(h.rank(at(now + 10)), Some(Rank::Good), "the hold starts anew");
    }

    #[test]
    fn overload_is_not_death() {
        let mut h = monitored();
        assert_eq!(h.evidence(at(0), Evidence::Overloaded(Some(Duration::from_secs(7)))), None);
        assert_eq!((h.name(at(6)), h.rank(at(6))), ("overloaded", None));
        assert_eq!(h.reason(at(6)), "503 with Retry-After");
        assert_eq!(h.probed(at(6), Probe::Answered), None);
        assert_eq!(h.rank(at(6)), None, "the server named the time itself");
        assert_eq!((h.name(at(7)), h.rank(at(7))), ("up", Some(Rank::Good)));
        h.evidence(at(10), Evidence::Overloaded(Some(Duration::from_secs(100_000))));
        assert_eq!((h.rank(at(309)), h.rank(at(310))), (None, Some(Rank::Good)));
        h.evidence(at(400), Evidence::Overloaded(None));
        assert_eq!((h.rank(at(404)), h.rank(at(405))), (Some(Rank::LastResort), Some(Rank::Good)));
    }

    #[test]
    fn a_probed_503_lasts_until_the_next_probe_can_tell_and_counts_as_life() {
        let slow =
            Monitor { interval: Duration::from_secs(30), timeout: Duration::from_secs(2), down_after: 1, up_after: 1 };
        let mut h = Health::new(Some(slow));
        assert_eq!(h.probed(at(0), Probe::Failed), Some(false));
        assert_eq!(h.probed(at(30), Probe::Overloaded(None)), Some(true));
        assert_eq!(h.rank(at(61)), Some(Rank::LastResort));
        h.probed(at(61), Probe::Answered);
        assert_eq!(h.rank(at(61)), Some(Rank::Good));
    }

    #[test]
    fn what_another_node_saw_makes_suspect_and_one_more_failure_takes_down() {
        let id = ResourceId(7);
        let mut theirs = monitored();
        assert_eq!(theirs.doubt(at(0), id), None);
        for _ in 0..3 {
            theirs.evidence(at(0), Evidence::Silent);
        }
        let doubt = theirs.doubt(at(1), id).unwrap();
        assert_eq!((doubt.failures, doubt.calls), (3, true));
        let mut ours = monitored();
        ours.hear(at(1), &doubt);
        assert_eq!((ours.name(at(1)), ours.rank(at(1)), ours.usable()), ("suspect", Some(Rank::Doubtful), true));
        let mut answering = ours.clone();
        assert_eq!(answering.probed(at(2), Probe::Answered), None);
        assert_eq!(answering.name(at(2)), "suspect", "it answers OPTIONS, but calls had failed");
        assert_eq!(ours.evidence(at(2), Evidence::Silent), Some(false));
        let mut probed = monitored();
        probed.hear(at(1), &Doubt { calls: false, ..doubt });
        assert_eq!(probed.clone().probed(at(2), Probe::Failed), Some(false));
        probed.probed(at(2), Probe::Answered);
        assert_eq!(probed.name(at(2)), "up", "only the other node's probes had failed");
        let mut down = monitored();
        for _ in 0..3 {
            down.probed(at(0), Probe::Failed);
        }
        down.hear(at(1), &doubt);
        assert_eq!(down.name(at(1)), "down", "this node's own view stays");
    }

    #[test]
    fn overload_is_told_as_the_server_told_it() {
        let mut theirs = monitored();
        theirs.evidence(at(0), Evidence::Overloaded(Some(Duration::from_secs(7))));
        let doubt = theirs.doubt(at(1), ResourceId(7)).unwrap();
        assert_eq!((doubt.failures, doubt.overloaded_until, doubt.explicit), (0, at(7), true));
        assert_eq!(theirs.doubt(at(7), ResourceId(7)), None);
        let mut ours = monitored();
        ours.hear(at(2), &doubt);
        assert_eq!((ours.rank(at(6)), ours.rank(at(7))), (None, Some(Rank::Good)));
        ours.evidence(at(2), Evidence::Overloaded(Some(Duration::from_secs(30))));
        ours.hear(at(3), &doubt);
        assert_eq!(ours.rank(at(20)), None, "the later end holds");
    }
}
