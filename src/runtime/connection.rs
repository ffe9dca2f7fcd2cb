//! One SIP stream: reading messages off it, a bounded queue of what waits to be written, deadlines.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time;

use crate::base::{ConnId, Flow, Time, limits};
use crate::node::{Input, Received};
use crate::runtime::inlet::Inlet;
use crate::runtime::stats::{Closed, IoStats};
use crate::runtime::sys;
use crate::sip::{Frame, Framer};

/// Octets read at once.
const CHUNK: usize = 8 * 1024;

/// How long the last octets of a stream that this side closes may take to leave.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// How long the other side's octets are still taken, so that its kernel does not lose our last ones to an RST.
const LINGER_DEADLINE: Duration = Duration::from_secs(1);

/// A stream connection, or one that is being opened.
pub struct Connection {
    /// Its id.
    pub id: ConnId,
    /// The flow of what comes in on it.
    pub flow: Flow,
    /// Whether the other side opened it.
    pub accepted: bool,
    outbound: Mutex<Outbound>,
    wake: Notify,
    /// When octets last passed, in microseconds of [`sys::now`].
    active: AtomicU64,
    /// Whether a sound message ever came in.
    heard: AtomicBool,
    /// Whether a message has begun to come in and is not complete.
    begun: AtomicBool,
}

#[derive(Default)]
struct Outbound {
    stream: Option<Arc<TcpStream>>,
    /// Whole messages; the first may be written in part.
    queue: VecDeque<Bytes>,
    /// Octets of the first message that are written.
    written: usize,
    /// Octets in the queue.
    octets: usize,
    /// Why no more may be queued.
    end: Option<Closed>,
}

/// A message was not taken: the connection is ending.
#[derive(Debug, PartialEq, Eq)]
pub struct NotTaken;

impl Connection {
    /// A connection without a stream yet; what is sent waits for it.
    pub fn new(id: ConnId, flow: Flow, accepted: bool) -> Arc<Self> {
        Arc::new(Self {
            id,
            flow: Flow { conn: Some(id), ..flow },
            accepted,
            outbound: Mutex::default(),
            wake: Notify::new(),
            active: AtomicU64::new(sys::now().as_micros()),
            heard: AtomicBool::new(false),
            begun: AtomicBool::new(false),
        })
    }

    /// Writes a message, or queues what the stream does not take at once. A queue that would outgrow
    /// [`limits::OUTBOUND`] ends the connection: its peer does not read.
    pub fn send(&self, message: &[u8]) -> Result<(), NotTaken> {
        let mut outbound = self.outbound.lock();
        if outbound.end.is_some() {
            return Err(NotTaken);
        }
        if outbound.octets + message.len() > limits::OUTBOUND {
            outbound.end = Some(Closed::Full);
            self.wake.notify_one();
            return Err(NotTaken);
        }
        // Written here and now, the usual message costs no wake-up of the connection's task.
        let written = match &outbound.stream {
            Some(stream) if outbound.queue.is_empty() => match stream.try_write(message) {
                Ok(n) => n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => 0,
                Err(_) => {
                    outbound.end = Some(Closed::Error);
                    self.wake.notify_one();
                    return Err(NotTaken);
                }
            },
            _ => 0,
        };
        if written > 0 {
            self.touch();
        }
        if written < message.len() {
            if outbound.queue.is_empty() {
                outbound.written = written;
            }
            outbound.octets += message.len();
            outbound.queue.push_back(Bytes::copy_from_slice(message));
            self.wake.notify_one();
        }
        Ok(())
    }

    /// Ends the connection, the first reason counts; queued octets leave first where the reason permits.
    pub fn end(&self, reason: Closed) {
        self.outbound.lock().end.get_or_insert(reason);
        self.wake.notify_one();
    }

    /// Whether it is not ending.
    pub fn takes(&self) -> bool {
        self.outbound.lock().end.is_none()
    }

    /// How willingly it makes room for a new one: strangers who never sent a message first, then by age of the last
    /// octet. `None`: it is in use.
    pub fn dispensable(&self) -> Option<(bool, Time)> {
        let heard = self.heard.load(Ordering::Relaxed);
        let busy = !self.accepted || self.begun.load(Ordering::Relaxed) || !self.outbound.lock().queue.is_empty();
        let active = Time::from_micros(self.active.load(Ordering::Relaxed));
        (self.accepted && (!heard || !busy)).then_some((heard, active))
    }

    /// Serves the stream until it ends.
    pub async fn run(&self, stream: TcpStream, inlet: &dyn Inlet, stats: &IoStats) -> Closed {
        let stream = Arc::new(stream);
        self.outbound.lock().stream = Some(Arc::clone(&stream));
        let reason = self.exchange(&stream, inlet, stats).await;
        let reason = *self.outbound.lock().end.get_or_insert(reason);
        // Counted before the peer can see the end, so that whoever saw it finds it counted.
        stats.closed(reason);
        if matches!(reason, Closed::Framing | Closed::Local | Closed::Peer) {
            // Failing here changes nothing: the connection goes either way.
            let _ = time::timeout(FLUSH_DEADLINE, self.flush(&stream)).await;
            let _ = SockRef::from(&*stream).shutdown(Shutdown::Write);
        }
        if matches!(reason, Closed::Framing | Closed::Local) {
            let _ = time::timeout(LINGER_DEADLINE, discard(&stream)).await;
        }
        self.outbound.lock().stream = None;
        reason
    }

    /// Takes every message that never left. The connection must have ended.
    pub fn unsent(&self) -> impl Iterator<Item = Bytes> + use<> {
        let mut outbound = self.outbound.lock();
        outbound.end.get_or_insert(Closed::Local);
        outbound.octets = 0;
        std::mem::take(&mut outbound.queue).into_iter()
    }

    async fn exchange(&self, stream: &TcpStream, inlet: &dyn Inlet, stats: &IoStats) -> Closed {
        let mut inbound = Inbound::default();
        loop {
            let (pending, end) = {
                let outbound = self.outbound.lock();
                (!outbound.queue.is_empty(), outbound.end)
            };
            if let Some(reason) = end {
                return reason;
            }
            let now = sys::now();
            let deadline = match inbound.begun {
                Some(begun) => begun + limits::HEADER_DEADLINE,
                None => Time::from_micros(self.active.load(Ordering::Relaxed)) + limits::IDLE_DEADLINE,
            };
            if now >= deadline {
                return if inbound.begun.is_some() { Closed::Slow } else { Closed::Idle };
            }
            let outcome = tokio::select! {
                ready = stream.readable() => match ready {
                    Ok(()) => self.read(stream, &mut inbound, inlet, stats),
                    Err(_) => Err(Closed::Error),
                },
                ready = stream.writable(), if pending => match ready {
                    Ok(()) => self.write(stream).map_err(|_| Closed::Error),
                    Err(_) => Err(Closed::Error),
                },
                () = self.wake.notified() => Ok(()),
                () = time::sleep(deadline.since(now)) => Ok(()),
            };
            if let Err(reason) = outcome {
                return reason;
            }
        }
    }

    fn read(
        &self,
        stream: &TcpStream,
        inbound: &mut Inbound,
        inlet: &dyn Inlet,
        stats: &IoStats,
    ) -> Result<(), Closed> {
        // A begun message holds as much memory as has come of it, not a chunk: there may be ten thousand of them.
        let mut chunk = [0; CHUNK];
        match stream.try_read(&mut chunk) {
            Ok(0) => return Err(Closed::Peer),
            Ok(n) => {
                self.touch();
                inbound.buffer.extend_from_slice(&chunk[..n]);
            }
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Closed::Error),
        }
        let outcome = self.frames(inbound, inlet, stats);
        self.begun.store(inbound.begun.is_some(), Ordering::Relaxed);
        outcome
    }

    /// Handles every frame that is complete.
    fn frames(&self, inbound: &mut Inbound, inlet: &dyn Inlet, stats: &IoStats) -> Result<(), Closed> {
        let mut start = 0;
        let mut outcome = Ok(());
        while outcome.is_ok() {
            let rest = &inbound.buffer[start..];
            let frame = inbound.framer.next(rest);
            let length = match frame {
                Ok(Frame::Message(n)) => {
                    stats.stream_messages_in.count();
                    self.heard.store(true, Ordering::Relaxed);
                    inlet.input(Input::Message(Received { flow: self.flow, bytes: &rest[..n] }));
                    n
                }
                Ok(Frame::Ping(n)) => {
                    stats.keepalives.count();
                    // RFC 5626 §4.4.1: the pong is a single CRLF. A queue that is full ends the connection anyway.
                    let _ = self.send(b"\r\n");
                    n
                }
                Ok(Frame::Noise(n)) => {
                    stats.keepalives.count();
                    n
                }
                Ok(Frame::Incomplete) if rest.len() > limits::UNPARSED => return Err(Closed::Framing),
                Ok(Frame::Incomplete) => break,
                Err(lost) => {
                    if lost.head > 0 {
                        let received = Received { flow: self.flow, bytes: &rest[..lost.head.min(rest.len())] };
                        inlet.input(Input::BadStream(received, lost.reason));
                    }
                    outcome = Err(Closed::Framing);
                    continue;
                }
            };
            inbound.framer.consumed();
            start += length;
        }
        inbound.drop_front(start);
        outcome
    }

    /// Writes what the stream takes of the queue.
    fn write(&self, stream: &TcpStream) -> io::Result<()> {
        let mut outbound = self.outbound.lock();
        let outbound = &mut *outbound;
        while let Some(first) = outbound.queue.front() {
            match stream.try_write(&first[outbound.written..]) {
                Ok(n) => outbound.written += n,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(e) => return Err(e),
            }
            self.touch();
            if outbound.written == first.len() {
                outbound.octets -= first.len();
                outbound.written = 0;
                outbound.queue.pop_front();
            }
        }
        Ok(())
    }

    async fn flush(&self, stream: &TcpStream) -> io::Result<()> {
        while !self.outbound.lock().queue.is_empty() {
            stream.writable().await?;
            self.write(stream)?;
        }
        Ok(())
    }

    fn touch(&self) {
        self.active.store(sys::now().as_micros(), Ordering::Relaxed);
    }
}

/// What came in and is no whole message yet.
#[derive(Default)]
struct Inbound {
    framer: Framer,
    buffer: BytesMut,
    /// Since when the message at the front is incomplete.
    begun: Option<Time>,
}

impl Inbound {
    fn drop_front(&mut self, octets: usize) {
        self.buffer.advance(octets);
        if self.buffer.is_empty() {
            self.begun = None;
            // An idle connection holds no memory.
            self.buffer = BytesMut::new();
        } else if octets > 0 || self.begun.is_none() {
            self.begun = Some(sys::now());
        }
    }
}

async fn discard(stream: &TcpStream) {
    let mut memory = [0; 1024];
    while stream.readable().await.is_ok() {
        match stream.try_read(&mut memory) {
            Ok(0) => return,
            Ok(_) => {}
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => return,
        }
    }
}
