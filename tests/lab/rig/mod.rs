//! What the lab is built from: addresses, processes, SIPp, Kamailio, sockets, and a reader of messages that shares
//! nothing with the one under test.

pub mod poll;
pub mod process;
pub mod sipp;
pub mod world;
