//! TLS of the peer link: both nodes show a certificate that the other one's `trusted-ca` has signed, for an address of
//! `cluster.member` or one of `peer-names`. The secret of the cluster counts all the same, inside.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, BorrowedFd};

use bytes::{Buf, BytesMut};
use parking_lot::{Mutex, RwLock};

use crate::runtime::link::carrier::Carrier;
use crate::runtime::tls::{Broken, ClientSide, Clients, Material, Name, ServerSide, Session};

/// Octets moved at once.
pub const CHUNK: usize = 16 * 1024;

/// Both sides of TLS between the nodes. Replaced in place: links that stand go on.
#[derive(Debug)]
pub struct Encryption {
    server: ServerSide,
    client: ClientSide,
    names: RwLock<Vec<Name>>,
}

impl Encryption {
    /// Shows what `material` holds; the other node must prove one of `names`.
    ///
    /// # Errors
    ///
    /// If the cryptography cannot do what is needed.
    pub fn new(material: &Material, names: Vec<Name>) -> Result<Self, Broken> {
        let server = ServerSide::new(material, &Clients::Known(names.clone()))?;
        Ok(Self { server, client: ClientSide::new(material), names: RwLock::new(names) })
    }

    /// New connections go by this from now on.
    ///
    /// # Errors
    ///
    /// As [`Encryption::new`]; then nothing has changed.
    pub fn replace(&self, material: &Material, names: Vec<Name>) -> Result<(), Broken> {
        self.server.replace(material, &Clients::Known(names.clone()))?;
        self.client.replace(material);
        *self.names.write() = names;
        Ok(())
    }

    /// A session for a connection that was accepted.
    pub(super) fn answer(&self) -> Result<Session, Broken> {
        self.server.session()
    }

    /// A session for a connection that this node made.
    pub(super) fn ask(&self) -> Result<Session, Broken> {
        self.client.session(self.names.read().clone())
    }
}

/// A stream inside TLS.
pub struct Encrypted {
    tcp: TcpStream,
    inside: Mutex<Inside>,
}

struct Inside {
    tls: Session,
    /// Octets that came out of TLS and were not read yet.
    plain: BytesMut,
    closed: bool,
}

impl Encrypted {
    /// An open session on its stream; `plain` has come out of it already.
    pub fn new(tcp: TcpStream, tls: Session, plain: BytesMut) -> Self {
        Self { tcp, inside: Mutex::new(Inside { tls, plain, closed: false }) }
    }
}

impl Inside {
    fn flush(&mut self, mut tcp: &TcpStream) -> io::Result<()> {
        self.tls.write(&mut tcp)
    }
}

impl Carrier for Encrypted {
    fn read(&self, to: &mut [u8]) -> io::Result<usize> {
        let mut inside = self.inside.lock();
        let Inside { tls, plain, closed } = &mut *inside;
        let mut chunk = [0; CHUNK];
        while plain.is_empty() && !*closed {
            let count = self.tcp.read(&mut chunk)?;
            if count == 0 {
                *closed = true;
                break;
            }
            let taken = tls.take(&chunk[..count], plain);
            *closed |= taken.map_err(|broken| io::Error::new(io::ErrorKind::InvalidData, broken.why))?.closed;
        }
        let count = plain.len().min(to.len());
        plain.copy_to_slice(&mut to[..count]);
        Ok(count)
    }

    /// Takes a chunk only when the last one has left, so that no more waits here than the kernel may refuse once.
    fn write(&self, octets: &[u8]) -> io::Result<usize> {
        let mut inside = self.inside.lock();
        inside.flush(&self.tcp)?;
        let count = octets.len().min(CHUNK);
        inside.tls.put(&octets[..count]);
        match inside.flush(&self.tcp) {
            Err(e) if e.kind() != io::ErrorKind::WouldBlock => Err(e),
            _ => Ok(count),
        }
    }

    fn flush(&self) -> io::Result<()> {
        self.inside.lock().flush(&self.tcp)
    }

    fn holds(&self) -> bool {
        !self.inside.lock().plain.is_empty()
    }

    fn close(&self) {
        // It may be closed already.
        let _ = self.tcp.shutdown(Shutdown::Both);
    }

    fn fd(&self) -> BorrowedFd<'_> {
        self.tcp.as_fd()
    }
}
