//! The response context of §16.7: one request that came in, its attempts, and what is owed to its sender.

use smallvec::SmallVec;

use crate::balance::Grant;
use crate::base::{CallKey, Flow, InviteId, LegId, Pin, ResourceId, Seq, SessionId, Time, Version};
use crate::sip::Message;
use crate::token::Keys;
use crate::transaction::kept::Kept;

use super::forward::Hop;
use super::route_token::Side;

/// One forwarded request and the answer it owes.
#[derive(Debug)]
pub struct Context {
    /// Tells this context from an earlier one in the same slot.
    pub serial: u32,
    /// Its last record.
    pub version: Version,
    /// Whether its present version is in the digest of what lives.
    pub digested: bool,
    /// Something changed that the peer has not been told.
    pub changed: bool,
    /// Its server transaction, while that lives.
    pub server: Option<u32>,
    /// Client transactions alive.
    pub clients: u16,
    /// The request as received, while an attempt may still be written from it.
    pub request: Option<Kept>,
    /// Its INVITE again in the transaction that is answered, if that is another one than the first.
    pub joined: Option<Kept>,
    /// What both have in common; 0: nothing, it is no new call or cannot be known again so.
    pub retry: u64,
    /// Where what is answered came from.
    pub source: Flow,
    /// Where responses go.
    pub upstream: Flow,
    /// Initial INVITE or in-dialog request.
    pub role: Role,
    /// What was sent, in order.
    pub attempts: SmallVec<[Attempt; 1]>,
    /// The final has been sent upstream.
    pub answered: bool,
    /// The sender has cancelled.
    pub cancelled: bool,
    /// A provisional other than 100 was relayed.
    pub rang: bool,
    /// It was taken over, and its last owner may have passed a 2xx on that this node never heard of: silence of its
    /// resource is no reason to ask another one.
    pub doubtful: bool,
    /// The best final of failed attempts so far (§16.7 step 6).
    pub held: Option<(u16, Kept)>,
    /// When the request came in.
    pub received: Time,
    /// The deadline that is queued.
    pub queued: Time,
}

/// What kind of request a context serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A new call.
    Initial {
        /// Which INVITE it is, on every node.
        invite: InviteId,
        /// The hash of its Call-ID.
        call: CallKey,
        /// Its session.
        session: SessionId,
        /// Preloaded Route values that named us.
        pops: u8,
        /// The service asked for.
        service: Option<&'static str>,
    },
    /// A request inside a dialog.
    InDialog {
        /// The leg that its token names.
        leg: LegId,
        /// The resource that its token names.
        resource: ResourceId,
        /// Who sent it.
        side: Side,
        /// What it does to the leg.
        effect: Effect,
    },
}

/// What the final of an in-dialog request does to its leg.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// BYE: ends it.
    Ends,
    /// INVITE, UPDATE: refreshes the session interval (RFC 4028).
    Refreshes,
    /// PRACK and the like: shows that it lives; never rebuilds it.
    Passes,
    /// Anything else: shows that it lives.
    Touches,
}

/// One try of one request at one target.
#[derive(Debug)]
pub struct Attempt {
    /// All that its octets depend on.
    pub hop: Hop,
    /// The leg that it would become.
    pub leg: LegId,
    /// Where it went.
    pub resource: ResourceId,
    /// The port that it holds.
    pub grant: Option<Grant>,
    /// What binds it there, also while it holds no port.
    pub pin: Option<Pin>,
    /// Its INVITE or in-dialog client transaction, while that lives.
    pub client: Option<u32>,
    /// Where it stands.
    pub state: AttemptState,
    /// Whether a CANCEL is wanted or under way.
    pub cancel: Cancel,
    /// By when the first response must be there, later Timer C.
    pub due: Time,
    /// What the peer must hold before it leaves.
    pub recorded: Seq,
    /// A BYE has ended its early dialog: a 2xx that comes all the same makes no leg.
    pub over: bool,
}

/// Where an attempt stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AttemptState {
    /// No response yet.
    Sent,
    /// A provisional came.
    Proceeding,
    /// Given up for another one, still listened to.
    Superseded,
    /// A final came, or nothing will.
    Done,
}

/// Whether an attempt is being cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cancel {
    /// No.
    No,
    /// As soon as a provisional comes (§9.1).
    Wanted,
    /// Sent.
    Sent,
}

impl Context {
    /// Whether this is a new call without a final answer.
    pub fn is_ringing(&self) -> bool {
        matches!(self.role, Role::Initial { .. }) && !self.answered
    }

    /// Its attempt that a request with the token of `leg` belongs to, while the dialog may be an early one (RFC 3261
    /// §12.1). Without a provisional there is none: then the request itself shows that there was an answer.
    pub fn early(&self, leg: LegId, resource: ResourceId) -> Option<usize> {
        let asked = |a: &Attempt| a.state != AttemptState::Done && a.leg == leg && a.resource == resource;
        (self.is_ringing() && self.rang && !self.doubtful).then(|| self.attempts.iter().position(asked))?
    }

    /// Whether somebody is being asked.
    pub fn is_pursued(&self) -> bool {
        self.attempts.iter().any(|a| matches!(a.state, AttemptState::Sent | AttemptState::Proceeding))
    }

    /// The resources that were tried.
    pub fn tried(&self) -> SmallVec<[ResourceId; 16]> {
        self.attempts.iter().map(|a| a.resource).collect()
    }

    /// Whether nothing refers to it any more.
    pub fn is_over(&self) -> bool {
        self.server.is_none() && self.clients == 0
    }

    /// The next deadline of its attempts.
    pub fn due(&self) -> Time {
        self.attempts.iter().filter(|a| a.state != AttemptState::Done).map(|a| a.due).min().unwrap_or(Time::NEVER)
    }

    /// A grant belongs to an attempt that somebody still listens to.
    pub fn check(&self) -> bool {
        self.attempts.iter().all(|a| a.grant.is_none() || a.client.is_some())
    }
}

/// From tag, Call-ID and CSeq number (§8.2.2.2). An INVITE without From tag (RFC 2543) is never taken for another one.
pub(super) fn retry_key(keys: &Keys, request: &Message<'_>) -> Option<u64> {
    let (tag, cseq) = (request.from_tag(), request.cseq().number.to_be_bytes());
    (!tag.is_empty()).then(|| keys.id64(&[b"retry", tag, request.call_id(), &cseq]))
}
