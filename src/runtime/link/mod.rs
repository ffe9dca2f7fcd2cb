//! The link to each peer: two authenticated streams, urgent and bulk, which stand or fall together.
//!
//! The node with the higher id connects; the other accepts, and while the link is down it tries the peer's port too,
//! because a refused connection tells that the peer's process is gone. Opening runs on service threads. A standing link
//! is read by the receiver ([`Reader`]) and written by whoever has something to send ([`Links`]).

pub mod stats;
pub mod carrier;
pub mod encryption;
pub mod outgoing;
pub mod shared;
pub mod pipe;
pub mod opening;
pub mod door;
pub mod dial;
pub mod links;
pub mod reader;

#[cfg(test)]
mod tests;

pub use encryption::Encryption;
pub use links::Links;
pub use reader::Reader;
pub use shared::{BindError, Config, DownCause, Greeting, Member, Peers};
pub use stats::{Ended, LinkStats, Turned};
