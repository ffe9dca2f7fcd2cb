//! One TLS connection without its socket.

use std::io::{self, Read, Write};

use bytes::BytesMut;
use rustls::pki_types::CertificateDer;
use rustls::{AlertDescription, CertificateError, Connection, Error};

use super::name::Name;
use super::outcome::{Broken, Handshake, Taken};
use super::records::Records;
use super::verify::proves;

/// Octets of application data moved at once.
const CHUNK: usize = 4 * 1024;

/// A TLS connection: octets of the socket on one side, octets of the application on the other.
#[derive(Debug)]
pub struct Session {
    tls: Connection,
    records: Records,
}

impl Session {
    pub(super) fn new(mut tls: Connection) -> Self {
        // Who owns the socket hands in one message at a time; that is the limit.
        tls.set_buffer_limit(None);
        Self { tls, records: Records::default() }
    }

    /// Whether application data may be written.
    pub fn is_open(&self) -> bool {
        !self.tls.is_handshaking()
    }

    /// Whether [`Session::write`] has something to write.
    pub fn wants_write(&self) -> bool {
        self.tls.wants_write()
    }

    /// Whether a record has begun to come in and is not complete.
    pub fn inside_record(&self) -> bool {
        self.records.inside()
    }

    /// Takes octets off the socket; application data is appended to `plain`.
    ///
    /// # Errors
    ///
    /// The session is broken; an alert for the other side may wait to be written.
    pub fn take(&mut self, mut octets: &[u8], plain: &mut BytesMut) -> Result<Taken, Broken> {
        let before = self.is_open();
        self.records.feed(octets);
        let mut taken = Taken::default();
        while !octets.is_empty() && !taken.closed {
            if self.tls.read_tls(&mut octets).is_err() {
                return Err(Broken {
                    outcome: Handshake::Garbage,
                    why: String::from("it sends more than can be held"),
                });
            }
            let state = self.tls.process_new_packets().map_err(|e| broken(&e))?;
            taken.closed = state.peer_has_closed();
            self.drain(state.plaintext_bytes_to_read(), plain);
        }
        taken.opened = !before && self.is_open();
        Ok(taken)
    }

    /// Encrypts application data; [`Session::write`] sends it. The handshake must be complete.
    pub fn put(&mut self, plain: &[u8]) {
        debug_assert!(self.is_open());
        // Into memory, without a limit: it takes all.
        let _ = self.tls.writer().write_all(plain);
    }

    /// Writes what waits for the socket, as far as it goes.
    ///
    /// # Errors
    ///
    /// Those of `socket`.
    pub fn write(&mut self, socket: &mut dyn Write) -> io::Result<()> {
        while self.tls.wants_write() {
            self.tls.write_tls(socket)?;
        }
        Ok(())
    }

    /// Tells the other side that nothing more comes; [`Session::write`] sends it.
    pub fn close(&mut self) {
        self.tls.send_close_notify();
    }

    /// Whether the other side has shown a certificate, which then is a good one.
    pub fn is_authenticated(&self) -> bool {
        self.is_open() && self.certificate().is_some()
    }

    /// Whether the other side has proved one of these names.
    pub fn proves(&self, names: &[Name]) -> bool {
        self.is_open() && self.certificate().is_some_and(|own| names.iter().any(|name| proves(own, name)))
    }

    fn certificate(&self) -> Option<&CertificateDer<'static>> {
        self.tls.peer_certificates()?.first()
    }

    fn drain(&mut self, mut left: usize, plain: &mut BytesMut) {
        let mut chunk = [0; CHUNK];
        while left > 0 {
            // What rustls says is there can be read.
            let Ok(n) = self.tls.reader().read(&mut chunk) else { return };
            plain.extend_from_slice(&chunk[..n]);
            left = if n == 0 { 0 } else { left.saturating_sub(n) };
        }
    }
}

fn broken(error: &Error) -> Broken {
    let outcome = match error {
        Error::PeerIncompatible(_) => Handshake::Incompatible,
        Error::NoCertificatesPresented => Handshake::NoCertificate,
        Error::InvalidCertificate(CertificateError::NotValidForName) => Handshake::WrongName,
        Error::InvalidCertificate(_) => Handshake::BadCertificate,
        Error::AlertReceived(AlertDescription::ProtocolVersion | AlertDescription::HandshakeFailure) => {
            Handshake::Incompatible
        }
        Error::AlertReceived(_) => Handshake::Refused,
        _ => Handshake::Garbage,
    };
    Broken { outcome, why: error.to_string() }
}
