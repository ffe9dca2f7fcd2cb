//! Sans-IO SIP agents: a [`caller`] that plays scripts of calls and a [`media_server`] that answers them, soundly or
//! not. The demo drives them over real sockets, the simulator over a virtual network.
//!
//! Both work like the core: `handle(now, bytes, flow, out)`, `handle_timeout(now, out)`, `next_timeout()`; after each
//! call the driver sends what [`Out`](crate::out::Out) holds. They share nothing with `transaction` and `proxy`, so they
//! are a second opinion on RFC 3261, not an echo of the first. What they see the node do wrong they keep as text:
//! `violations()`.
#![forbid(unsafe_code)]

pub mod chance;
pub mod wire;
pub mod dialog;
pub mod heard;
mod endpoint;
pub mod script;
pub mod hold;
mod refer;
mod outgoing;
pub mod caller;
mod asking;
mod incoming;
pub mod media_server;
