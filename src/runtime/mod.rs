//! All side effects: sockets, clock, threads, files, HTTP, metrics export. [`prepare`] and [`start`] turn settings
//! into a node that carries calls.

pub mod datagram;
pub mod tls;
pub mod sys;
pub mod waker;
pub mod fault;
pub mod vip;
pub mod cells;
pub mod stats;
pub mod snmp;
pub mod state;
pub mod socket;
pub mod route;
pub mod servers;
pub mod inlet;
pub mod link;
pub mod beat;
pub mod sources;
pub mod wire;
pub mod secure;
pub mod outbound;
pub mod inbound;
pub mod ended;
pub mod connection;
pub mod dial;
pub mod handshakes;
pub mod proxy_protocol;
pub mod reuse;
pub mod stream_table;
pub mod tcp;
pub mod resolve;
pub mod driver;
pub mod lane;
pub mod worker;
pub mod reach;
pub mod witness;
pub mod pair;
pub mod start_error;
pub mod reload_error;
pub mod pairing;
mod around;
mod start;
pub mod running;
pub mod metrics;
pub mod log;
pub mod questions;
pub mod visitors;
pub mod admin;
pub mod machine;
pub mod service;

#[cfg(test)]
mod tests;

pub use pairing::{Groundwork, prepare};
pub use reload_error::ReloadError;
pub use running::{Options, Running, start, start_here};
pub use start_error::StartError;
pub use stats::IoStats;
