//! Resource groups and their members: as configured, and as they live in the Farm.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::escrow::{Budget, Ration, Reserve, Withheld};
use super::health::{Health, Monitor};
use super::hosts::Hosts;
use super::lending::Lending;
use super::pins::PinBy;
use crate::base::{Flow, ListenerId, ResourceId, Time, Transport};

/// How a resource is reached, fixed when the target is configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    /// `host:port` that replaces the Request-URI's; IPv6 in brackets.
    pub authority: Box<str>,
    /// The usual way.
    pub flow: Flow,
    /// A stream to the same server, when it offers one, for what does not fit a datagram (RFC 3261 §18.1.1).
    pub stream: Option<Flow>,
    /// The usual way from an address that is this node's alone: for what must not come from the address of a pair.
    pub own: Option<Flow>,
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
    /// `pin-by`; `None`: no call is bound to another one's member.
    pub pin_by: Option<PinBy>,
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

/// A group at work.
#[derive(Debug)]
pub(super) struct Group {
    pub name: Arc<str>,
    pub service_types: Vec<String>,
    pub scheme: SchemeName,
    pub noresource_response_code: u16,
    pub terms: Arc<Terms>,
    pub pin_by: Option<PinBy>,
    pub seats: Vec<Seat>,
    /// The seat behind the one chosen last.
    pub next: usize,
    /// No member counts fewer turns than this; see `scheme`.
    pub floor: u64,
}

/// A member's place in a group.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seat {
    /// Key of the member, and number of its account in the ledger.
    pub member: u32,
    /// How often it was chosen; below the group's floor it counts as the floor.
    pub turns: u64,
}

/// A resource at work. It may sit in several groups; its ports, health and hosts are one.
#[derive(Debug)]
pub(super) struct Member {
    pub id: ResourceId,
    pub aor: String,
    /// The first group that names it.
    pub group: Arc<str>,
    /// Of the same group.
    pub terms: Arc<Terms>,
    pub route: Arc<Route>,
    pub port_capacity: Option<u32>,
    /// What may be taken of it.
    pub ration: Ration,
    pub withheld: Withheld,
    /// Of its own share, for calls of an earlier life of this node.
    pub unheard: Withheld,
    pub health: Health,
    /// Left the configuration: lives until its last grant ends.
    pub draining: bool,
    pub hosts: Hosts,
    pub placed: u64,
    pub failed: u64,
    pub last_probe: Option<Time>,
}

impl Group {
    /// A group without seats. `before` is what stood under the same name: the turns go on.
    pub fn new(config: &GroupConfig, before: Option<&Group>) -> Self {
        Self {
            name: config.name.as_str().into(),
            service_types: config.service_types.clone(),
            scheme: config.scheme,
            noresource_response_code: config.noresource_response_code,
            terms: Arc::new(config.terms.clone()),
            pin_by: config.pin_by.clone(),
            seats: Vec::with_capacity(config.resources.len()),
            next: 0,
            floor: before.map_or(0, |g| g.floor),
        }
    }

    /// Gives a member its seat, once.
    pub fn seat(&mut self, member: u32, before: Option<&Group>) {
        if self.seats.iter().any(|s| s.member == member) {
            return;
        }
        let turns = before.and_then(|g| g.seats.iter().find(|s| s.member == member)).map_or(0, |s| s.turns);
        self.seats.push(Seat { member, turns });
    }

    /// Goes on behind the member that was chosen last, as far as it is still there.
    pub fn resume(&mut self, before: &Group) {
        let (head, tail) = before.seats.split_at(before.next);
        let next = tail.iter().chain(head).find_map(|old| self.seats.iter().position(|s| s.member == old.member));
        self.next = next.unwrap_or(0);
    }

    /// Turns of the member at `at`.
    pub fn turns(&self, at: usize) -> u64 {
        self.seats[at].turns.max(self.floor)
    }

    /// Whether it serves a service type; names are the model's, any case.
    pub fn serves(&self, service: Option<&str>) -> bool {
        let Some(service) = service else { return true };
        self.service_types.is_empty() || self.service_types.iter().any(|s| s.eq_ignore_ascii_case(service))
    }
}

impl Member {
    /// A member that nothing is known of yet.
    pub fn new(config: &ResourceConfig, group: &Group, monitor: Option<Monitor>) -> Self {
        let mut member = Self {
            id: config.id,
            aor: String::new(),
            group: Arc::clone(&group.name),
            terms: Arc::clone(&group.terms),
            route: Arc::new(config.route.clone()),
            port_capacity: None,
            ration: Ration::default(),
            withheld: Withheld::default(),
            unheard: Withheld::default(),
            health: Health::new(monitor),
            draining: false,
            hosts: Hosts::default(),
            placed: 0,
            failed: 0,
            last_probe: None,
        };
        member.configure(config, group, monitor);
        member
    }

    /// A member that the configuration of this node does not know, and that calls of the peer are on. It lives until the
    /// last of them ends.
    pub fn foreign(id: ResourceId) -> Self {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        let flow = Flow {
            transport: Transport::Udp,
            listener: ListenerId::default(),
            local: nowhere,
            remote: nowhere,
            conn: None,
        };
        let route = Route { authority: Box::default(), flow, stream: None, own: None };
        Self {
            id,
            aor: format!("unknown resource {:016x}", id.0),
            group: "".into(),
            // Nothing new is ever asked of it.
            terms: Arc::new(Terms { first_response_timeout: Duration::ZERO, retry_codes: Vec::new() }),
            route: Arc::new(route),
            port_capacity: None,
            ration: Ration::default(),
            withheld: Withheld::default(),
            unheard: Withheld::default(),
            health: Health::new(None),
            draining: true,
            hosts: Hosts::default(),
            placed: 0,
            failed: 0,
            last_probe: None,
        }
    }

    /// What may be taken of it from now on.
    pub fn ration(&mut self, budget: &Budget, reserve: Reserve, lending: Option<&Lending>) {
        self.ration = Ration::new(budget, reserve, self.withheld, self.id, self.port_capacity);
        if let (Some(lending), Some(limit), Budget::Floor(node, _)) = (lending, self.port_capacity, budget) {
            self.ration.own = Some(lending.allowance(self.id, *node, limit));
        }
        self.ration.unheard = self.unheard;
    }

    /// How it is called.
    pub fn name(&self) -> String {
        if self.draining { told_apart(&self.aor, self.route.flow.remote) } else { self.aor.clone() }
    }

    /// Takes over a new configuration; what was observed and learnt stays.
    pub fn configure(&mut self, config: &ResourceConfig, group: &Group, monitor: Option<Monitor>) {
        self.aor.clone_from(&config.aor);
        self.group = Arc::clone(&group.name);
        self.terms = Arc::clone(&group.terms);
        if *self.route != config.route {
            self.route = Arc::new(config.route.clone());
        }
        self.port_capacity = config.port_capacity;
        self.health.set_monitor(monitor);
        self.draining = false;
        let own = [Some(config.route.flow.remote), config.route.stream.map(|s| s.remote)];
        self.hosts.configure(&config.route.authority, own.into_iter().flatten().chain(config.aliases.iter().copied()));
    }
}

/// The name of a member that drains. A DNS name may lead to another member by now: then the address tells them apart.
pub(super) fn told_apart(aor: &str, remote: SocketAddr) -> String {
    let ip = remote.ip().to_string();
    let spelled = aor.contains(&format!("[{ip}]")) || aor.split([':', ';']).any(|part| part == ip);
    if spelled || remote.ip().is_unspecified() { aor.to_owned() } else { format!("{aor} ({remote})") }
}
