//! One machine of the pair, one value: 64 shards (all that happens per call), one hub (nothing per call), one farm
//! (capacity), and the glue between them, written once.
#![forbid(unsafe_code)]

mod cells;
mod config;
mod input;
pub mod gate;
pub mod probe;
pub mod shard;
mod peer_link;
pub mod hub;
mod seen;
mod desk;
mod deadlines;
mod signs;
mod machine;
mod faults;
mod survey;
mod doubts;
mod beside;
mod sight;
mod peer;
mod pair;
mod standing;

pub use crate::proxy::{Commit, Config as ProxyConfig};
pub use cells::{Cell, Cells, Single};
pub use config::{Capacity, Config, Pair};
pub use gate::GateStats;
pub use input::{Command, Input, Received, Scratch};
pub use machine::Node;
pub use peer_link::PeerStats;
pub use seen::{Exposure, Gauges, LegView, Stats, TimerName};
