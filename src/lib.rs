//! Tandem: a SIP-aware Resource Manager proxy that stands between a SIP Server and a farm of media servers.
//!
//! The `mod` lines below are the architecture. A module may use only what is declared above it; `tests/house` enforces
//! that. Everything down to `agent` is the core: it reads no clock, opens no socket, spawns no task and knows no lock.
//! Time comes in as an argument, inputs are lent in, outputs are drained from [`out::Out`]. The same seed and the same
//! inputs give the same run. All side effects live in `runtime`.

pub mod base;
pub mod token;
pub mod identity;
pub mod sip;
pub mod balance;
pub mod session;
pub mod transaction;
pub mod replica;
pub mod cluster;
pub mod out;
pub mod proxy;
pub mod node;
pub mod agent;

#[cfg(feature = "runtime")]
pub mod config;
#[cfg(feature = "runtime")]
pub mod report;
#[cfg(feature = "runtime")]
pub mod runtime;
#[cfg(feature = "runtime")]
pub mod cli;
