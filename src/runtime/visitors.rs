//! Who may be inside a listener that anybody can reach, and for how long.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::Sleep;

/// Lets in a bounded number of connections, each for a bounded time. When all places are taken the oldest visitor has
/// to go: a crowd that hangs must not keep out whoever asks whether the process lives.
pub struct Door {
    listener: TcpListener,
    places: usize,
    visit: Duration,
    cut: Arc<Cut>,
    /// Those inside, oldest first.
    inside: VecDeque<oneshot::Sender<()>>,
}

/// Called for each visitor that is shown out.
pub type Cut = dyn Fn() + Send + Sync;

impl Door {
    /// Nobody is inside. So many places, each for a visit of at most `visit`; `cut` counts who is shown out.
    pub fn new(listener: TcpListener, places: usize, visit: Duration, cut: Arc<Cut>) -> Self {
        Self { listener, places, visit, cut, inside: VecDeque::new() }
    }

    fn let_in(&mut self, stream: TcpStream) -> Visit {
        self.inside.retain(|visitor| !visitor.is_closed());
        while self.inside.len() >= self.places.max(1) {
            let _already_gone = self.inside.pop_front().map(|oldest| oldest.send(()));
        }
        let (out, shown_out) = oneshot::channel();
        self.inside.push_back(out);
        let deadline = Box::pin(tokio::time::sleep(self.visit));
        Visit { stream, deadline, shown_out: Some(shown_out), told: Arc::clone(&self.cut), cut: false }
    }
}

impl axum::serve::Listener for Door {
    type Io = Visit;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Visit, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok((stream, peer)) => return (self.let_in(stream), peer),
                // Out of descriptors, most likely: they are somebody else's until calls end.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// One connection. Reading and writing fail once its time is up or its place is needed.
pub struct Visit {
    stream: TcpStream,
    deadline: Pin<Box<Sleep>>,
    shown_out: Option<oneshot::Receiver<()>>,
    told: Arc<Cut>,
    cut: bool,
}

impl Visit {
    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.cut {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let shown_out = self.shown_out.as_mut().map(|word| Pin::new(word).poll(cx));
        if let Some(Poll::Ready(Err(_))) = shown_out {
            // The door is gone and shows nobody out any more.
            self.shown_out = None;
        }
        let place_needed = matches!(shown_out, Some(Poll::Ready(Ok(()))));
        if place_needed || self.deadline.as_mut().poll(cx).is_ready() {
            self.cut = true;
            (self.told)();
            return Err(io::ErrorKind::TimedOut.into());
        }
        Ok(())
    }
}

impl AsyncRead for Visit {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Visit {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.in_time(cx)?;
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
