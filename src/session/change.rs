//! What a journal carries: the state of one thing after it changed, as plain values and opaque octets. Each change says
//! all that a survivor needs, so that the last one of an id is enough, and a snapshot is the last change of each id.

use std::time::Duration;

use crate::base::{CallKey, Flow, Host, InviteId, LegId, Pin, ResourceId, SessionId};

/// A change that somebody else must know, some before the message that depends on it leaves.
#[derive(Clone, Copy, Debug)]
pub enum Change<'a> {
    /// A new call that has no final answer yet, or had one a moment ago.
    Setup(Setup<'a>),
    /// A call being set up is over, and nothing of it need be remembered.
    Gone {
        /// The hash of its Call-ID.
        call: CallKey,
        /// Which.
        invite: InviteId,
    },
    /// An answered leg.
    Leg(LegState<'a>),
    /// A leg ended. Beats every live state.
    Ended {
        /// The hash of its Call-ID.
        call: CallKey,
        /// Which.
        leg: LegId,
    },
    /// A leg of another node was heard of: no state, but an event for its owner.
    Heard {
        /// The hash of its Call-ID.
        call: CallKey,
        /// Which.
        leg: LegId,
        /// What became of its session interval.
        interval: Interval,
    },
}

/// What a message of a dialog does to its session interval (RFC 4028).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interval {
    /// Nothing.
    Same,
    /// There is none any more.
    None,
    /// It ends after this time.
    EndsIn(Duration),
}

/// An initial INVITE and what became of it.
#[derive(Clone, Copy, Debug)]
pub struct Setup<'a> {
    /// Which.
    pub invite: InviteId,
    /// The hash of its Call-ID.
    pub call: CallKey,
    /// The INVITE as received; `None`: as told before.
    pub request: Option<&'a [u8]>,
    /// The INVITE again in the transaction that is answered, if that is not the first one's.
    pub joined: Option<&'a [u8]>,
    /// Where what is answered came from.
    pub source: Flow,
    /// Where its responses go.
    pub upstream: Flow,
    /// Its session.
    pub session: SessionId,
    /// Preloaded Route values that named us.
    pub pops: u8,
    /// The service asked for.
    pub service: Option<&'a str>,
    /// How long ago it came in.
    pub age: Duration,
    /// Its caller has cancelled: no further candidate may be tried.
    pub cancelled: bool,
    /// A provisional other than 100 was relayed.
    pub rang: bool,
    /// What its caller was told.
    pub answer: Answer<'a>,
    /// What was tried, in order.
    pub attempts: &'a [AttemptState<'a>],
}

/// What a caller was told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// No final yet.
    None,
    /// A 300-699: the whole response, repeated until it is acknowledged.
    Refused {
        /// Its status.
        status: u16,
        /// Its octets.
        response: &'a [u8],
    },
    /// A 2xx.
    Accepted,
}

/// One try of an INVITE at one resource.
#[derive(Clone, Copy, Debug)]
pub struct AttemptState<'a> {
    /// The leg that it would become.
    pub leg: LegId,
    /// The resource.
    pub resource: ResourceId,
    /// The literal branch; never recomputed.
    pub branch: &'a [u8],
    /// Where it went.
    pub target: Flow,
    /// `host:port` that stands in its Request-URI.
    pub authority: &'a str,
    /// The key of its Route tokens.
    pub key: u8,
    /// Whether it holds a port.
    pub holds_port: bool,
    /// Whether a final is still to come.
    pub pending: bool,
    /// Given up for another one: a CANCEL is wanted or under way.
    pub superseded: bool,
    /// A provisional has come, so that Timer C runs and not the wait for the first response.
    pub proceeding: bool,
    /// How long until that ends.
    pub due_in: Duration,
    /// What binds it to that resource.
    pub pin: Option<Pin>,
}

/// An answered leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LegState<'a> {
    /// Which.
    pub leg: LegId,
    /// The hash of its Call-ID.
    pub call: CallKey,
    /// Its session.
    pub session: SessionId,
    /// Where it lives.
    pub resource: ResourceId,
    /// Its Call-ID.
    pub call_id: &'a [u8],
    /// How long ago its INVITE came in.
    pub invited: Duration,
    /// How long ago it was answered.
    pub answered: Duration,
    /// In how long its session interval ends (RFC 4028); `None` without one.
    pub expires_in: Option<Duration>,
    /// Hosts that its resource named for itself when it answered, as written in URIs.
    pub hosts: &'a [Host<'a>],
    /// What binds it to that resource.
    pub pin: Option<Pin>,
}

impl Change<'_> {
    /// The hash of the Call-ID that it belongs to.
    pub fn call(&self) -> CallKey {
        match self {
            Change::Setup(setup) => setup.call,
            Change::Leg(leg) => leg.call,
            Change::Gone { call, .. } | Change::Ended { call, .. } | Change::Heard { call, .. } => *call,
        }
    }
}
