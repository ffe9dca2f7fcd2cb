//! What is wished of the virtual addresses, and what becomes of them.
#![forbid(unsafe_code)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::arp::Mac;
use crate::base::Epoch;

/// What the cluster wants of the addresses, all of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Take them and announce them; the claim belongs to this epoch. An epoch in which they were lost (the watchdog fired,
    /// somebody kept deleting them) cannot take them again: only a higher one can.
    Hold {
        /// The epoch of the claim.
        epoch: Epoch,
    },
    /// Announce what is held once more.
    Announce,
    /// Stop answering for them and go on receiving: the time in which an old holder passes on what still arrives.
    Quiet,
    /// Give them up.
    Drop,
    /// Ask the link who holds them.
    Probe {
        /// How long an answer may take.
        within: Duration,
    },
}

/// Why the addresses are no longer held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// [`Wish::Drop`].
    Wished,
    /// The main process gave no sign of work for the limit.
    Silent,
    /// The guard itself stood still for so long that the kernel may have ended the lease.
    Paused,
    /// Somebody deleted them again and again.
    Deleted,
    /// They could not be made quiet.
    NotQuiet,
}

/// What happened to the addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// All are here and announced.
    Held {
        /// As wished.
        epoch: Epoch,
    },
    /// All are here, and nobody answers for them.
    Quiet,
    /// None is here any more.
    Dropped {
        /// Why.
        cause: Cause,
    },
    /// Somebody holds one. More may answer, until [`Event::ProbeEnded`].
    ProbeAnswered {
        /// Which.
        ip: IpAddr,
        /// Whose.
        mac: Mac,
    },
    /// The time for answers is over; who was not named by now has not answered.
    ProbeEnded,
    /// The interface of an address has no link, at the start or any more.
    CarrierLost {
        /// Its name.
        interface: String,
    },
    /// It has a link again, and so have those of all other addresses; what is held was announced again.
    CarrierBack {
        /// Its name.
        interface: String,
    },
    /// Somebody deleted an address; it was put back.
    AddressDeleted {
        /// Which.
        ip: IpAddr,
    },
    /// Somebody else claims an address that is held here. It is kept, and announced again at most every ten seconds.
    Stranger {
        /// Which.
        ip: IpAddr,
        /// Whose.
        mac: Mac,
    },
    /// A wish could not be fulfilled. After a failed [`Wish::Hold`] none of the addresses is here.
    Failed {
        /// What was tried and why it failed.
        reason: String,
    },
    /// Something beside the addresses failed; they are where they were.
    Hindered {
        /// What was tried and why it failed.
        reason: String,
    },
    /// The guard has ended or hangs: nobody watches over the addresses. They end with the kernel's lease.
    GuardDied,
    /// It hung only, and works again.
    GuardBack,
}

/// A connection that callers may have to learn the end of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Connection {
    /// Our side: a virtual address and a port.
    pub local: SocketAddr,
    /// The caller's side.
    pub remote: SocketAddr,
}

/// Changes the list of connections that are tickled at a takeover.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tickle {
    /// One more.
    Add(Connection),
    /// It has ended.
    Remove(Connection),
    /// None is known any more.
    Clear,
}

/// Why a guard did not start.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A capability is missing: `CAP_NET_ADMIN`, `CAP_NET_RAW`.
    Privilege(String),
    /// No interface has a subnet that covers the address.
    NoInterface(IpAddr),
    /// There is no interface of that name.
    UnknownInterface(String),
    /// It has no Ethernet address: the text names it.
    NoEthernet(String),
    /// Another guard holds the lock for too long.
    Locked(PathBuf),
    /// A system call failed: what and why.
    System(String),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Held { epoch } => write!(f, "held in epoch {}.{}", epoch.counter, epoch.node.0),
            Self::Quiet => f.write_str("held, and nobody answers for them"),
            Self::Dropped { cause } => write!(f, "given up: {cause}"),
            Self::ProbeAnswered { ip, mac } => write!(f, "{mac} answers for {ip}"),
            Self::ProbeEnded => f.write_str("nobody answers for them any more"),
            Self::CarrierLost { interface } => write!(f, "{interface} has no link; check the cable"),
            Self::CarrierBack { interface } => write!(f, "{interface} has its link again"),
            Self::AddressDeleted { ip } => write!(f, "somebody deleted {ip}; it was put back"),
            Self::Stranger { ip, mac } => write!(f, "another host, {mac}, claims {ip}"),
            Self::Failed { reason } | Self::Hindered { reason } => f.write_str(reason),
            Self::GuardDied => f.write_str("their guard has ended or hangs; unless it works again, restart the node"),
            Self::GuardBack => f.write_str("their guard works again"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Wished => "as wished",
            Self::Silent => "the process gave no sign of work in time",
            Self::Paused => "the guard stood still for too long",
            Self::Deleted => "somebody deleted them again and again",
            Self::NotQuiet => "they could not be made quiet",
        })
    }
}
