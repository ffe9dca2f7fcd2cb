//! All side effects: sockets, clock, threads, files, HTTP, metrics export.

pub mod datagram;
pub mod sys;
pub mod cells;
pub mod stats;
pub mod state;
pub mod socket;
pub mod route;
pub mod metrics;
pub mod log;
pub mod admin;
pub mod service;
