//! What the lab is built from: addresses, processes, SIPp, Kamailio, sockets, networks of namespaces, and a reader of
//! messages that shares nothing with the one under test.

pub mod actor;
pub mod both;
pub mod crossed;
pub mod busy;
pub mod call;
pub mod haproxy;
pub mod held;
pub mod http;
pub mod inbox;
pub mod kamailio;
pub mod keepalived;
pub mod lan;
pub mod segment;
pub mod load;
pub mod mcp;
pub mod message;
pub mod netns;
pub mod node;
pub mod pair;
pub mod phone;
pub mod poll;
pub mod process;
pub mod relay;
pub mod sipp;
pub mod stubs;
pub mod tcp;
#[cfg(feature = "tls")]
pub mod tls;
pub mod traffic;
pub mod udp;
pub mod view;
pub mod watch;
pub mod witness;
pub mod world;
