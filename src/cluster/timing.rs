//! How long a pair waits for what, and which of these times must fit together.

use std::fmt;
use std::time::Duration;

/// What the three layers that take an address away need on top of their own limits: scheduling, netlink, the wire.
pub const MARGIN: Duration = Duration::from_millis(30);

/// The times of the detector, of claims and of hand-overs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two beats on one path.
    pub beat: Duration,
    /// A peer that was heard on no path for this long is suspected.
    pub suspicion: Duration,
    /// How long the answer to a probe of the address is waited for.
    pub probe: Duration,
    /// The guard takes the address away when it was not kicked for this long.
    pub guard_limit: Duration,
    /// Between two kicks of the guard.
    pub kick: Duration,
    /// After this time without a sign of life nothing of a peer can still hold the address: lifetime in the kernel and
    /// a margin.
    pub lease: Duration,
    /// A node that starts and hears nobody claims nothing for this long. A node with lower ids beside it waits
    /// [`Timing::stagger`] longer for each.
    pub boot_hold: Duration,
    /// Added to `boot_hold` per peer with a lower id, so that two that cannot hear each other do not probe in step.
    pub stagger: Duration,
    /// A timer that fires later than this tells a node that it must not judge others.
    pub tolerance: Duration,
    /// How long the former active keeps the address, silent to ARP, and relays.
    pub quiet: Duration,
    /// An active node that reaches none of its reference points and hears no peer gives up after this time.
    pub isolation: Duration,
    /// How long a node that would not be chosen waits for the one that would.
    pub patience: Duration,
    /// Each step of a hand-over but flushing.
    pub step: Duration,
    /// Flushing before a hand-over that nobody is in a hurry for.
    pub flush: Duration,
    /// Flushing when the active node is of no use any more.
    pub flush_urgent: Duration,
    /// First wait after both nodes had been active; doubles with each such meeting up to `hold_max`.
    pub hold: Duration,
    /// Longest such wait, also the time for which `SILENCE_CLAIMS` counts.
    pub hold_max: Duration,
    /// So long armed and undisturbed before the preferred node gets its role back (`preempt`).
    pub stable: Duration,
}

/// Claims on mere silence within [`Timing::hold_max`]; further ones wait.
pub const SILENCE_CLAIMS: usize = 3;

impl Default for Timing {
    fn default() -> Self {
        let ms = Duration::from_millis;
        Self {
            beat: ms(20),
            suspicion: ms(150),
            probe: ms(20),
            guard_limit: ms(80),
            kick: ms(10),
            lease: ms(2_300),
            boot_hold: ms(3_000),
            stagger: ms(500),
            tolerance: ms(40),
            quiet: ms(1_000),
            isolation: ms(1_000),
            patience: ms(500),
            step: ms(500),
            flush: ms(2_000),
            flush_urgent: ms(150),
            hold: ms(2_000),
            hold_max: ms(60_000),
            stable: ms(30_000),
        }
    }
}

/// Why times do not fit together. Each names the settings at fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimingError {
    /// A time that must not be zero.
    Zero(&'static str),
    /// The standby would claim before the guard of a hung active has surely taken the address away.
    ClaimBeforeGuard {
        /// suspicion + probe.
        claim: Duration,
        /// guard limit + kick + beat + 30 ms.
        needed: Duration,
    },
    /// Fewer than four beats within the suspicion: the loss of a few datagrams would look like death.
    BeatTooSlow {
        /// The beat.
        beat: Duration,
        /// The suspicion.
        suspicion: Duration,
    },
    /// A node could be late and not know it before its peer suspects it.
    ToleranceTooLong {
        /// The tolerance.
        tolerance: Duration,
        /// Must be below this.
        limit: Duration,
    },
    /// With a witness, a node without its lease would still spend when its peer spends everything.
    SuspicionTooLong {
        /// The suspicion.
        suspicion: Duration,
        /// How long it may spend after it was last heard.
        needed: Duration,
        /// Must be above that.
        lease: Duration,
    },
    /// The guard would not be kicked twice within its limit.
    KickTooSlow {
        /// The kick.
        kick: Duration,
        /// The limit.
        guard_limit: Duration,
    },
    /// The lease must be longer than a claim on suspicion takes.
    LeaseTooShort {
        /// The lease.
        lease: Duration,
        /// suspicion + probe.
        claim: Duration,
    },
    /// A starting node must outwait the lease of whoever held the address.
    BootHoldTooShort {
        /// The boot hold.
        boot_hold: Duration,
        /// The lease.
        lease: Duration,
    },
}

impl Timing {
    /// How long the former active relays: an address that it cannot give up draws datagrams until the kernel ends it.
    pub(super) fn passes_on(&self, usable: bool) -> Duration {
        if usable { self.quiet } else { self.lease }
    }

    /// Whether the times fit together; the first fault found.
    pub fn check(&self) -> Result<(), TimingError> {
        let times = [
            ("beat", self.beat),
            ("suspicion", self.suspicion),
            ("probe", self.probe),
            ("guard limit", self.guard_limit),
            ("kick", self.kick),
            ("step", self.step),
            ("hold", self.hold),
            ("hold max", self.hold_max),
        ];
        if let Some((name, _)) = times.iter().find(|(_, time)| time.is_zero()) {
            return Err(TimingError::Zero(name));
        }
        let (claim, needed) = (self.suspicion + self.probe, self.guard_limit + self.kick + self.beat + MARGIN);
        if claim < needed {
            return Err(TimingError::ClaimBeforeGuard { claim, needed });
        }
        if self.beat * 4 > self.suspicion {
            return Err(TimingError::BeatTooSlow { beat: self.beat, suspicion: self.suspicion });
        }
        if self.tolerance >= self.doubt() {
            return Err(TimingError::ToleranceTooLong { tolerance: self.tolerance, limit: self.doubt() });
        }
        if self.kick * 2 > self.guard_limit {
            return Err(TimingError::KickTooSlow { kick: self.kick, guard_limit: self.guard_limit });
        }
        if self.lease <= claim {
            return Err(TimingError::LeaseTooShort { lease: self.lease, claim });
        }
        if self.boot_hold < self.lease {
            return Err(TimingError::BootHoldTooShort { boot_hold: self.boot_hold, lease: self.lease });
        }
        Ok(())
    }

    /// Whether a node that no witness lets go on has surely ceased to spend before its peer takes the whole.
    ///
    /// # Errors
    ///
    /// [`TimingError::SuspicionTooLong`].
    pub fn check_witness(&self) -> Result<(), TimingError> {
        let needed = self.hearing() + self.doubt() + MARGIN;
        if needed >= self.lease {
            return Err(TimingError::SuspicionTooLong { suspicion: self.suspicion, needed, lease: self.lease });
        }
        Ok(())
    }

    /// A peer that has heard nothing of this node for this long may take it for silent.
    pub(super) fn hearing(&self) -> Duration {
        self.suspicion * 2
    }

    /// An active node that did not run for this long asks before it goes on: its peer may be about to claim.
    pub fn doubt(&self) -> Duration {
        self.suspicion.saturating_sub(self.beat + MARGIN)
    }

    /// Without an answer of the driver for this long it is asked again: "nobody" is an answer as well, and its silence
    /// tells nothing of the address.
    pub(super) fn probe_limit(&self) -> Duration {
        self.probe * 2
    }

    /// A beat is missed when this has passed since the last one.
    pub fn missed(&self) -> Duration {
        self.beat + self.beat / 2
    }
}

impl fmt::Display for TimingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TimingError::Zero(name) => write!(f, "{name} is zero; give it a time"),
            TimingError::ClaimBeforeGuard { claim, needed } => write!(
                f,
                "suspicion + probe is {claim:?}, but the guard of a hung active needs guard limit + kick + beat + 30 ms \
                 = {needed:?} to take the address away; lengthen the suspicion or shorten the guard limit"
            ),
            TimingError::BeatTooSlow { beat, suspicion } => {
                write!(f, "a suspicion of {suspicion:?} spans fewer than four beats of {beat:?}; lengthen it")
            }
            TimingError::ToleranceTooLong { tolerance, limit } => {
                write!(f, "a tolerance of {tolerance:?} for own lateness must be below {limit:?}; shorten it")
            }
            TimingError::KickTooSlow { kick, guard_limit } => {
                write!(f, "a kick every {kick:?} does not fit twice into the guard limit of {guard_limit:?}")
            }
            TimingError::SuspicionTooLong { suspicion, needed, lease } => write!(
                f,
                "with a suspicion of {suspicion:?} a node may admit calls for {needed:?} after its peer heard it last, but \
                 from {lease:?} on the holder of the witness's lease spends everything; shorten the suspicion"
            ),
            TimingError::LeaseTooShort { lease, claim } => {
                write!(f, "a lease of {lease:?} must be longer than suspicion + probe ({claim:?})")
            }
            TimingError::BootHoldTooShort { boot_hold, lease } => {
                write!(f, "cluster.boot-hold of {boot_hold:?} must be at least the lease of {lease:?}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_fit_together() {
        assert_eq!(Timing::default().check(), Ok(()));
    }

    #[test]
    fn a_claim_must_not_come_before_the_guard() {
        let ms = Duration::from_millis;
        let exact = Timing { guard_limit: ms(110), ..Timing::default() };
        assert_eq!(exact.check(), Ok(()));
        let over = Timing { guard_limit: ms(111), ..Timing::default() };
        let fault = TimingError::ClaimBeforeGuard { claim: ms(170), needed: ms(171) };
        assert_eq!(over.check(), Err(fault));
        assert!(fault.to_string().contains("171ms"), "{fault}");
    }

    #[test]
    fn each_pair_of_times_is_checked() {
        let ms = Duration::from_millis;
        let with = |change: &dyn Fn(&mut Timing)| {
            let mut timing = Timing::default();
            change(&mut timing);
            timing.check().unwrap_err()
        };
        assert_eq!(with(&|t| t.probe = Duration::ZERO), TimingError::Zero("probe"));
        assert_eq!(with(&|t| t.beat = ms(40)), TimingError::BeatTooSlow { beat: ms(40), suspicion: ms(150) });
        let limit = ms(100);
        assert_eq!(with(&|t| t.tolerance = ms(100)), TimingError::ToleranceTooLong { tolerance: ms(100), limit });
        assert_eq!(
            with(&|t| (t.kick, t.guard_limit) = (ms(31), ms(60))),
            TimingError::KickTooSlow { kick: ms(31), guard_limit: ms(60) }
        );
        assert_eq!(with(&|t| t.lease = ms(170)), TimingError::LeaseTooShort { lease: ms(170), claim: ms(170) });
        let boot_hold = ms(2_299);
        assert_eq!(with(&|t| t.boot_hold = ms(2_299)), TimingError::BootHoldTooShort { boot_hold, lease: ms(2_300) });
    }
}
