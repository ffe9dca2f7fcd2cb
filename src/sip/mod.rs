//! Bytes to meaning and back (RFC 3261 §7, §25). No clock, no state, no allocation while parsing.
#![forbid(unsafe_code)]

pub mod scan;
pub mod header;
pub mod uri;
pub mod name_addr;
pub mod via;
pub mod message;
pub mod framing;
pub mod edit;
pub mod reply;

pub use scan::Malformed;
