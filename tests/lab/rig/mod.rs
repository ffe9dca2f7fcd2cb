//! What the lab is built from: addresses, processes, SIPp, Kamailio, sockets, and a reader of messages that shares
//! nothing with the one under test.

pub mod call;
pub mod http;
pub mod kamailio;
pub mod lan;
pub mod mcp;
pub mod message;
pub mod netns;
pub mod node;
pub mod poll;
pub mod process;
pub mod sipp;
pub mod tcp;
pub mod traffic;
pub mod udp;
pub mod world;
