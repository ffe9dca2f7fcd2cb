//! What is asked of the Farm, and what it answers.

use std::sync::Arc;

use super::group::{Route, Terms};
use super::health::Evidence;
use super::pins::PinBy;
use crate::base::{Flow, Host, LegId, Pin, PinKey, ResourceId, Time};

/// What the proxy asks of the Farm. Limits, choice and reservation are one call. Every call that can change a
/// resource's observed health says so through [`Desk::evidence`].
pub trait Desk {
    /// Chooses a member for a new INVITE and reserves one port on it.
    fn admit(&self, now: Time, ask: &Ask<'_>) -> Result<Grant, Refusal>;
    /// Gives `grant`'s port back and reserves one on the next member, in one step. On refusal the port is given back.
    fn advance(&self, now: Time, grant: Grant, outcome: Outcome, ask: &Ask<'_>) -> Result<Grant, Refusal>;
    /// Gives the port back.
    fn release(&self, now: Time, grant: Grant, outcome: Outcome);
    /// What a call or the network says of a member without a port being given back.
    fn evidence(&self, now: Time, resource: ResourceId, evidence: Evidence);
    /// Reserves a port for a leg that already lives on `resource` (rebuilt from its token). `None`: resource unknown.
    /// Never refused for capacity: the call exists; above the limit it is debt. `pin`: what bound it there, if that is known.
    fn adopt(&self, now: Time, resource: ResourceId, leg: LegId, pin: Option<Pin>) -> Option<Grant>;
    /// Counts a port that a call of the peer's holds. As [`Desk::adopt`], but nothing of this node's budget is spent, and
    /// a resource that this node does not know is remembered until its last call ends: the peer may know more.
    fn shadow(&self, now: Time, resource: ResourceId, leg: LegId, pin: Option<Pin>) -> Grant;
    /// The call is this node's own from now on, and its port spends of this node's budget.
    fn take_over(&self, now: Time, grant: &mut Grant);
    /// The call is the peer's from now on.
    fn hand_over(&self, now: Time, grant: &mut Grant);
    /// Whether `resource` is known to answer at this host (AOR, aliases, learnt hosts).
    fn vouch(&self, resource: ResourceId, host: &Host<'_>, port: u16) -> Vouch;
    /// A stream to `resource`, if it offers one beside its usual transport (RFC 3261 §18.1.1).
    fn stream(&self, resource: ResourceId) -> Option<Flow>;
    /// Remembers a host that `resource` itself named in Contact or Record-Route, with its port. Bounded per resource.
    /// Whether it was not known.
    fn learn(&self, resource: ResourceId, host: &Host<'_>, port: u16) -> bool;
    /// Whether the peer, which places calls, could serve what was refused here: it reaches a member that is down here.
    fn peer_serves(&self, ask: &Ask<'_>) -> bool;
    /// Whether `resource` is down here and not for the peer, which places calls.
    fn peer_reaches(&self, resource: ResourceId) -> bool;
}

/// The Farm's answer to [`Desk::vouch`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouch {
    /// The resource is known and answers there.
    Known,
    /// The resource is known and has never named that host.
    Stranger,
    /// No such resource.
    NoResource,
}

/// What a call needs.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// The leg that will hold the port.
    pub leg: LegId,
    /// The service type, in the model's words (`voicexml`, `announcement`, `conference`, `msml`, …); `None`: any group.
    pub service: Option<&'a str>,
    /// Whether only members that are reached over TLS will do (RFC 3261 §26.2.2).
    pub secure: bool,
    /// Members that this INVITE has already tried.
    pub tried: &'a [ResourceId],
    /// What the INVITE shows that may bind it to the member of others.
    pub shows: &'a dyn Shows,
}

/// An INVITE, as far as a group's `pin-by` asks for it.
pub trait Shows {
    /// The key of a call of `group`; `None`: it shows nothing of that kind, and is bound by nothing.
    fn key(&self, group: &str, by: &PinBy) -> Option<PinKey>;
}

/// It shows nothing.
impl Shows for () {
    fn key(&self, _: &str, _: &PinBy) -> Option<PinKey> {
        None
    }
}

/// A port of a resource, held by one leg or attempt. Neither `Clone` nor `Copy`; consumed by [`Desk::release`] or
/// [`Desk::advance`].
#[derive(Debug)]
#[must_use = "a dropped grant is a leaked port"]
pub struct Grant {
    /// The resource.
    pub resource: ResourceId,
    /// The leg that holds it.
    pub leg: LegId,
    /// Where its INVITEs go.
    pub route: Arc<Route>,
    /// How its group wants attempts handled.
    pub terms: Arc<Terms>,
    /// What binds its call to this resource.
    pub pin: Option<Pin>,
    /// Index in the Farm's ledger; private to `balance`.
    pub(crate) slot: u32,
}

/// Why there is no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No group serves this service type.
    NoGroup,
    /// Of no usable member may this node take a port: they are in use, or not its to spend. `code` is the group's `noresource-response-code` (default 480).
    Full {
        /// Final status for the caller.
        code: u16,
    },
    /// No member is usable, or all usable ones were tried. Same code.
    NoMember {
        /// Final status for the caller.
        code: u16,
    },
}

/// How an attempt or leg ended, told when its port is given back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The call took place and is over.
    Completed,
    /// The caller gave up.
    Cancelled,
    /// The member refused with this final status.
    Refused(u16),
    /// Nothing came in time.
    TimedOut,
    /// The transport failed.
    Unreachable,
    /// The leg's lease or Session-Expires passed.
    Expired,
}

/// One line of `tandem resources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceView {
    /// Group name.
    pub group: String,
    /// AOR; of one that drains with its address, if the AOR does not spell that.
    pub aor: String,
    /// Its id.
    pub id: ResourceId,
    /// `up`, `suspect`, `overloaded`, `draining`, `down`.
    pub health: &'static str,
    /// Why it is not `up`; empty when it is.
    pub reason: &'static str,
    /// Ports in use: the size of a set of grants.
    pub in_use: u32,
    /// How many of them calls of this node's own hold.
    pub own: u32,
    /// How many its own calls may hold; `None`: as many as are free.
    pub allowance: Option<u32>,
    /// Ports that are left alone, because calls that only a dead node knew of may be on them.
    pub withheld: u32,
    /// Ports in use above `port-capacity`, because a call that exists is never refused its port. No new call is placed
    /// until they are given back.
    pub debt: u32,
    /// `port-capacity`, `None` = unlimited.
    pub capacity: Option<u32>,
    /// INVITEs placed since start.
    pub placed: u64,
    /// INVITEs placed that ended without a call.
    pub failed: u64,
    /// Time of the last probe sent or answered; `None`: it is not probed.
    pub last_probe: Option<Time>,
}
