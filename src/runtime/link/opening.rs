//! The opening of a stream over TCP, both sides.
#![forbid(unsafe_code)]

use std::io;
use std::sync::Arc;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time;

use crate::base::NodeId;
use crate::replica::Stream;
use crate::replica::handshake::{self, NONCE, Opened, PREFIX, Refusal};
use crate::runtime::link::carrier::{Carrier, tune};
use crate::runtime::link::shared::{Greeting, Half, Shared};

/// A stream is open within this time, or closed.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// Why a stream was not opened.
#[derive(Debug)]
pub enum NotOpened {
    /// One side refused.
    Refused(Refusal),
    /// It took too long.
    Slow,
    /// The other side left, or the stream failed.
    Gone,
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

/// A stream that is open.
pub struct Open {
    /// Whose.
    pub peer: NodeId,
    /// Which of its two.
    pub stream: Stream,
    /// What the peer said of itself.
    pub greeting: Greeting,
    /// The stream.
    pub half: Half,
}

/// Opens a stream on a connection that this node made to `peer`.
pub async fn ask(shared: &Shared, peer: NodeId, stream: Stream, mut tcp: TcpStream) -> Result<Open, NotOpened> {
    let config = &shared.config;
    let opening = async {
        let mut challenge = [0; NONCE];
        tcp.read_exact(&mut challenge).await?;
        let nonce = shared.nonce();
        let (hello, asked) = handshake::hello(&config.keys, &config.local, peer, stream, challenge, nonce);
        tcp.write_all(&hello).await?;
        let answer = read(&mut tcp).await?;
        Ok(asked.opened(&config.keys, &config.local, &answer)?)
    };
    let opened = time::timeout(DEADLINE, opening).await.unwrap_or(Err(NotOpened::Slow))?;
    finish(opened, tcp)
}

/// Opens a stream on a connection that was accepted. A stranger is told nothing, and closed as soon as it says
/// something else than a hello of this cluster.
pub async fn admit(shared: &Shared, mut tcp: TcpStream) -> Result<Open, NotOpened> {
    let config = &shared.config;
    let opening = async {
        let challenge = shared.nonce();
        tcp.write_all(&challenge).await?;
        let hello = read(&mut tcp).await?;
        let nonce = shared.nonce();
        let (answer, opened) = handshake::answer(&config.keys, &config.local, challenge, &hello, nonce);
        if let Some(answer) = answer {
            tcp.write_all(&answer).await?;
        }
        Ok(opened?)
    };
    let opened = time::timeout(DEADLINE, opening).await.unwrap_or(Err(NotOpened::Slow))?;
    finish(opened, tcp)
}

/// One message of an opening. Its length is bounded before memory is reserved.
async fn read(tcp: &mut TcpStream) -> Result<Vec<u8>, NotOpened> {
    let mut prefix = [0; PREFIX];
    tcp.read_exact(&mut prefix).await?;
    let mut message = vec![0; handshake::length(prefix)?];
    message[..PREFIX].copy_from_slice(&prefix);
    tcp.read_exact(&mut message[PREFIX..]).await?;
    Ok(message)
}

fn finish(opened: Opened, tcp: TcpStream) -> Result<Open, NotOpened> {
    let Opened { peer, incarnation, stream, version, capabilities, config, sealer, decoder } = opened;
    tune(&SockRef::from(&tcp), stream)?;
    // It stays non-blocking.
    let carrier: Arc<dyn Carrier> = Arc::new(tcp.into_std()?);
    let greeting = Greeting { incarnation, version, capabilities, config };
    Ok(Open { peer, stream, greeting, half: Half { carrier, decoder, sealer } })
}
