//! Faults that a drill asks of a node: for a limited time it acts as if the network to its peer had failed, or as a peer
//! that is too slow; or it dies. They end by themselves.
#![forbid(unsafe_code)]

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::base::Time;
use crate::runtime::sys;

/// What is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The process dies, as by SIGKILL of somebody else.
    Kill,
    /// No beat and nothing of the peer link leaves or is heard. Callers and media servers notice nothing.
    Partition,
    /// The peer link is not read: what the peer has to say waits with it.
    SlowPeer,
}

impl Fault {
    /// All of them.
    pub const ALL: [Fault; 3] = [Fault::Kill, Fault::Partition, Fault::SlowPeer];
    /// How long one lasts at most.
    pub const LONGEST: Duration = Duration::from_secs(60);

    /// As operators write it.
    pub fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Partition => "partition",
            Fault::SlowPeer => "slow-peer",
        }
    }

    /// Reads what an operator wants.
    ///
    /// # Errors
    ///
    /// There is no such fault, or it would not last 1 to 60 seconds: cause and cure.
    pub fn read(name: &str, seconds: u64) -> Result<(Self, Duration), String> {
        let fault = Self::ALL.into_iter().find(|fault| fault.name() == name);
        let fault = fault.ok_or("there is no such fault; ask for `kill`, `partition` or `slow-peer`")?;
        let span = Duration::from_secs(seconds);
        if span.is_zero() || span > Self::LONGEST {
            let longest = Self::LONGEST.as_secs();
            return Err(format!("`for` is {seconds} s; a fault lasts 1 to {longest} s"));
        }
        Ok((fault, span))
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The faults of this process, looked at by whoever sends to the peer or hears it.
#[derive(Debug, Default)]
pub struct Faults {
    /// In microseconds of the clock; 0: none was asked for.
    parted_until: AtomicU64,
    slow_until: AtomicU64,
}

impl Faults {
    /// Begins a fault that ends at `until`; one of the same kind that is under way ends then as well. A death ends at
    /// once.
    pub fn begin(&self, fault: Fault, until: Time) {
        let until = until.as_micros();
        match fault {
            Fault::Kill => sys::process::die(),
            Fault::Partition => self.parted_until.store(until, Ordering::Release),
            Fault::SlowPeer => self.slow_until.store(until, Ordering::Release),
        }
    }

    /// Whether nothing may leave for the peer, and nothing of it is heard.
    pub fn is_parted(&self) -> bool {
        holds(&self.parted_until)
    }

    /// Whether the link to the peer is not read.
    pub fn is_deaf(&self) -> bool {
        self.is_parted() || holds(&self.slow_until)
    }
}

/// Reads the clock only where a fault was asked for.
fn holds(until: &AtomicU64) -> bool {
    let until = until.load(Ordering::Acquire);
    until > 0 && sys::now().as_micros() < until
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_ends_by_itself() {
        let faults = Faults::default();
        assert!(!faults.is_parted() && !faults.is_deaf());
        let hour = Duration::from_secs(3_600);
        faults.begin(Fault::SlowPeer, sys::now() + hour);
        assert!(!faults.is_parted() && faults.is_deaf());
        faults.begin(Fault::SlowPeer, sys::now());
        faults.begin(Fault::Partition, sys::now() + hour);
        assert!(faults.is_parted() && faults.is_deaf());
        faults.begin(Fault::Partition, sys::now());
        assert!(!faults.is_parted() && !faults.is_deaf());
    }

    #[test]
    fn what_is_no_fault_or_lasts_too_long_is_refused() {
        assert_eq!(Fault::read("slow-peer", 60), Ok((Fault::SlowPeer, Duration::from_secs(60))));
        for (name, seconds, said) in [("hang", 5, "`slow-peer`"), ("kill", 0, "1 to 60 s"), ("partition", 61, "61 s")] {
            assert!(Fault::read(name, seconds).is_err_and(|why| why.contains(said)), "{name} {seconds}");
        }
    }
}
