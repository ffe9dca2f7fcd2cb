//! The driver: what stands between the node and the sockets. Handles inputs from any thread and sends what comes of
//! them, after the node's locks are released.
#![forbid(unsafe_code)]

mod waiting;
mod machine;
mod send;

pub use machine::{Driver, Port, Turn};
