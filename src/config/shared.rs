//! What both nodes of a pair must have alike, as lines that can be compared and told.

use std::fmt::{self, Display};

use super::cluster_settings::{Cluster, Member, VirtualIp};
use super::settings::{Group, Settings};
use crate::balance::PinBy;
use crate::base::Epoch;
use crate::cluster;

/// One thing that both nodes must have alike: a key as in the text (groups and resources by name) and its value as an
/// operator would write it. Defaults are written out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// Such as `cluster.commit` or `resource-group[MCP_LRG].retry-codes`. Each occurs once.
    pub key: String,
    /// Never a secret.
    pub value: String,
}

impl Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}", self.key, self.value)
    }
}

/// What differs, one sentence each, in the order of `ours`. Keys that only one side knows come from another version and
/// are left out; a group or resource that one side lacks shows in the list that names them all.
pub fn differences(ours: &[Shared], theirs: &[Shared]) -> Vec<String> {
    let differ = |our: &Shared| {
        let their = theirs.iter().find(|t| t.key == our.key && t.value != our.value)?;
        Some(format!("`{}` is {} here and {} there", our.key, our.value, their.value))
    };
    ours.iter().filter_map(differ).collect()
}

impl Settings {
    /// What both nodes must have alike. Left out is what is a node's own: its id, paths of files, `[admin]`, `[log]`,
    /// threads, the drain timeout, priority, reference points, the names of interfaces.
    pub fn shared_lines(&self) -> Vec<Shared> {
        let mut lines = Lines::default();
        cluster_lines(&mut lines, &self.cluster);
        lines.put("proxy.sip.transport", listeners(self));
        let proxy = &self.proxy;
        lines.put("proxy.sip.timer.t1", format!("{:?}", proxy.t1));
        lines.put("proxy.sip.timer.t2", format!("{:?}", proxy.t2));
        lines.put("proxy.sip.timer.t4", format!("{:?}", proxy.t4));
        lines.put("proxy.sip.timer.c", format!("{:?}", proxy.timer_c));
        lines.put("proxy.sip.retried-invite", proxy.retried);
        lines.put("proxy.inactivity-lease", format!("{:?}", proxy.inactivity));
        lines.put("proxy.server-header", format!("{:?}", proxy.server));
        lines.put("resource-group", joined(self.groups.iter().map(|g| &g.name)));
        self.groups.iter().for_each(|g| group(&mut lines, g));
        lines.0
    }

    /// A hash of [`Settings::shared_lines`]: it differs when the lines do (but for chance, 2^-64). Neighbouring versions
    /// may know other keys: only [`differences`] tells whether that is all.
    pub fn shared_digest(&self) -> u64 {
        let mut hasher = blake3::Hasher::new_derive_key("tandem 1 configuration");
        for part in self.shared_lines().iter().flat_map(|line| [&line.key, &line.value]) {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        first64(&hasher)
    }
}

impl Settings {
    /// What the roles of the cluster are decided by. `incarnation`: random per process start; `counter`: the durable
    /// counter of this start, already written.
    pub fn roles(&self, incarnation: u64, counter: u32) -> cluster::Config {
        let settings = &self.cluster;
        let peer = |m: &Member| cluster::PeerConfig { id: m.id, paths: m.paths.len() as u8 };
        cluster::Config {
            me: settings.node,
            incarnation,
            counter,
            cluster: first64(blake3::Hasher::new_derive_key("tandem 1 cluster name").update(settings.name.as_bytes())),
            mode: cluster::Mode { mode: settings.ha_mode, word: Epoch { counter: 0, node: settings.first() } },
            modes: settings.modes(),
            shared: settings.is_shared(),
            leads: settings.is_crossed() && !settings.virtual_ips.is_empty(),
            peers: settings.peer().map(peer).into_iter().collect(),
            // Those of a node alone are not checked against each other, and nobody waits by them.
            timing: if settings.is_pair() { settings.timing.clone() } else { cluster::Timing::default() },
            // What a balancer holds tells nothing of the node behind it.
            probes: !settings.is_shared() || settings.is_crossed(),
            crossed: settings.is_crossed().then(|| self.longest_transaction()),
            partition: settings.partition,
            priority: settings.priority,
            preempt: settings.preempt,
            config: self.shared_digest(),
        }
    }
}

impl Settings {
    /// How long a transaction may be expected to live: Timer C, once more after a takeover, and what its final is repeated
    /// for (RFC 3261 §16.6 item 11, §17.2.1).
    fn longest_transaction(&self) -> std::time::Duration {
        self.proxy.timer_c * 2 + self.proxy.t1 * 64
    }
}

fn first64(hasher: &blake3::Hasher) -> u64 {
    let hash = hasher.finalize();
    let (words, _) = hash.as_bytes().as_chunks::<8>();
    u64::from_le_bytes(words[0])
}

#[derive(Default)]
struct Lines(Vec<Shared>);

impl Lines {
    fn put(&mut self, key: impl Into<String>, value: impl Display) {
        self.0.push(Shared { key: key.into(), value: value.to_string() });
    }
}

fn cluster_lines(lines: &mut Lines, cluster: &Cluster) {
    lines.put("cluster.name", &cluster.name);
    // The mode is agreed upon; what kind of addresses the nodes have is not.
    lines.put("cluster.ha-mode", if cluster.is_shared() { "active-active" } else { "active-standby" });
    for member in &cluster.members {
        lines.put(format!("cluster.member.{}", member.id.0), joined(&member.paths));
    }
    let plain = |vip: &VirtualIp| VirtualIp { interface: None, ..vip.clone() };
    lines.put("cluster.virtual-ip", joined(cluster.virtual_ips.iter().map(plain)));
    for service in &cluster.service_ips {
        lines.put(format!("cluster.service-ip.{}", service.node.0), joined(service.ips.iter().map(plain)));
    }
    if cluster.is_shared() {
        // Elsewhere it has no meaning, and a node that does not know it yet is alike.
        lines.put("cluster.virtual-ip-in-via", cluster.in_via);
    }
    lines.put("cluster.partition", cluster.partition);
    if let Some(witness) = &cluster.witness {
        // A node that does not know it yet is alike where there is none.
        lines.put("cluster.witness", witness);
    }
    lines.put("cluster.floor", cluster.floor);
    lines.put("cluster.cold-reserve", cluster.cold_reserve);
    lines.put("cluster.peer-tls", cluster.peer_tls);
    lines.put("cluster.commit", cluster.commit);
    lines.put("cluster.commit-timeout", format!("{:?}", cluster.commit_timeout));
    lines.put("cluster.beat-interval", format!("{:?}", cluster.timing.beat));
    lines.put("cluster.suspicion-timeout", format!("{:?}", cluster.timing.suspicion));
    lines.put("cluster.guard-limit", format!("{:?}", cluster.timing.guard_limit));
    lines.put("cluster.preempt", cluster.preempt);
    lines.put("cluster.vip-manager", &cluster.vip_manager);
}

/// Where a pair takes SIP at its virtual IPs, however each node wrote it; without any, the listeners as written.
fn listeners(settings: &Settings) -> String {
    let vips = &settings.cluster.virtual_ips;
    if vips.is_empty() || !settings.cluster.is_pair() {
        return joined(&settings.listeners);
    }
    let mut found = Vec::new();
    for vip in vips {
        for listen in settings.listeners.iter().filter(|l| l.takes(vip.ip)) {
            let mut at = *listen;
            at.addr.set_ip(vip.ip);
            found.push(at.to_string());
        }
    }
    found.sort();
    joined(found)
}

fn group(lines: &mut Lines, group: &Group) {
    let at = |key: &str| format!("resource-group[{}].{key}", group.name);
    lines.put(at("service-types"), services(group));
    lines.put(at("load-balance-scheme"), scheme(group));
    lines.put(at("monitor-method"), monitor(group));
    lines.put(at("noresource-response-code"), group.noresource_response_code);
    lines.put(at("first-response-timeout"), format!("{:?}", group.terms.first_response_timeout));
    lines.put(at("retry-codes"), codes(group));
    if group.pin_by.is_some() {
        lines.put(at("pin-by"), pin_by(group));
    }
    lines.put(at("resource"), joined(group.resources.iter().map(|r| &r.canonical)));
    for resource in &group.resources {
        let at = |key: &str| format!("resource[{}].{key}", resource.canonical);
        lines.put(at("port-capacity"), ports(resource.port_capacity));
        lines.put(at("aliases"), joined(&resource.aliases));
        lines.put(at("tcp"), resource.also_tcp);
    }
}

/// Members as an operator would list them.
pub(super) fn members(members: &[Member]) -> String {
    joined(members.iter().map(|m| format!("{}:[{}]", m.id.0, joined(&m.paths))))
}

pub(super) fn services(group: &Group) -> String {
    if group.service_types.is_empty() { "all".into() } else { group.service_types.join(" ") }
}

pub(super) fn pin_by(group: &Group) -> String {
    match &group.pin_by {
        None => "none".into(),
        Some(PinBy::Header(name)) => format!("header {name}"),
        Some(PinBy::UriParameter(name)) => format!("uri-parameter {name}"),
    }
}

pub(super) fn scheme(group: &Group) -> &'static str {
    use crate::balance::SchemeName::{LeastPercent, LeastUsed, RoundRobin};
    match group.scheme {
        RoundRobin => "round-robin",
        LeastUsed => "least-used",
        LeastPercent => "least-percent",
    }
}

pub(super) fn monitor(group: &Group) -> String {
    group.monitor.map_or("none".into(), |m| {
        let (interval, timeout) = (m.interval, m.timeout);
        format!("option every {interval:?} within {timeout:?}, down after {}, up after {}", m.down_after, m.up_after)
    })
}

pub(super) fn codes(group: &Group) -> String {
    joined(group.terms.retry_codes.iter().map(|range| match (range.start(), range.end()) {
        (first, last) if first == last => first.to_string(),
        (first, last) => format!("{first}-{last}"),
    }))
}

pub(super) fn ports(capacity: Option<u32>) -> String {
    capacity.map_or("unlimited".into(), |n| n.to_string())
}

/// Values with spaces between, or `none`.
pub(super) fn joined(values: impl IntoIterator<Item = impl Display>) -> String {
    let all: Vec<String> = values.into_iter().map(|v| v.to_string()).collect();
    if all.is_empty() { "none".into() } else { all.join(" ") }
}
