//! The Farm: resource groups, health, schemes, the ledger of grants. Knows values, no SIP.
#![forbid(unsafe_code)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::base::{Flow, Host, LegId, ResourceId, Time};

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
    /// Never refused for capacity: the call exists; above the limit it is debt.
    fn adopt(&self, now: Time, resource: ResourceId, leg: LegId) -> Option<Grant>;
    /// Whether `resource` is known to answer at this host (AOR, aliases, learnt hosts).
    fn vouch(&self, resource: ResourceId, host: &Host<'_>, port: u16) -> Vouch;
    /// Remembers a host that `resource` itself named in Contact or Record-Route. Bounded per resource.
    fn learn(&self, resource: ResourceId, host: &Host<'_>);
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
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// The leg that will hold the port.
    pub leg: LegId,
    /// The service type, in the model's words (`voicexml`, `announcement`, `conference`, `msml`, …); `None`: any group.
    pub service: Option<&'a str>,
    /// Members that this INVITE has already tried.
    pub tried: &'a [ResourceId],
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
    /// Index in the Farm's ledger; private to `balance`.
    pub(crate) slot: u32,
}

/// How a resource is reached, fixed when the target is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `host:port` that replaces the Request-URI's; IPv6 in brackets.
    pub authority: Box<str>,
    /// The usual way.
    pub flow: Flow,
    /// A stream to the same server, when it offers one, for what does not fit a datagram (RFC 3261 §18.1.1).
    pub stream: Option<Flow>,
}

/// What a group says about attempts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// No response at all for this long: try the next member (default 2 s).
    pub first_response_timeout: Duration,
    /// Finals after which the next member is tried, as ranges (default 408, 480, 5xx except 501 505 513).
    pub retry_codes: Vec<std::ops::RangeInclusive<u16>>,
}

impl Terms {
    /// Whether a final response sends the INVITE to the next member.
    pub fn retries(&self, status: u16) -> bool {
        self.retry_codes.iter().any(|r| r.contains(&status))
    }
}

/// Why there is no grant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// No group serves this service type.
    NoGroup,
    /// Every usable member is full. `code` is the group's `noresource-response-code` (default 480).
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

/// What is known of a member besides probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Evidence {
    /// It answered something.
    Answered,
    /// A 503, with Retry-After if it had one (RFC 3261 §21.5.4).
    Overloaded(Option<Duration>),
    /// It gave no answer to an INVITE in time.
    Silent,
    /// A packet to it could not be delivered (ICMP, connection refused).
    Unreachable,
}

/// The groups, as configured.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Config {
    /// In the order of the file.
    pub groups: Vec<GroupConfig>,
}

/// `[[resource-group]]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupConfig {
    /// `name`.
    pub name: String,
    /// `service-types`; empty: all.
    pub service_types: Vec<String>,
    /// `load-balance-scheme`.
    pub scheme: SchemeName,
    /// `monitor-method = "option"`, or `None` for `"none"`.
    pub monitor: Option<Monitor>,
    /// `noresource-response-code`, default 480.
    pub noresource_response_code: u16,
    /// `first-response-timeout` and `retry-codes`.
    pub terms: Terms,
    /// `[[resource-group.resource]]`.
    pub resources: Vec<ResourceConfig>,
}

/// `load-balance-scheme`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SchemeName {
    /// Each member in turn.
    #[default]
    RoundRobin,
    /// The member with the fewest ports in use.
    LeastUsed,
    /// The member with the smallest share of its capacity in use.
    LeastPercent,
}

/// OPTIONS probing of a group's members.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Monitor {
    /// Time between probes of one member.
    pub interval: Duration,
    /// How long an answer may take.
    pub timeout: Duration,
    /// Failures in a row that take a member down.
    pub down_after: u8,
    /// Successes in a row that bring it up.
    pub up_after: u8,
}

/// One media server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceConfig {
    /// Hash of the canonical AOR: [`resource_id`].
    pub id: ResourceId,
    /// The AOR as the operator wrote it.
    pub aor: String,
    /// How it is reached.
    pub route: Route,
    /// Other hosts that it is known by.
    pub aliases: Vec<SocketAddr>,
    /// `port-capacity`; `None` is `unlimited`. 0 takes no calls.
    pub port_capacity: Option<u32>,
}

/// The stable id of a resource: the first 64 bits of a hash of its canonical AOR
/// (`sip:host:port;transport=…`, lower case, default port and transport written out).
pub fn resource_id(canonical_aor: &str) -> ResourceId {
    let hash = blake3::hash(canonical_aor.as_bytes());
    let (words, _) = hash.as_bytes().as_chunks::<8>();
    ResourceId(u64::from_be_bytes(words[0]))
}

/// All resources, groups and grants of a node.
#[derive(Debug)]
pub struct Farm {}

/// What a probe said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// A response other than 503/408 came in time.
    Answered,
    /// 503, with its Retry-After.
    Overloaded(Option<Duration>),
    /// No answer in time, or it could not be delivered.
    Failed,
}

/// A resource that became usable or unusable for new calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HealthChange {
    /// Which.
    pub resource: ResourceId,
    /// What it is now.
    pub usable: bool,
}

/// One line of `tandem resources`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceView {
    /// Group name.
    pub group: String,
    /// AOR.
    pub aor: String,
    /// Its id.
    pub id: ResourceId,
    /// `up`, `suspect`, `overloaded`, `draining`, `down`.
    pub health: &'static str,
    /// Ports in use: the size of a set of grants.
    pub in_use: u32,
    /// `port-capacity`, `None` = unlimited.
    pub capacity: Option<u32>,
    /// INVITEs placed since start.
    pub placed: u64,
    /// INVITEs placed that ended without a call.
    pub failed: u64,
    /// Time of the last probe sent or answered.
    pub last_probe: Option<Time>,
}

impl Farm {
    /// A Farm with these groups; all members usable until something says otherwise.
    pub fn new(config: Config) -> Self {
        todo!("{config:?}")
    }

    /// Replaces the groups. Grants, counts and health of resources that remain (same id) are kept; removed ones drain:
    /// they take no new call, vouch for their hosts and vanish with their last grant.
    pub fn reconfigure(&mut self, now: Time, config: Config) {
        todo!("{now:?} {config:?}")
    }

    /// See [`Desk::admit`].
    pub fn admit(&mut self, now: Time, ask: &Ask<'_>) -> Result<Grant, Refusal> {
        todo!("{now:?} {ask:?}")
    }

    /// See [`Desk::advance`].
    pub fn advance(&mut self, now: Time, grant: Grant, outcome: Outcome, ask: &Ask<'_>) -> Result<Grant, Refusal> {
        todo!("{now:?} {grant:?} {outcome:?} {ask:?}")
    }

    /// See [`Desk::release`].
    pub fn release(&mut self, now: Time, grant: Grant, outcome: Outcome) {
        todo!("{now:?} {grant:?} {outcome:?}")
    }

    /// See [`Desk::evidence`].
    pub fn evidence(&mut self, now: Time, resource: ResourceId, evidence: Evidence) {
        todo!("{now:?} {resource:?} {evidence:?}")
    }

    /// See [`Desk::adopt`].
    pub fn adopt(&mut self, now: Time, resource: ResourceId, leg: LegId) -> Option<Grant> {
        todo!("{now:?} {resource:?} {leg:?}")
    }

    /// See [`Desk::vouch`].
    pub fn vouch(&self, resource: ResourceId, host: &Host<'_>, port: u16) -> Vouch {
        todo!("{resource:?} {host:?} {port}")
    }

    /// See [`Desk::learn`].
    pub fn learn(&mut self, resource: ResourceId, host: &Host<'_>) {
        todo!("{resource:?} {host:?}")
    }

    /// The result of one probe.
    pub fn probed(&mut self, now: Time, resource: ResourceId, probe: Probe) {
        todo!("{now:?} {resource:?} {probe:?}")
    }

    /// Health changes since the last call, from probes and evidence alike; the Hub tells the shards.
    pub fn take_changes(&mut self) -> Option<HealthChange> {
        todo!()
    }

    /// Members that are to be probed: id, way, and how.
    pub fn monitored(&self) -> impl Iterator<Item = (ResourceId, &Route, Monitor)> {
        std::iter::empty()
    }

    /// All resources, in the order of the configuration, removed ones that still drain last.
    pub fn view(&self) -> Vec<ResourceView> {
        todo!()
    }

    /// Grants alive.
    pub fn grants(&self) -> usize {
        todo!()
    }
}
