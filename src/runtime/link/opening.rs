//! The opening of a stream over TCP, both sides.
#![forbid(unsafe_code)]

use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time;

use crate::base::NodeId;
use crate::replica::Stream;
use crate::replica::handshake::{self, NONCE, Opened, PREFIX};
pub use crate::runtime::link::pipe::NotOpened;
use crate::runtime::link::pipe::Pipe;
use crate::runtime::link::shared::{Greeting, Half, Shared};

/// A stream is open within this time, or closed.
pub const DEADLINE: Duration = Duration::from_secs(3);

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
pub async fn ask(shared: &Shared, peer: NodeId, stream: Stream, tcp: TcpStream) -> Result<Open, NotOpened> {
    let config = &shared.config;
    let opening = async {
        let mut pipe = Pipe::open(tcp, config.encryption.as_deref()).await?;
        let mut challenge = [0; NONCE];
        pipe.read_exact(&mut challenge).await?;
        let nonce = shared.nonce();
        let (hello, asked) = handshake::hello(&config.keys, &config.local, peer, stream, challenge, nonce);
        pipe.write_all(&hello).await?;
        let answer = read(&mut pipe).await?;
        Ok((asked.opened(&config.keys, &config.local, &answer)?, pipe))
    };
    let (opened, pipe) = time::timeout(DEADLINE, opening).await.unwrap_or(Err(NotOpened::Slow))?;
    finish(opened, pipe)
}

/// Opens a stream on a connection that was accepted. A stranger is told nothing, and closed as soon as it says
/// something else than a hello of this cluster.
pub async fn admit(shared: &Shared, tcp: TcpStream) -> Result<Open, NotOpened> {
    let config = &shared.config;
    let opening = async {
        let mut pipe = Pipe::accept(tcp, config.encryption.as_deref()).await?;
        let challenge = shared.nonce();
        pipe.write_all(&challenge).await?;
        let hello = read(&mut pipe).await?;
        let nonce = shared.nonce();
        let (answer, opened) = handshake::answer(&config.keys, &config.local, challenge, &hello, nonce);
        if let Some(answer) = answer {
            pipe.write_all(&answer).await?;
        }
        Ok((opened?, pipe))
    };
    let (opened, pipe) = time::timeout(DEADLINE, opening).await.unwrap_or(Err(NotOpened::Slow))?;
    finish(opened, pipe)
}

/// One message of an opening. Its length is bounded before memory is reserved.
async fn read(pipe: &mut Pipe) -> Result<Vec<u8>, NotOpened> {
    let mut prefix = [0; PREFIX];
    pipe.read_exact(&mut prefix).await?;
    let mut message = vec![0; handshake::length(prefix)?];
    message[..PREFIX].copy_from_slice(&prefix);
    pipe.read_exact(&mut message[PREFIX..]).await?;
    Ok(message)
}

fn finish(opened: Opened, pipe: Pipe) -> Result<Open, NotOpened> {
    let Opened { peer, incarnation, stream, version, capabilities, config, sealer, decoder } = opened;
    let carrier = pipe.into_carrier(stream)?;
    let greeting = Greeting { incarnation, version, capabilities, config };
    Ok(Open { peer, stream, greeting, half: Half { carrier, decoder, sealer } })
}
