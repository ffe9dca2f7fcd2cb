//! One SIP stream: reading messages off it, a bounded queue of what waits to be written, deadlines.
#![forbid(unsafe_code)]

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time;

use crate::base::{ConnId, Flow, Time, limits};
use crate::node::{Input, Received};
use crate::runtime::ended::Ended;
use crate::runtime::inbound::Inbound;
use crate::runtime::inlet::Inlet;
use crate::runtime::outbound::{Outbound, Sent};
use crate::runtime::stats::{Closed, IoStats};
use crate::runtime::sys;
use crate::runtime::tls::{Broken, Handshake, Name};
use crate::runtime::wire::Wire;
use crate::sip::Frame;

/// Octets read at once.
const CHUNK: usize = 8 * 1024;

/// How long until it is asked again who handles what has come.
const UNDECIDED: Duration = Duration::from_millis(1);

/// How long the last octets of a stream that this side closes may take to leave.
const FLUSH_DEADLINE: Duration = Duration::from_secs(2);

/// How long the other side's octets are still taken, so that its kernel does not lose our last ones to an RST.
const LINGER_DEADLINE: Duration = Duration::from_secs(1);

/// Requests of an authenticated peer that are looked at for an offer to reuse its connection.
const OFFERS: u8 = 8;

/// A stream connection, or one that is being opened.
pub struct Connection {
    /// Its id.
    pub id: ConnId,
    /// The flow of what comes in on it.
    pub flow: Flow,
    /// Whether the other side opened it.
    pub accepted: bool,
    /// Its ends, this one first; not known until there is a stream.
    between: OnceLock<(SocketAddr, SocketAddr)>,
    outbound: Mutex<Outbound>,
    wake: Notify,
    /// When octets last passed, in microseconds of [`sys::now`].
    active: AtomicU64,
    /// Whether a sound message ever came in.
    heard: AtomicBool,
    /// Whether a message has begun to come in and is not complete.
    begun: AtomicBool,
}

/// What a connection lives in.
pub struct Around<'a> {
    /// Takes what comes in.
    pub inlet: &'a dyn Inlet,
    /// Counts.
    pub stats: &'a IoStats,
    /// Sees the first messages of a peer that has connected and proved who it is: it may offer its connection for reuse.
    pub offered: &'a (dyn Fn(&[u8]) + Sync),
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
            between: OnceLock::new(),
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
        let sent = self.outbound.lock().send(message);
        if matches!(sent, Ok(Sent::Whole | Sent::Part)) {
            self.touch();
        }
        if sent != Ok(Sent::Whole) {
            self.wake.notify_one();
        }
        sent.map(|_| ()).map_err(|_| NotTaken)
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
        let busy = !self.accepted || self.begun.load(Ordering::Relaxed) || !self.outbound.lock().is_empty();
        let active = Time::from_micros(self.active.load(Ordering::Relaxed));
        (self.accepted && (!heard || !busy)).then_some((heard, active))
    }

    /// Why it is ending or has ended.
    pub fn ended(&self) -> Option<Closed> {
        self.outbound.lock().end
    }

    /// Whether its TLS handshake goes on.
    pub fn is_shaking(&self) -> bool {
        let outbound = self.outbound.lock();
        outbound.end.is_none() && !outbound.wire.is_open()
    }

    /// Whether the other side has proved one of these names.
    pub fn proves(&self, names: &[Name]) -> bool {
        self.outbound.lock().wire.proves(names)
    }

    /// Ends it before it began: there is no TLS to serve it with.
    pub fn refuse(&self, broken: Broken, stats: &IoStats) -> Ended {
        let reason = *self.outbound.lock().end.get_or_insert(Closed::Handshake);
        stats.closed(reason);
        stats.handshake(self.accepted, broken.outcome);
        Ended { reason, broken: Some(broken) }
    }

    /// What the networks see of its stream, once there is one: its flow, but for the port of one that this node opened,
    /// and for the load balancer that forwards it.
    pub fn ends(&self) -> Option<Flow> {
        self.between.get().map(|(local, remote)| Flow { local: *local, remote: *remote, ..self.flow })
    }

    /// There is a stream, and its ends have these addresses, this one first.
    pub fn is_between(&self, local: SocketAddr, remote: SocketAddr) {
        let _ = self.between.set((local, remote));
    }

    /// Serves the stream until it ends.
    pub async fn run(&self, stream: TcpStream, wire: Wire, around: &Around<'_>) -> Ended {
        let stream = Arc::new(stream);
        {
            let mut outbound = self.outbound.lock();
            outbound.stream = Some(Arc::clone(&stream));
            outbound.wire = wire;
        }
        let Ended { reason, broken } = self.exchange(&stream, around).await;
        let (reason, open) = {
            let mut outbound = self.outbound.lock();
            let open = outbound.wire.is_open();
            if open {
                outbound.wire.close();
            }
            (*outbound.end.get_or_insert(reason), open)
        };
        // Counted before the peer can see the end, so that whoever saw it finds it counted.
        around.stats.closed(reason);
        if !open {
            around.stats.handshake(self.accepted, broken.as_ref().map_or(Handshake::Abandoned, |b| b.outcome));
        }
        if matches!(reason, Closed::Handshake | Closed::Framing | Closed::Local | Closed::Peer) {
            // Failing here changes nothing: the connection goes either way.
            let _ = time::timeout(FLUSH_DEADLINE, self.flush(&stream)).await;
            let _ = SockRef::from(&*stream).shutdown(Shutdown::Write);
        }
        if matches!(reason, Closed::Framing | Closed::Local) {
            let _ = time::timeout(LINGER_DEADLINE, discard(&stream)).await;
        }
        if reason == Closed::Moved {
            // Octets that still wait in the kernel are the other node's to send.
            let _ = SockRef::from(&*stream).set_linger(Some(Duration::ZERO));
        }
        self.outbound.lock().stream = None;
        Ended { reason, broken }
    }

    /// Takes every message that never left. The connection must have ended.
    pub fn unsent(&self) -> impl Iterator<Item = Bytes> + use<> {
        let mut outbound = self.outbound.lock();
        outbound.end.get_or_insert(Closed::Local);
        outbound.take().into_iter()
    }

    async fn exchange(&self, stream: &TcpStream, around: &Around<'_>) -> Ended {
        let mut inbound = Inbound::default();
        let handshake = sys::now() + limits::HANDSHAKE_DEADLINE;
        loop {
            let (pending, open, end) = {
                let outbound = self.outbound.lock();
                (outbound.pending(), outbound.wire.is_open(), outbound.end)
            };
            if let Some(reason) = end {
                return reason.into();
            }
            if around.inlet.undecided(&self.flow) {
                time::sleep(UNDECIDED).await;
                continue;
            }
            if let Err(ended) = self.resume(&mut inbound, around) {
                return ended;
            }
            let now = sys::now();
            let deadline = match inbound.begun {
                _ if !open => handshake,
                Some(begun) => begun + limits::HEADER_DEADLINE,
                None => Time::from_micros(self.active.load(Ordering::Relaxed)) + limits::IDLE_DEADLINE,
            };
            if now >= deadline {
                return match inbound.begun {
                    _ if !open => Ended::late(),
                    Some(_) => Closed::Slow.into(),
                    None => Closed::Idle.into(),
                };
            }
            let outcome = tokio::select! {
                ready = stream.readable() => match ready {
                    Ok(()) => self.read(stream, &mut inbound, around),
                    Err(_) => Err(Closed::Error.into()),
                },
                ready = stream.writable(), if pending => match ready {
                    Ok(()) => self.write(stream).map_err(|_| Closed::Error.into()),
                    Err(_) => Err(Closed::Error.into()),
                },
                () = self.wake.notified() => Ok(()),
                () = time::sleep(deadline.since(now)) => Ok(()),
            };
            if let Err(ended) = outcome {
                return ended;
            }
        }
    }

    fn read(&self, stream: &TcpStream, inbound: &mut Inbound, around: &Around<'_>) -> Result<(), Ended> {
        // A begun message holds as much memory as has come of it, not a chunk: there may be ten thousand of them.
        let mut chunk = [0; CHUNK];
        let length = match stream.try_read(&mut chunk) {
            Ok(0) => return Err(Closed::Peer.into()),
            Ok(n) => n,
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return Err(Closed::Error.into()),
        };
        self.touch();
        inbound.closed = self.decrypt(&chunk[..length], inbound, around.stats)?;
        inbound.waits = true;
        self.resume(inbound, around)
    }

    /// Handles what has come and waits.
    fn resume(&self, inbound: &mut Inbound, around: &Around<'_>) -> Result<(), Ended> {
        if !std::mem::take(&mut inbound.waits) {
            return Ok(());
        }
        let outcome = self.frames(inbound, around);
        self.begun.store(inbound.begun.is_some(), Ordering::Relaxed);
        outcome?;
        if inbound.closed && !inbound.waits { Err(Closed::Peer.into()) } else { Ok(()) }
    }

    /// Takes octets off the stream; whether they were the last ones.
    fn decrypt(&self, octets: &[u8], inbound: &mut Inbound, stats: &IoStats) -> Result<bool, Ended> {
        let mut outbound = self.outbound.lock();
        if outbound.wire.is_open() {
            let taken = outbound.wire.take(octets, &mut inbound.buffer);
            inbound.inside = outbound.wire.inside_record();
            let closed = |b| Ended { reason: Closed::Error, broken: Some(b) };
            return taken.map(|taken| taken.closed).map_err(closed);
        }
        // A handshake takes its time, and senders must not wait for it.
        let mut wire = std::mem::take(&mut outbound.wire);
        drop(outbound);
        let taken = wire.take(octets, &mut inbound.buffer);
        let (open, authenticated) = (wire.is_open(), wire.is_authenticated());
        inbound.inside = open && wire.inside_record();
        self.outbound.lock().wire = wire;
        let taken = taken.map_err(|b| Ended { reason: Closed::Handshake, broken: Some(b) })?;
        if taken.opened {
            stats.handshake(self.accepted, Handshake::Done);
            inbound.offers = if self.accepted && authenticated { OFFERS } else { 0 };
        }
        Ok(taken.closed)
    }

    /// Handles every frame that is complete.
    fn frames(&self, inbound: &mut Inbound, around: &Around<'_>) -> Result<(), Closed> {
        let mut start = 0;
        let mut outcome = Ok(());
        while outcome.is_ok() {
            let rest = &inbound.buffer[start..];
            let frame = inbound.framer.next(rest);
            let length = match frame {
                Ok(Frame::Message(_)) if around.inlet.undecided(&self.flow) => {
                    inbound.waits = true;
                    break;
                }
                Ok(Frame::Message(n)) => {
                    around.stats.stream_messages_in.count();
                    self.heard.store(true, Ordering::Relaxed);
                    if inbound.offers > 0 {
                        inbound.offers -= 1;
                        (around.offered)(&rest[..n]);
                    }
                    around.inlet.input(Input::Message(Received { flow: self.flow, bytes: &rest[..n] }));
                    n
                }
                Ok(Frame::Ping(n)) => {
                    around.stats.keepalives.count();
                    // RFC 5626 §4.4.1: the pong is a single CRLF. A queue that is full ends the connection anyway.
                    let _ = self.send(b"\r\n");
                    n
                }
                Ok(Frame::Noise(n)) => {
                    around.stats.keepalives.count();
                    n
                }
                Ok(Frame::Incomplete) if rest.len() > limits::UNPARSED => return Err(Closed::Framing),
                Ok(Frame::Incomplete) => break,
                Err(lost) => {
                    if lost.head > 0 {
                        let received = Received { flow: self.flow, bytes: &rest[..lost.head.min(rest.len())] };
                        around.inlet.input(Input::BadStream(received, lost.reason));
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
        if self.outbound.lock().write(stream)? {
            self.touch();
        }
        Ok(())
    }

    async fn flush(&self, stream: &TcpStream) -> io::Result<()> {
        while self.outbound.lock().pending() {
            stream.writable().await?;
            self.write(stream)?;
        }
        Ok(())
    }

    fn touch(&self) {
        self.active.store(sys::now().as_micros(), Ordering::Relaxed);
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
