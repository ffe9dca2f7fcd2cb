//! Bytes to meaning and back (RFC 3261 §7, §25). No clock, no state, no allocation while parsing.
//!
//! [`Index::parse`] goes once over a message and refuses it with a [`Malformed`] or vouches for everything that a proxy
//! relies on; [`Message`] then reads it without copying. [`Edits`] change a message on its way out, [`Reply`] and
//! [`refuse`] answer it, [`Framer`] cuts messages out of a stream.
#![forbid(unsafe_code)]

pub mod scan;
mod list;
mod line;
pub mod uri;
pub mod name_addr;
pub mod via;
pub mod start;
pub mod header;
mod usual;
mod parse;
mod salvage;
pub mod message;
pub mod framing;
pub mod edit;
pub mod reply;

pub use edit::{Edits, Text};
pub use framing::{Frame, Framer, FramingError, Noise, noise};
pub use header::{Index, Name};
pub use message::{CSeq, Header, Message};
pub use name_addr::NameAddr;
pub use reply::{Reply, reason_phrase, refuse, stamp_source};
pub use scan::{Malformed, Span};
pub use start::{Method, Start};
pub use uri::{Host, Scheme, Uri, parse_host};
pub use via::{MAGIC_COOKIE, Via};
