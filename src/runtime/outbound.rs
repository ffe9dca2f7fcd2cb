//! What waits to be written to one stream: whole messages in order, bounded.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::Bytes;
use tokio::net::TcpStream;

use crate::base::limits;
use crate::runtime::stats::Closed;
use crate::runtime::wire::Wire;

/// The way out of a connection.
#[derive(Default)]
pub struct Outbound {
    /// The stream, while there is one.
    pub stream: Option<Arc<TcpStream>>,
    /// How messages become its octets.
    pub wire: Wire,
    /// Why no more may be queued.
    pub end: Option<Closed>,
    /// The first message may be written in part.
    queue: VecDeque<Bytes>,
    /// Octets of the first message that are written, or encrypted to be written next.
    written: usize,
    /// Octets in the queue.
    octets: usize,
}

/// What became of a message that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sent {
    /// All of it has left.
    Whole,
    /// Some of it has left, the rest waits.
    Part,
    /// It waits.
    Queued,
}

impl Outbound {
    /// Writes a message, or queues what the stream does not take at once. One that is not taken ends the connection: a
    /// queue that would outgrow [`limits::OUTBOUND`] has a reader that does not read.
    ///
    /// # Errors
    ///
    /// It was not taken.
    pub fn send(&mut self, message: &[u8]) -> Result<Sent, Closed> {
        if let Some(end) = self.end {
            return Err(end);
        }
        if self.octets + message.len() > limits::OUTBOUND {
            return Err(*self.end.insert(Closed::Full));
        }
        let mut written = 0;
        // Written here and now, the usual message costs no wake-up of the connection's task.
        if let Some(stream) = &self.stream
            && self.queue.is_empty()
            && self.wire.is_open()
        {
            match self.wire.write(stream, message, &mut written) {
                Ok(true) => return Ok(Sent::Whole),
                Ok(false) => {}
                Err(_) => return Err(*self.end.insert(Closed::Error)),
            }
        }
        if self.queue.is_empty() {
            self.written = written;
        }
        self.octets += message.len();
        self.queue.push_back(Bytes::copy_from_slice(message));
        Ok(if written > 0 { Sent::Part } else { Sent::Queued })
    }

    /// Writes what the stream takes of what waits; whether any of it has left.
    ///
    /// # Errors
    ///
    /// Those of the stream.
    pub fn write(&mut self, stream: &TcpStream) -> io::Result<bool> {
        let mut moved = false;
        while self.wire.is_open()
            && let Some(first) = self.queue.front()
        {
            let before = self.written;
            let whole = self.wire.write(stream, first, &mut self.written)?;
            moved |= whole || self.written > before;
            if !whole {
                return Ok(moved);
            }
            self.octets -= first.len();
            self.written = 0;
            self.queue.pop_front();
        }
        self.wire.flush(stream)?;
        Ok(moved)
    }

    /// Whether there is something to write and it may be written.
    pub fn pending(&self) -> bool {
        self.wire.wants_write() || (!self.queue.is_empty() && self.wire.is_open())
    }

    /// Whether no message waits.
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// Takes every message that has not left.
    pub fn take(&mut self) -> VecDeque<Bytes> {
        self.octets = 0;
        std::mem::take(&mut self.queue)
    }
}
