//! What lies between SIP and the octets of a stream: nothing, or TLS.
#![forbid(unsafe_code)]

use std::io::{self, Write};

use bytes::BytesMut;
use tokio::net::TcpStream;

use crate::runtime::tls::{Broken, Name, Session, Taken};

/// How octets of messages become octets of the stream.
#[derive(Debug, Default)]
pub enum Wire {
    /// Nothing passes yet: there is no stream, or the task of the connection has the session in hand.
    #[default]
    Opening,
    /// As they are.
    Plain,
    /// Inside TLS.
    Tls(Box<Session>),
}

impl Wire {
    /// Whether messages may pass.
    pub fn is_open(&self) -> bool {
        match self {
            Wire::Opening => false,
            Wire::Plain => true,
            Wire::Tls(session) => session.is_open(),
        }
    }

    /// Whether it has octets of its own to write.
    pub fn wants_write(&self) -> bool {
        match self {
            Wire::Opening | Wire::Plain => false,
            Wire::Tls(session) => session.wants_write(),
        }
    }

    /// Whether octets have come in that say nothing without those that follow.
    pub fn inside_record(&self) -> bool {
        match self {
            Wire::Opening | Wire::Plain => false,
            Wire::Tls(session) => session.inside_record(),
        }
    }

    /// Whether the other side has proved who it is.
    pub fn is_authenticated(&self) -> bool {
        match self {
            Wire::Opening | Wire::Plain => false,
            Wire::Tls(session) => session.is_authenticated(),
        }
    }

    /// Whether the other side has proved one of these names.
    pub fn proves(&self, names: &[Name]) -> bool {
        match self {
            Wire::Opening | Wire::Plain => false,
            Wire::Tls(session) => session.proves(names),
        }
    }

    /// Takes octets of the stream; those of messages are appended to `into`.
    ///
    /// # Errors
    ///
    /// TLS is broken.
    pub fn take(&mut self, octets: &[u8], into: &mut BytesMut) -> Result<Taken, Broken> {
        match self {
            Wire::Opening | Wire::Plain => {
                into.extend_from_slice(octets);
                Ok(Taken::default())
            }
            Wire::Tls(session) => session.take(octets, into),
        }
    }

    /// Writes what the stream takes of `message`, from the `written` octets on that were taken before; whether all of it
    /// has left. A message that has begun is gone on with before another one.
    ///
    /// # Errors
    ///
    /// Those of the stream, except that it takes nothing now.
    pub fn write(&mut self, stream: &TcpStream, message: &[u8], written: &mut usize) -> io::Result<bool> {
        match self {
            Wire::Opening => Ok(false),
            Wire::Plain => {
                while *written < message.len() {
                    match stream.try_write(&message[*written..]) {
                        Ok(n) => *written += n,
                        Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                        Err(e) => return Err(e),
                    }
                }
                Ok(true)
            }
            Wire::Tls(session) => {
                if *written < message.len() {
                    session.put(message);
                    *written = message.len();
                }
                session_write(session, stream)
            }
        }
    }

    /// Writes octets of its own; whether all have left.
    ///
    /// # Errors
    ///
    /// As [`Wire::write`].
    pub fn flush(&mut self, stream: &TcpStream) -> io::Result<bool> {
        match self {
            Wire::Opening | Wire::Plain => Ok(true),
            Wire::Tls(session) => session_write(session, stream),
        }
    }

    /// Says that nothing more comes; [`Wire::flush`] sends it.
    pub fn close(&mut self) {
        if let Wire::Tls(session) = self {
            session.close();
        }
    }
}

fn session_write(session: &mut Session, stream: &TcpStream) -> io::Result<bool> {
    match session.write(&mut TryWrite(stream)) {
        Ok(()) => Ok(true),
        Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(e) => Err(e),
    }
}

struct TryWrite<'a>(&'a TcpStream);

impl Write for TryWrite<'_> {
    fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
        self.0.try_write(octets)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
