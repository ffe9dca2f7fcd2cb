//! What the parts of the peer link share: who the peers are, what waits for them, what has happened to their streams.
#![forbid(unsafe_code)]

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::sync::watch;

use crate::base::NodeId;
use crate::replica::Stream;
use crate::replica::frame::{Broken, Decoder, Sealer};
use crate::replica::handshake::{Local, NONCE, Nonce};
use crate::runtime::fault::Faults;
use crate::runtime::link::carrier::Carrier;
use crate::runtime::link::encryption::Encryption;
use crate::runtime::link::outgoing::Outgoing;
use crate::runtime::link::stats::{Ended, LinkStats};
use crate::runtime::tls;
use crate::runtime::waker::Waker;
use crate::token::Keys;

/// Things that happened to streams and that the reader has not seen. Refused connections above it are not told.
const EVENTS: usize = 256;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 64;

/// Who takes part in the link.
#[derive(Clone)]
pub struct Config {
    /// What this node says of itself.
    pub local: Local,
    /// The keys of the cluster.
    pub keys: Keys,
    /// The addresses of `cluster.member` of this node, one per path.
    pub own: Vec<SocketAddr>,
    /// The other members.
    pub peers: Vec<Member>,
    /// Random octets that no other process start has.
    pub seed: [u8; 32],
    /// What a drill wants to fail.
    pub faults: Arc<Faults>,
    /// TLS around everything; `None`: in the clear, and authenticated all the same.
    pub encryption: Option<Arc<Encryption>>,
}

/// Another node: `cluster.member.N`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// N.
    pub node: NodeId,
    /// Its addresses, one per path, in the order of [`Config::own`].
    pub addrs: Vec<SocketAddr>,
}

/// What a peer says of itself when its link comes to stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Greeting {
    /// Its process: random per start.
    pub incarnation: u64,
    /// The version of frames.
    pub version: u8,
    /// What both can do.
    pub capabilities: u64,
    /// Hash of its effective configuration.
    pub config: [u8; 16],
}

/// Why a link does not stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DownCause {
    /// The peer said that its process ends.
    Goodbye,
    /// A stream was reset: its process died, or its host does not know the stream.
    Reset,
    /// Nobody listens on the peer's port, says its host. Told for every attempt while the link is down.
    Refused,
    /// The peer closed a stream, or opened new ones.
    Closed,
    /// The peer's host acknowledges nothing any more, or cannot be reached.
    TimedOut,
    /// The peer is heard, but no more on the path of a stream.
    Moved,
    /// A frame was not sound.
    Bad(Broken),
    /// The peer does not read: what waits for it has reached its limit.
    Full,
    /// This process ends, or a stream failed here.
    Local,
}

impl DownCause {
    /// The cause behind an error of a stream.
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::ECONNRESET | libc::EPIPE) => DownCause::Reset,
            Some(libc::ETIMEDOUT | libc::EHOSTUNREACH | libc::ENETUNREACH | libc::ENETDOWN | libc::EHOSTDOWN) => {
                DownCause::TimedOut
            }
            _ => DownCause::Local,
        }
    }

    /// What counts it, if a link stood.
    pub const fn ended(self) -> Option<Ended> {
        Some(match self {
            DownCause::Goodbye => Ended::Goodbye,
            DownCause::Reset => Ended::Reset,
            DownCause::Refused => return None,
            DownCause::Closed => Ended::Closed,
            DownCause::TimedOut => Ended::TimedOut,
            DownCause::Moved => Ended::Moved,
            DownCause::Bad(_) => Ended::Bad,
            DownCause::Full => Ended::Full,
            DownCause::Local => Ended::Local,
        })
    }
}

impl fmt::Display for DownCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DownCause::Goodbye => f.write_str("its process ends by its own will"),
            DownCause::Reset => f.write_str("a stream was reset; its process died or its host restarted"),
            DownCause::Refused => f.write_str("its host refuses; no process listens on the peer port"),
            DownCause::Closed => f.write_str("it closed a stream"),
            DownCause::TimedOut => f.write_str("its host does not answer; look at the host and the network between"),
            DownCause::Moved => f.write_str("its path fell silent; it is raised over another one"),
            DownCause::Bad(broken) => {
                write!(f, "a frame was not sound ({}); something between the nodes changes their octets", broken.name())
            }
            DownCause::Full => f.write_str("it reads too slowly; its host or the network between is overloaded"),
            DownCause::Local => f.write_str("this process ends, or a stream failed here"),
        }
    }
}

/// The node, as the link sees it. All calls come from the thread that reads, one at a time: `up`, frames, `down`. They
/// may call [`Links`](super::Links).
pub trait Peers: Send + Sync {
    /// Both streams stand.
    fn up(&self, peer: NodeId, greeting: &Greeting);
    /// The link fell, or (`Refused`) an attempt to raise it was refused.
    fn down(&self, peer: NodeId, cause: DownCause);
    /// A frame of the peer; its `payload` is authentic and may still make no sense.
    fn frame(&self, peer: NodeId, stream: Stream, kind: crate::replica::Kind, payload: &[u8]);
    /// The bulk stream has more room than [`bulk_room`](super::Links::bulk_room) last told, less what was sent since.
    fn room(&self, peer: NodeId);
    /// All that has come was handed over: send what comes of it.
    fn settled(&self);
}

/// One stream, opened.
pub struct Half {
    /// What carries it.
    pub carrier: Arc<dyn Carrier>,
    /// For what comes.
    pub decoder: Decoder,
    /// For what goes.
    pub sealer: Sealer,
}

/// Both streams of a peer, opened, index = [`Stream`].
pub struct Pair {
    /// What it said of itself.
    pub greeting: Greeting,
    /// Its streams.
    pub halves: [Half; 2],
}

/// What service threads tell the reader.
pub enum Event {
    /// The link of the peer with this index can stand.
    Opened(usize, Box<Pair>),
    /// An attempt was refused by the peer's host.
    Refused(usize),
}

/// How far the link to a peer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It must be raised.
    Down,
    /// Its streams are on their way to the reader.
    Opened,
    /// It stands.
    Up,
}

/// A peer, as everybody sees it.
pub struct Peer {
    /// Who.
    pub member: Member,
    /// How far its link is.
    pub standing: watch::Sender<Standing>,
    /// The write halves while the link stands, index = [`Stream`].
    pub out: [Slot; 2],
    /// Refusals that operators were told of since the link last stood, a bit each.
    pub told: AtomicU64,
    /// The paths on which it is not heard, a bit each.
    pub silent: AtomicU64,
}

/// The write half of a stream.
#[derive(Default)]
pub struct Slot {
    /// `None`: the link does not stand.
    pub outgoing: Mutex<Option<Outgoing>>,
    /// Something was queued and not flushed.
    pub dirty: AtomicBool,
    /// Must be polled until it is writable.
    pub blocked: AtomicBool,
    /// Whoever found little room may come again.
    pub room: AtomicBool,
    /// Why it can take no more.
    pub failed: Mutex<Option<DownCause>>,
}

/// Everything that is not one part's own.
pub struct Shared {
    /// Who takes part.
    pub config: Config,
    /// In the order of [`Config::peers`].
    pub peers: Vec<Peer>,
    /// What is counted.
    pub stats: Arc<LinkStats>,
    /// Ends the reader's sleep.
    pub waker: Waker,
    events: Mutex<VecDeque<Event>>,
    nonces: AtomicU64,
    stopping: AtomicBool,
}

impl Shared {
    /// Every link is down.
    pub fn new(config: Config, stats: Arc<LinkStats>) -> io::Result<Self> {
        let peer = |member: &Member| Peer {
            member: member.clone(),
            standing: watch::Sender::new(Standing::Down),
            out: Default::default(),
            told: AtomicU64::new(0),
            silent: AtomicU64::new(0),
        };
        Ok(Self {
            peers: config.peers.iter().map(peer).collect(),
            config,
            stats,
            waker: Waker::new()?,
            events: Mutex::default(),
            nonces: AtomicU64::new(0),
            stopping: AtomicBool::new(false),
        })
    }

    /// The peer with this id, and its index.
    pub fn peer(&self, node: NodeId) -> Option<(usize, &Peer)> {
        self.peers.iter().enumerate().find(|(_, peer)| peer.member.node == node)
    }

    /// Whether an address is that of a member.
    pub fn is_member(&self, host: IpAddr) -> bool {
        self.peers.iter().any(|peer| peer.member.addrs.iter().any(|addr| addr.ip() == host))
    }

    /// Random octets that nobody can foretell, each only once.
    pub fn nonce(&self) -> Nonce {
        let count = self.nonces.fetch_add(1, Ordering::Relaxed);
        let hash = blake3::keyed_hash(&self.config.seed, &count.to_le_bytes());
        let mut nonce = [0; NONCE];
        nonce.copy_from_slice(&hash.as_bytes()[..NONCE]);
        nonce
    }

    /// Gives the reader the streams of a peer.
    pub fn opened(&self, index: usize, pair: Pair) {
        self.peers[index].standing.send_replace(Standing::Opened);
        let mut events = self.events.lock();
        // Of two that follow each other only the later one lives.
        events.retain(|event| !matches!(event, Event::Opened(other, _) if *other == index));
        events.push_back(Event::Opened(index, Box::new(pair)));
        drop(events);
        self.waker.notify();
    }

    /// Tells the reader that a peer's host refused.
    pub fn refused(&self, index: usize) {
        self.stats.dial_refused.count();
        let mut events = self.events.lock();
        if events.len() < EVENTS {
            events.push_back(Event::Refused(index));
        }
        drop(events);
        self.waker.notify();
    }

    /// What happened next.
    pub fn take_event(&self) -> Option<Event> {
        self.events.lock().pop_front()
    }

    /// Tells operators, once until its link stands, that there is no TLS with a member.
    pub fn no_tls(&self, remote: SocketAddr, why: &tls::Broken) {
        /// Beside the bits of refusals.
        const TOLD: u64 = 1 << 63;
        let of = |peer: &&Peer| peer.member.addrs.iter().any(|addr| addr.ip() == remote.ip());
        if let Some(peer) = self.peers.iter().find(of)
            && peer.told.fetch_or(TOLD, Ordering::Relaxed) & TOLD == 0
        {
            let NodeId(node) = peer.member.node;
            tracing::warn!(
                "no TLS with member {node} at {remote}: {}; both nodes need `peer-tls`, and a certificate of a CA in \
                 `trusted-ca` for an address of their `cluster.member` or a name in `peer-names`",
                why.why
            );
        }
    }

    /// Nothing is raised any more.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::SeqCst);
        self.waker.notify();
    }

    /// Whether [`Shared::stop`] was called.
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }
}

/// An address of `cluster.member` that could not be listened on.
#[derive(Debug)]
pub struct BindError {
    /// As configured.
    pub addr: SocketAddr,
    /// Why not.
    pub source: io::Error,
}

impl BindError {
    /// Listens on the addresses of this node, one per path.
    pub fn bind(own: &[SocketAddr]) -> Result<Vec<TcpListener>, BindError> {
        let listen = |addr: &SocketAddr| bind(*addr).map_err(|source| BindError { addr: *addr, source });
        own.iter().map(listen).collect()
    }
}

impl fmt::Display for BindError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot listen for peers on {}: ", self.addr)?;
        match self.source.kind() {
            io::ErrorKind::AddrInUse => {
                let port = self.addr.port();
                write!(
                    f,
                    "another process has it (ss -lntup 'sport = :{port}' shows which); stop it or change \
                     cluster.member on all nodes"
                )
            }
            io::ErrorKind::AddrNotAvailable => {
                let ip = self.addr.ip();
                write!(
                    f,
                    "no interface of this host has {ip} (ip addr shows them); change cluster.member, or \
                     cluster.mymemberid if this is another member"
                )
            }
            _ => write!(f, "{}", self.source),
        }
    }
}

impl std::error::Error for BindError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}

fn bind(addr: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(addr), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the TIME_WAIT of the last run.
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from(socket))
}
