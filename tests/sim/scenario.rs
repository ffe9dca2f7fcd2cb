//! What happens in one run, drawn from its seed: who calls when, what breaks when, how the node is configured.

use std::net::SocketAddr;
use std::time::Duration;

use tandem::agent::chance::Chance;
use tandem::agent::media_server::{Behaviour, Mood};
use tandem::agent::script::{Plan, Step};
use tandem::balance::{self, GroupConfig, Monitor, PinBy, ResourceConfig, Route, SchemeName, Terms, resource_id};
use tandem::base::{Epoch, Flow, ListenerId, NodeId, Time, Transport};
use tandem::identity::{Identities, Identity};
use tandem::node::{Capacity, Config, ProxyConfig};
use tandem::token::Keys;

use crate::net::Weather;

/// What calls show that must be on one server. Those that do not show it go anywhere.
pub const ROOM: &str = "X-Room";
/// Media servers of the world.
pub const SERVERS: usize = 3;
/// Faults happen before, and everything ends well after.
pub const SAFETY: Duration = Duration::from_secs(60);
/// When the calls are placed that nothing may go wrong with: health has recovered by then, however bad it was.
pub const LAST_CALLS: Duration = Duration::from_secs(190);

/// The inactivity lease; longer than any call.
const LEASE: Duration = Duration::from_secs(100);

/// Nobody waits longer for an answer: every server may stall until Timer C.
pub const PATIENCE: Duration = Duration::from_secs(150);

/// One run.
pub struct Scenario {
    pub weather: Weather,
    /// What callers reach the node by.
    pub callers: Vec<Transport>,
    /// A dead server's host says so by ICMP.
    pub icmp: bool,
    pub settings: Settings,
    /// In the order of time.
    pub acts: Vec<(Time, Act)>,
}

/// Something from outside.
#[derive(Clone, Debug)]
pub enum Act {
    Call(usize, Plan),
    Behave(usize, Behaviour),
    Crash(usize),
    Revive(usize),
    Drain,
    Resume,
    Reload(Settings),
    /// Octets that are no SIP, from nobody.
    Noise(Vec<u8>),
    /// All faults end.
    Calm,
}

/// What may differ between two configurations of the node.
#[derive(Clone, Debug)]
pub struct Settings {
    pub scheme: SchemeName,
    pub monitor: Option<Monitor>,
    /// `port-capacity` of each server; one without an entry is not configured.
    pub members: [Option<Option<u32>>; SERVERS],
}

pub fn node_addr() -> SocketAddr {
    "10.0.0.1:5060".parse().unwrap()
}

/// The address of one of two nodes that each have their own.
pub fn service_addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 71 + n as u8], 5060))
}

/// Whether callers know a node by this address.
pub fn is_node(ip: std::net::IpAddr) -> bool {
    [node_addr(), service_addr(0), service_addr(1)].iter().any(|addr| addr.ip() == ip)
}

pub fn caller_addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 1, n as u8 + 1], 5060))
}

pub fn server_addr(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 2, n as u8 + 1], 5070))
}

impl Scenario {
    pub fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        let weather = weather(&mut chance);
        let callers = vec![Transport::Udp, *chance.pick(&[Transport::Udp, Transport::Tcp])];
        let settings = Settings::draw(&mut chance);
        let mut acts = Vec::new();
        calls(&mut chance, callers.len(), &mut acts);
        // One run in four has no faults but the weather: nothing excuses a failed call there.
        if chance.per_mille(750) {
            faults(&mut chance, &settings, &mut acts);
        }
        acts.push((Time::ZERO + SAFETY, Act::Calm));
        acts.push((Time::ZERO + SAFETY, Act::Reload(settings.clone())));
        for caller in 0..callers.len() {
            acts.push((Time::ZERO + LAST_CALLS, Act::Call(caller, Plan::default())));
        }
        acts.sort_by_key(|(at, _)| *at);
        Self { weather, callers, icmp: chance.per_mille(500), settings, acts }
    }
}

impl Settings {
    pub fn draw(chance: &mut Chance) -> Self {
        let scheme = *chance.pick(&[SchemeName::RoundRobin, SchemeName::LeastUsed, SchemeName::LeastPercent]);
        let (interval, timeout) = (Duration::from_millis(1_500), Duration::from_millis(1_000));
        let monitor = chance.per_mille(700).then_some(Monitor { interval, timeout, down_after: 3, up_after: 2 });
        let members = std::array::from_fn(|_| Some(chance.per_mille(800).then(|| chance.within(1..8) as u32)));
        Self { scheme, monitor, members }
    }

    pub fn change(&self, chance: &mut Chance) -> Self {
        let mut next = Self::draw(chance);
        if chance.per_mille(300) {
            next.members[chance.within(0..SERVERS as u64) as usize] = None;
        }
        next.monitor = if chance.per_mille(800) { self.monitor } else { None };
        next
    }

    pub fn config(&self, seed: u64) -> Config {
        let local = node_addr();
        let present = self.members.iter().enumerate().filter_map(|(n, capacity)| Some((n, (*capacity)?)));
        let resources = present.map(|(n, port_capacity)| resource(n, port_capacity)).collect();
        let terms = Terms {
            first_response_timeout: Duration::from_secs(2),
            retry_codes: vec![408..=408, 480..=480, 500..=500, 502..=504, 506..=512, 514..=599],
        };
        let group = GroupConfig {
            name: String::from("MCP"),
            service_types: Vec::new(),
            scheme: self.scheme,
            monitor: self.monitor,
            noresource_response_code: 480,
            terms,
            pin_by: Some(PinBy::Header(ROOM.into())),
            resources,
        };
        Config {
            node: NodeId(1),
            epoch: Epoch { counter: 1, node: NodeId(1) },
            incarnation: seed,
            seed,
            keys: Keys::new("sim", &[b"secret"]).unwrap(),
            identities: Identities::new([
                Identity::new(Transport::Udp, local, ListenerId(0)),
                Identity::new(Transport::Tcp, local, ListenerId(1)),
            ]),
            farm: balance::Config { groups: vec![group] },
            // Short, so that a run sees the end of what only they end: an answer that nobody got of a server that died.
            proxy: ProxyConfig { timer_c: Duration::from_secs(40), inactivity: LEASE, ..ProxyConfig::default() },
            capacity: Capacity { shards: 4, legs: 1_000, transactions: 4_000 },
            pair: None,
        }
    }
}

pub fn resource_of(n: usize) -> tandem::base::ResourceId {
    resource_id(&format!("sip:{};transport=udp", server_addr(n)))
}

fn resource(n: usize, port_capacity: Option<u32>) -> ResourceConfig {
    let remote = server_addr(n);
    let flow = Flow { transport: Transport::Udp, listener: ListenerId(0), local: node_addr(), remote, conn: None };
    let route = Route { authority: remote.to_string().into_boxed_str(), flow, stream: None, own: None };
    ResourceConfig { id: resource_of(n), aor: format!("sip:{remote}"), route, aliases: Vec::new(), port_capacity }
}

pub fn weather(chance: &mut Chance) -> Weather {
    match chance.within(0..4) {
        0 => Weather::calm(),
        1 => Weather { lost: 10, doubled: 10, delay: 1..30 },
        2 => Weather { lost: 50, doubled: 0, delay: 5..10 },
        _ => Weather { lost: 30, doubled: 100, delay: 1..250 },
    }
}

fn calls(chance: &mut Chance, callers: usize, acts: &mut Vec<(Time, Act)>) {
    let dense = chance.per_mille(300);
    for _ in 0..chance.within(5..40) {
        let window = if dense { 10_000..20_000 } else { 0..55_000 };
        let at = Time::ZERO + chance.millis(window);
        let caller = chance.within(0..callers as u64) as usize;
        acts.push((at, Act::Call(caller, plan(chance))));
    }
}

pub fn plan(chance: &mut Chance) -> Plan {
    let steps = [Step::ReInvite, Step::Info, Step::Update, Step::Options, Step::Refer];
    let count = if chance.per_mille(400) { chance.within(1..4) } else { 0 };
    Plan {
        user: String::from(*chance.pick(&["dialog", "msml=17", "conf=a%20b"])),
        params: String::from(*chance.pick(&["", ";play=welcome", ";voicexml=http://10.9.9.9/a.vxml;x=%3b"])),
        hold: chance.millis(1..12_000),
        steps: (0..count).map(|_| (chance.millis(1..4_000), *chance.pick(&steps))).collect(),
        cancel_after: Some(if chance.per_mille(200) { chance.millis(1..6_000) } else { PATIENCE }),
        extra: String::from(*chance.pick(&["", "", "Supported: timer\r\nSession-Expires: 1800\r\n"])),
        hang_up_after: chance.per_mille(150).then(|| chance.millis(1..10_000)),
        ask_again: None,
    }
}

fn faults(chance: &mut Chance, settings: &Settings, acts: &mut Vec<(Time, Act)>) {
    for server in 0..SERVERS {
        for _ in 0..chance.within(0..3) {
            let at = Time::ZERO + chance.millis(0..50_000);
            let until = at + chance.millis(500..25_000);
            let (begin, end) = match chance.per_mille(400) {
                true => (Act::Crash(server), Act::Revive(server)),
                false => (Act::Behave(server, behaviour(chance)), Act::Behave(server, Behaviour::default())),
            };
            acts.extend([(at, begin), (until, end)]);
        }
    }
    if chance.per_mille(300) {
        let at = Time::ZERO + chance.millis(0..40_000);
        acts.extend([(at, Act::Drain), (at + chance.millis(100..15_000), Act::Resume)]);
    }
    for _ in 0..chance.within(0..3) {
        acts.push((Time::ZERO + chance.millis(0..58_000), Act::Reload(settings.change(chance))));
    }
    for _ in 0..chance.within(0..20) {
        let length = chance.within(1..400);
        let octets = (0..length).map(|_| chance.bits() as u8).collect();
        acts.push((Time::ZERO + chance.millis(0..58_000), Act::Noise(octets)));
    }
}

pub fn behaviour(chance: &mut Chance) -> Behaviour {
    let retry_after = chance.per_mille(500).then(|| chance.within(1..10) as u32);
    let mood = match chance.within(0..9) {
        0 => Mood::Silent,
        1 => Mood::Stalled,
        2 | 3 => Mood::Late,
        4 => Mood::Refusing(503, retry_after),
        5 => Mood::Refusing(*chance.pick(&[486, 404, 603, 302]), None),
        6 => Mood::Refusing(*chance.pick(&[500, 480, 408]), None),
        7 => Mood::Babbling,
        _ => Mood::Sound,
    };
    let ring_after = chance.per_mille(700).then(|| chance.millis(1..500));
    Behaviour { ring_after, answer_after: chance.millis(1..20_000), mood }
}
