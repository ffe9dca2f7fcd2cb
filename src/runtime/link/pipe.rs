//! A connection on its way to become a stream of the link: TLS around it, or not.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::replica::Stream;
use crate::replica::handshake::Refusal;
use crate::runtime::link::carrier::{Carrier, tune};
use crate::runtime::link::encryption::{CHUNK, Encrypted, Encryption};
use crate::runtime::tls::{Broken, Session};

/// Why a stream was not opened.
#[derive(Debug)]
pub enum NotOpened {
    /// One side refused.
    Refused(Refusal),
    /// It took too long.
    Slow,
    /// The other side left, or the stream failed.
    Gone,
    /// There is no TLS with it.
    Broken(Broken),
}

impl From<Broken> for NotOpened {
    fn from(broken: Broken) -> Self {
        NotOpened::Broken(broken)
    }
}

impl From<io::Error> for NotOpened {
    fn from(_: io::Error) -> Self {
        NotOpened::Gone
    }
}

impl From<Refusal> for NotOpened {
    fn from(refusal: Refusal) -> Self {
        NotOpened::Refused(refusal)
    }
}

/// Octets in both directions.
pub struct Pipe {
    tcp: TcpStream,
    tls: Option<Session>,
    /// Octets that came out of TLS and were not asked for yet.
    plain: BytesMut,
}

impl Pipe {
    /// The side that connected.
    pub async fn open(tcp: TcpStream, encryption: Option<&Encryption>) -> Result<Self, NotOpened> {
        let session = encryption.map(Encryption::ask).transpose()?;
        Self::begin(tcp, session).await
    }

    /// The side that accepted.
    pub async fn accept(tcp: TcpStream, encryption: Option<&Encryption>) -> Result<Self, NotOpened> {
        let session = encryption.map(Encryption::answer).transpose()?;
        Self::begin(tcp, session).await
    }

    async fn begin(tcp: TcpStream, tls: Option<Session>) -> Result<Self, NotOpened> {
        let mut pipe = Self { tcp, tls, plain: BytesMut::new() };
        while pipe.tls.as_ref().is_some_and(|tls| !tls.is_open()) {
            pipe.push().await?;
            if let Err(why) = pipe.pull().await {
                // An alert tells the other side what is wrong; it may be gone already.
                let _ = pipe.push().await;
                return Err(why);
            }
        }
        pipe.push().await?;
        Ok(pipe)
    }

    /// Fills `to`.
    pub async fn read_exact(&mut self, to: &mut [u8]) -> Result<(), NotOpened> {
        if self.tls.is_none() {
            self.tcp.read_exact(to).await?;
            return Ok(());
        }
        while self.plain.len() < to.len() {
            self.pull().await?;
        }
        self.plain.copy_to_slice(to);
        Ok(())
    }

    /// Sends all of `octets`.
    pub async fn write_all(&mut self, octets: &[u8]) -> Result<(), NotOpened> {
        match &mut self.tls {
            None => self.tcp.write_all(octets).await?,
            Some(tls) => {
                tls.put(octets);
                self.push().await?;
            }
        }
        Ok(())
    }

    /// What the link goes on with.
    pub fn into_carrier(self, stream: Stream) -> io::Result<Arc<dyn Carrier>> {
        tune(&SockRef::from(&self.tcp), stream)?;
        // It stays non-blocking.
        let tcp = self.tcp.into_std()?;
        Ok(match self.tls {
            None => Arc::new(tcp),
            Some(tls) => Arc::new(Encrypted::new(tcp, tls, self.plain)),
        })
    }

    /// Takes what has come into TLS.
    async fn pull(&mut self) -> Result<(), NotOpened> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let mut chunk = [0; CHUNK];
        match self.tcp.read(&mut chunk).await? {
            0 => Err(NotOpened::Gone),
            n if tls.take(&chunk[..n], &mut self.plain)?.closed => Err(NotOpened::Gone),
            _ => Ok(()),
        }
    }

    /// Sends what TLS has to say.
    async fn push(&mut self) -> Result<(), NotOpened> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        let mut octets = Vec::new();
        tls.write(&mut octets)?;
        self.tcp.write_all(&octets).await?;
        Ok(())
    }
}
