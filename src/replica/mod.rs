//! What one node tells its peers so that they can carry on: frames, records, lanes. Knows no SIP.
#![forbid(unsafe_code)]

pub mod kind;
pub mod record;
pub mod body;
pub mod lane;
pub mod digest;
pub mod relay;
pub mod callers;
pub mod settings;
pub mod doubts;
pub mod marks;
pub mod ports;
pub mod hosts;
pub mod borrow;
pub mod sight;
pub mod sync_frame;
pub mod sync;
pub mod frame;
pub mod handshake;
pub mod envelope;

pub use kind::{Kind, Stream};
