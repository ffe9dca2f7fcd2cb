//! Who serves: roles and epochs, beats, proof and suspicion of death, planned hand-over. Knows no SIP and no sockets.
//!
//! [`Cluster`] is a value: observations and time go in, [`Effect`]s come out. Two nodes cannot tell a partition from a
//! death; so a claim on silence waits until nothing of the silent node can still hold the address, and two that were
//! active at one time find out by their epochs who goes on.
#![forbid(unsafe_code)]

mod timing;
mod config;
mod beat;
mod message;
mod cause;
mod reason;
mod news;
mod notice;
mod lease;
mod io;
mod detector;
mod hold;
mod guest;
mod stats;
mod state;
mod partition;
mod witness;
mod tell;
mod mode;
mod handover;
mod beside;
mod role;
mod meeting;
mod machine;
mod keeper;
mod status;
#[cfg(test)]
mod tests;

pub use beat::{Beat, Flags, LEN as BEAT_LEN, NoBeat, State};
pub use cause::Cause;
pub use config::{Config, ConfigError, HaMode, Mode, Partition, PeerConfig};
pub use detector::Health;
pub use io::{Answer, Budget, Command, Effect, Fitness, Input, Link, Loss, Progress, Role, Wish};
pub use keeper::{Keeper, LEASE, Reply, Unanswered};
pub use lease::{Ask, Lease, Note, WitnessStatus, Word};
pub use message::{Message, ModeStep, NoMessage, Refusal};
pub use news::WitnessNews;
pub use notice::{Level, Notice};
pub use reason::{Death, Reason};
pub use state::Cluster;
pub use stats::Stats;
pub use status::{PathStatus, PeerStatus, Status, Step, WhyNot};
pub use timing::{Timing, TimingError};
