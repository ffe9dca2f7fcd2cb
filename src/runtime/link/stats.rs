//! What the peer link counts.
#![forbid(unsafe_code)]

use crate::replica::Stream;
use crate::replica::frame::Broken;
use crate::replica::handshake::Refusal;
use crate::runtime::stats::Counter;

/// Everything the links count since the start of the process.
#[derive(Debug, Default)]
pub struct LinkStats {
    /// Frames received, by [`Stream`].
    pub frames_in: [Counter; Stream::ALL.len()],
    /// Octets received on opened streams, likewise.
    pub octets_in: [Counter; Stream::ALL.len()],
    /// Frames queued for a peer, likewise.
    pub frames_out: [Counter; Stream::ALL.len()],
    /// Octets written to opened streams, likewise.
    pub octets_out: [Counter; Stream::ALL.len()],
    /// Frames of unknown kinds that were skipped.
    pub skipped: Counter,
    /// Frames for a peer whose link did not stand.
    pub unsent: Counter,
    /// Links that came to stand.
    pub links_up: Counter,
    /// Links that ended, by [`Ended`].
    pub links_down: [Counter; Ended::ALL.len()],
    /// Frames that ended a link, by [`Broken`].
    pub broken: [Counter; Broken::ALL.len()],
    /// Connections accepted on the peer port.
    pub accepted: Counter,
    /// Accepted connections that were not opened, by [`Turned`].
    pub turned: [Counter; Turned::ALL.len()],
    /// Openings that ended with a [`Refusal`], on either side.
    pub refusals: [Counter; Refusal::ALL.len()],
    /// Connections to a peer's port that its host refused: no process listens.
    pub dial_refused: Counter,
    /// Connections to a peer that failed otherwise or were not established in time.
    pub dial_unreachable: Counter,
    /// Connections to a peer that it closed, or on which it said nothing, before the stream was open.
    pub dial_silent: Counter,
    /// `accept` failed for want of descriptors or memory; the listener rested.
    pub accept_errors: Counter,
}

impl LinkStats {
    /// Counts an opening that was refused.
    pub fn refused(&self, refusal: Refusal) {
        self.refusals[refusal as usize - 1].count();
    }

    /// Counts an accepted connection that was not opened.
    pub fn turned(&self, turned: Turned) {
        self.turned[turned as usize].count();
    }

    /// Counts a link that ended.
    pub fn down(&self, ended: Ended) {
        self.links_down[ended as usize].count();
    }
}

/// How a link that stood came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The peer said that its process ends.
    Goodbye,
    /// A stream was reset.
    Reset,
    /// A stream was closed, or the peer opened new ones.
    Closed,
    /// The peer's host acknowledges nothing any more.
    TimedOut,
    /// Its path fell silent while the peer was heard on another.
    Moved,
    /// A frame was not sound.
    Bad,
    /// The peer does not read: what waits for it has reached its limit.
    Full,
    /// This process ends, or a stream failed here.
    Local,
}

impl Ended {
    /// All of them, in the order of their counters.
    pub const ALL: [Ended; 8] = [
        Ended::Goodbye,
        Ended::Reset,
        Ended::Closed,
        Ended::TimedOut,
        Ended::Moved,
        Ended::Bad,
        Ended::Full,
        Ended::Local,
    ];

    /// The label of its metric.
    pub const fn name(self) -> &'static str {
        match self {
            Ended::Goodbye => "goodbye",
            Ended::Reset => "reset",
            Ended::Closed => "closed",
            Ended::TimedOut => "timed_out",
            Ended::Moved => "moved",
            Ended::Bad => "bad",
            Ended::Full => "full",
            Ended::Local => "local",
        }
    }
}

/// Why an accepted connection was closed before a hello was judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turned {
    /// It had to make room for a new one.
    Evicted,
    /// It did not say its hello in time.
    Slow,
    /// It left.
    Gone,
    /// Its first stream waited in vain for the second.
    Alone,
    /// TLS with it failed.
    Tls,
}

impl Turned {
    /// All of them, in the order of their counters.
    pub const ALL: [Turned; 5] = [Turned::Evicted, Turned::Slow, Turned::Gone, Turned::Alone, Turned::Tls];

    /// The label of its metric.
    pub const fn name(self) -> &'static str {
        match self {
            Turned::Evicted => "evicted",
            Turned::Slow => "slow",
            Turned::Gone => "gone",
            Turned::Alone => "alone",
            Turned::Tls => "tls",
        }
    }
}
