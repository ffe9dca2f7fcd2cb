//! Errors to SIP status: the one place.

use smallvec::SmallVec;

use crate::balance::Refusal;
use crate::sip::{Malformed, Method};

/// What is served outside a dialog: the Allow that a 405 must carry (§21.4.6), short enough for an answer that is no
/// larger than its request.
const SERVED: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS";

/// What Allow says in the answer to OPTIONS: also what is routed inside dialogs.
pub const ALLOW: &str = "INVITE, ACK, CANCEL, BYE, OPTIONS, PRACK, UPDATE, INFO, REFER, SUBSCRIBE, NOTIFY, MESSAGE";

/// Seconds in Retry-After of a 503 of our own.
pub const RETRY_AFTER: &str = "5";

/// Why a sound request goes nowhere.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reject {
    /// The Request-URI is no SIP URI (§16.3 item 2).
    Scheme,
    /// The Request-URI cannot be understood.
    BadUri,
    /// Max-Forwards is 0 (§16.3 item 3).
    TooManyHops,
    /// Our own attempt branch stands in Via with the same target (§16.3 item 4).
    Loop,
    /// It comes again in a new transaction while the first one lives (§8.2.2.2).
    Merged,
    /// Max-Breadth is 0 (RFC 5393 §5.3.3).
    Breadth,
    /// Proxy-Require names what we do not know (§16.3 item 5): the value of Unsupported.
    Extension(SmallVec<[u8; 64]>),
    /// What a proxy has to add would take the request past a limit of ours: its response could not be read (§21.5.7).
    NoRoom,
    /// The method is known and not served outside a dialog.
    NotAllowed,
    /// The method is not known.
    NotImplemented,
    /// A To tag, but no Route or transaction of ours (§12.2.2 as a proxy sees it).
    NoDialog,
    /// A CANCEL without its INVITE (§9.2).
    NothingToCancel,
    /// A Route names us without a token, inside a dialog.
    NoToken,
    /// The token is forged, or of another cluster or dialog.
    ForgedToken,
    /// The next hop or the source is not an address of the leg's resource.
    Stranger,
    /// The next hop is ourselves with nothing left to consume.
    NowhereToGo,
    /// No resource can take the call.
    NoResource(Refusal),
    /// This node takes no new calls.
    Draining,
    /// A table is full.
    Full,
    /// An ACK that belongs to nothing.
    StrayAck,
}

/// The reasons, for counting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// See [`Reject::Scheme`].
    Scheme,
    /// See [`Reject::BadUri`].
    BadUri,
    /// See [`Reject::TooManyHops`].
    TooManyHops,
    /// See [`Reject::Loop`].
    Loop,
    /// See [`Reject::Breadth`].
    Breadth,
    /// See [`Reject::Extension`].
    Extension,
    /// See [`Reject::NoRoom`].
    NoRoom,
    /// See [`Reject::NotAllowed`].
    NotAllowed,
    /// See [`Reject::NotImplemented`].
    NotImplemented,
    /// See [`Reject::NoDialog`].
    NoDialog,
    /// See [`Reject::NothingToCancel`].
    NothingToCancel,
    /// See [`Reject::NoToken`].
    NoToken,
    /// See [`Reject::ForgedToken`].
    ForgedToken,
    /// See [`Reject::Stranger`].
    Stranger,
    /// See [`Reject::NowhereToGo`].
    NowhereToGo,
    /// See [`Reject::NoResource`] with [`Refusal::NoGroup`].
    NoGroup,
    /// See [`Reject::NoResource`] with [`Refusal::Full`].
    GroupFull,
    /// See [`Reject::NoResource`] with [`Refusal::NoMember`].
    GroupDown,
    /// See [`Reject::Draining`].
    Draining,
    /// See [`Reject::Full`].
    NodeFull,
    /// See [`Reject::StrayAck`].
    StrayAck,
    /// See [`Reject::Merged`].
    Merged,
}

impl Reason {
    /// All reasons, in the order of their numbers.
    pub const ALL: [Reason; 22] = [
        Reason::Scheme,
        Reason::BadUri,
        Reason::TooManyHops,
        Reason::Loop,
        Reason::Breadth,
        Reason::Extension,
        Reason::NoRoom,
        Reason::NotAllowed,
        Reason::NotImplemented,
        Reason::NoDialog,
        Reason::NothingToCancel,
        Reason::NoToken,
        Reason::ForgedToken,
        Reason::Stranger,
        Reason::NowhereToGo,
        Reason::NoGroup,
        Reason::GroupFull,
        Reason::GroupDown,
        Reason::Draining,
        Reason::NodeFull,
        Reason::StrayAck,
        Reason::Merged,
    ];

    /// Its label.
    pub fn name(self) -> &'static str {
        match self {
            Reason::Scheme => "scheme",
            Reason::BadUri => "bad_uri",
            Reason::TooManyHops => "too_many_hops",
            Reason::Loop => "loop",
            Reason::Breadth => "breadth",
            Reason::Extension => "extension",
            Reason::NoRoom => "no_room",
            Reason::NotAllowed => "not_allowed",
            Reason::NotImplemented => "not_implemented",
            Reason::NoDialog => "no_dialog",
            Reason::NothingToCancel => "nothing_to_cancel",
            Reason::NoToken => "no_token",
            Reason::ForgedToken => "forged_token",
            Reason::Stranger => "stranger",
            Reason::NowhereToGo => "nowhere_to_go",
            Reason::NoGroup => "no_group",
            Reason::GroupFull => "group_full",
            Reason::GroupDown => "group_down",
            Reason::Draining => "draining",
            Reason::NodeFull => "node_full",
            Reason::StrayAck => "stray_ack",
            Reason::Merged => "merged",
        }
    }
}

impl Reject {
    /// The status that the sender is told; `None`: nothing (an ACK is never answered).
    pub fn status(&self) -> Option<u16> {
        Some(match self {
            Reject::Scheme => 416,
            Reject::BadUri => 400,
            Reject::TooManyHops => 483,
            Reject::Loop | Reject::Merged => 482,
            Reject::Breadth => 440,
            Reject::Extension(_) => 420,
            Reject::NoRoom => 513,
            Reject::NotAllowed => 405,
            Reject::NotImplemented => 501,
            Reject::NoDialog | Reject::NothingToCancel | Reject::NowhereToGo => 481,
            Reject::NoToken | Reject::ForgedToken | Reject::Stranger => 403,
            Reject::NoResource(Refusal::NoGroup) => 404,
            Reject::NoResource(Refusal::Full { code } | Refusal::NoMember { code }) => *code,
            Reject::Draining | Reject::Full => 503,
            Reject::StrayAck => return None,
        })
    }

    /// The reason, for counting.
    pub fn reason(&self) -> Reason {
        match self {
            Reject::Scheme => Reason::Scheme,
            Reject::BadUri => Reason::BadUri,
            Reject::TooManyHops => Reason::TooManyHops,
            Reject::Loop => Reason::Loop,
            Reject::Breadth => Reason::Breadth,
            Reject::Extension(_) => Reason::Extension,
            Reject::NoRoom => Reason::NoRoom,
            Reject::NotAllowed => Reason::NotAllowed,
            Reject::NotImplemented => Reason::NotImplemented,
            Reject::NoDialog => Reason::NoDialog,
            Reject::NothingToCancel => Reason::NothingToCancel,
            Reject::NoToken => Reason::NoToken,
            Reject::ForgedToken => Reason::ForgedToken,
            Reject::Stranger => Reason::Stranger,
            Reject::NowhereToGo => Reason::NowhereToGo,
            Reject::NoResource(Refusal::NoGroup) => Reason::NoGroup,
            Reject::NoResource(Refusal::Full { .. }) => Reason::GroupFull,
            Reject::NoResource(Refusal::NoMember { .. }) => Reason::GroupDown,
            Reject::Draining => Reason::Draining,
            Reject::Full => Reason::NodeFull,
            Reject::StrayAck => Reason::StrayAck,
            Reject::Merged => Reason::Merged,
        }
    }

    /// The header fields that explain it.
    pub(super) fn extra(&self) -> SmallVec<[(&'static str, &[u8]); 2]> {
        match self {
            Reject::Extension(tags) => smallvec::smallvec![("Unsupported", tags.as_slice())],
            Reject::NotAllowed | Reject::NotImplemented => smallvec::smallvec![("Allow", SERVED.as_bytes())],
            Reject::Draining | Reject::Full => smallvec::smallvec![("Retry-After", RETRY_AFTER.as_bytes())],
            _ => SmallVec::new(),
        }
    }
}

/// A method that nothing serves outside a dialog.
pub fn not_served(method: Method<'_>) -> Reject {
    match method {
        Method::Other(_) => Reject::NotImplemented,
        _ => Reject::NotAllowed,
    }
}

/// The status for a message that could not be read.
pub fn malformed_status(malformed: Malformed) -> u16 {
    match malformed {
        Malformed::Version => 505,
        Malformed::TooLarge | Malformed::TooManyHeaders | Malformed::TooManyVias => 513,
        Malformed::UriTooLong => 414,
        _ => 400,
    }
}
