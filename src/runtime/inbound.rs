//! What came in on one stream and is no whole message yet.
#![forbid(unsafe_code)]

use bytes::{Buf, BytesMut};

use crate::base::Time;
use crate::runtime::sys;
use crate::sip::Framer;

/// The way into a connection.
#[derive(Default)]
pub struct Inbound {
    /// Finds the ends of messages.
    pub framer: Framer,
    /// Octets that are not handled yet.
    pub buffer: BytesMut,
    /// Since when the message at the front is incomplete.
    pub begun: Option<Time>,
    /// Whether more of it has come, inside of a TLS record that is incomplete.
    pub inside: bool,
    /// How many more messages are looked at for an offer.
    pub offers: u8,
    /// Whether the buffer has octets that were not looked at.
    pub waits: bool,
    /// Whether no more will come.
    pub closed: bool,
}

impl Inbound {
    /// Forgets octets that are handled.
    pub fn drop_front(&mut self, octets: usize) {
        self.buffer.advance(octets);
        if self.buffer.is_empty() {
            // An idle connection holds no memory.
            self.buffer = BytesMut::new();
        }
        if self.buffer.is_empty() && !self.inside {
            self.begun = None;
        } else if octets > 0 || self.begun.is_none() {
            self.begun = Some(sys::now());
        }
    }
}
