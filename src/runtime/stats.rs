//! What the edge counts: plain counters that any thread adds to and `metrics` exports.
#![forbid(unsafe_code)]

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::runtime::tls::Handshake;

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// Adds one.
    pub fn count(&self) {
        self.add(1);
    }

    /// Adds `n`.
    pub fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    /// The sum so far.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Everything the edge counts since the start of the process.
#[derive(Debug, Default)]
pub struct IoStats {
    /// UDP datagrams received.
    pub datagrams_in: Counter,
    /// Octets of them.
    pub octets_in: Counter,
    /// UDP datagrams sent.
    pub datagrams_out: Counter,
    /// Octets of them.
    pub octets_out: Counter,
    /// UDP datagrams dropped unread because `sip.allow-from` does not name their source.
    pub stranger_datagrams: Counter,
    /// Datagrams that the kernel dropped because a receive buffer was full (SO_RXQ_OVFL).
    pub receive_overflow: Counter,
    /// Keep-alives on streams (CRLF): answered or dropped, no error. Those in datagrams are counted by the node.
    pub keepalives: Counter,
    /// Receive batches.
    pub batches: Counter,
    /// Receive batches that came back full: every worker helped.
    pub full_batches: Counter,
    /// Datagrams that could not be sent, by [`SendError`].
    pub send_errors: [Counter; SendError::ALL.len()],
    /// ICMP errors that quote a datagram of ours.
    pub icmp_errors: Counter,
    /// Panics that were caught while something was handled.
    pub panics: Counter,
    /// Stream connections accepted.
    pub streams_accepted: Counter,
    /// Stream connections opened.
    pub streams_opened: Counter,
    /// Stream connections that could not be opened.
    pub streams_unreachable: Counter,
    /// `accept` failed for want of descriptors or memory; the listener rested.
    pub accept_errors: Counter,
    /// Stream connections closed, by [`Closed`].
    pub streams_closed: [Counter; Closed::ALL.len()],
    /// TLS handshakes by outcome ([`Handshake`]) of connections that were accepted.
    pub handshakes_accepted: [Counter; Handshake::ALL.len()],
    /// The same of connections that were opened.
    pub handshakes_opened: [Counter; Handshake::ALL.len()],
    /// Connections that authenticated peers offered for reuse (RFC 5923).
    pub aliases: Counter,
    /// When the certificate of this node ends, seconds of the Unix epoch; 0 while no listener speaks TLS.
    pub certificate_not_after: AtomicU64,
    /// Messages received over streams.
    pub stream_messages_in: Counter,
    /// Messages sent over streams.
    pub stream_messages_out: Counter,
    /// Next hops whose name was resolved.
    pub names_resolved: Counter,
    /// Next hops whose name has no address, or that came while too many were being resolved.
    pub names_failed: Counter,
}

impl IoStats {
    /// Counts a datagram that could not be sent.
    pub fn send_error(&self, cause: SendError) {
        self.send_errors[cause as usize].count();
    }

    /// Counts a TLS handshake; `accepted`: of a connection that the other side opened.
    pub fn handshake(&self, accepted: bool, outcome: Handshake) {
        let side = if accepted { &self.handshakes_accepted } else { &self.handshakes_opened };
        side[outcome as usize].count();
    }

    /// Counts a closed stream connection.
    pub fn closed(&self, reason: Closed) {
        self.streams_closed[reason as usize].count();
    }

    /// Stream connections alive now.
    pub fn streams(&self) -> u64 {
        let closed: u64 = self.streams_closed.iter().map(Counter::get).sum();
        (self.streams_accepted.get() + self.streams_opened.get()).saturating_sub(closed)
    }
}

/// Why a datagram could not be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// The send buffer is full (EAGAIN).
    WouldBlock,
    /// The interface's queue or the kernel's memory is full (ENOBUFS, ENOMEM).
    NoBuffers,
    /// A local firewall rule forbids it (EPERM).
    NotPermitted,
    /// No way to the host (EHOSTUNREACH, ENETUNREACH, EADDRNOTAVAIL, …).
    Unreachable,
    /// It does not fit a datagram (EMSGSIZE).
    TooLarge,
    /// The flow names no socket of ours.
    NoSocket,
    /// Anything else.
    Other,
}

impl SendError {
    /// All causes, in the order of their counters.
    pub const ALL: [SendError; 7] = [
        SendError::WouldBlock,
        SendError::NoBuffers,
        SendError::NotPermitted,
        SendError::Unreachable,
        SendError::TooLarge,
        SendError::NoSocket,
        SendError::Other,
    ];

    /// Whether it may be about the address that a message leaves from instead of the one that it goes to.
    pub const fn may_be_of_source(self) -> bool {
        matches!(self, SendError::Unreachable | SendError::Other)
    }

    /// The cause behind an error of `send`.
    pub fn of(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => SendError::WouldBlock,
            Some(libc::ENOBUFS | libc::ENOMEM) => SendError::NoBuffers,
            Some(libc::EPERM) => SendError::NotPermitted,
            Some(libc::EMSGSIZE) => SendError::TooLarge,
            Some(
                libc::EHOSTUNREACH
                | libc::ENETUNREACH
                | libc::EHOSTDOWN
                | libc::ENETDOWN
                | libc::EADDRNOTAVAIL
                | libc::ECONNREFUSED
                | libc::EAFNOSUPPORT
                | libc::EINVAL
                | libc::EACCES,
            ) => SendError::Unreachable,
            _ => SendError::Other,
        }
    }

    /// Whether a later send to the same place may well work: retransmission covers it, nobody is told.
    pub const fn transient(self) -> bool {
        matches!(self, SendError::WouldBlock | SendError::NoBuffers | SendError::NotPermitted)
    }

    /// The label of its metric.
    pub const fn name(self) -> &'static str {
        match self {
            SendError::WouldBlock => "would_block",
            SendError::NoBuffers => "no_buffers",
            SendError::NotPermitted => "not_permitted",
            SendError::Unreachable => "unreachable",
            SendError::TooLarge => "too_large",
            SendError::NoSocket => "no_socket",
            SendError::Other => "other",
        }
    }
}

/// Why a stream connection was closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    /// The other side closed it.
    Peer,
    /// A read or write failed (RST and the like).
    Error,
    /// Its TLS handshake failed or was not complete in time.
    Handshake,
    /// The octets on it are no SIP messages any more.
    Framing,
    /// A begun message was not complete in time.
    Slow,
    /// Nothing passed for a long time.
    Idle,
    /// It had to make room for a new one.
    Evicted,
    /// Too many connections, none of them idle: closed right after it was accepted.
    Refused,
    /// `sip.allow-from` does not name its source: reset right after it was accepted, or when a reload says so.
    Stranger,
    /// It came from a load balancer of `sip.proxy-protocol-from`, and no sound PROXY header came first and in time.
    ProxyHeader,
    /// The other side does not read: its queue is full.
    Full,
    /// This node closed it: the core asked for it, or the process stops.
    Local,
    /// The virtual address that it used is another node's now.
    Moved,
}

impl Closed {
    /// All reasons, in the order of their counters.
    pub const ALL: [Closed; 13] = [
        Closed::Peer,
        Closed::Error,
        Closed::Handshake,
        Closed::Framing,
        Closed::Slow,
        Closed::Idle,
        Closed::Evicted,
        Closed::Refused,
        Closed::Stranger,
        Closed::ProxyHeader,
        Closed::Full,
        Closed::Local,
        Closed::Moved,
    ];

    /// The label of its metric.
    pub const fn name(self) -> &'static str {
        match self {
            Closed::Peer => "peer",
            Closed::Error => "error",
            Closed::Handshake => "handshake",
            Closed::Framing => "framing",
            Closed::Slow => "slow",
            Closed::Idle => "idle",
            Closed::Evicted => "evicted",
            Closed::Refused => "refused",
            Closed::Stranger => "stranger",
            Closed::ProxyHeader => "proxy-header",
            Closed::Full => "full",
            Closed::Local => "local",
            Closed::Moved => "moved",
        }
    }
}
