//! What a reload changes, in operators' words, or why it is refused.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use super::cluster_settings::{Cluster, VipManager};
use super::finding::{ConfigError, Finding};
use super::prefix::Prefix;
use super::settings::{ClientCertificate, Group, Resource, Settings, Snmp, Tls};
use super::shared::{codes, joined, members, monitor, pin_by, ports, scheme, services};

/// A reload that can be applied while calls go on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of the new text, removals last. Empty: the two mean the same.
    pub changes: Vec<Change>,
}

/// One change of a [`Plan`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A key outside of the groups.
    Setting(Edit),
    /// The files of `[tls]` hold another certificate. No text says so: whoever reads them does.
    CertificateRenewed {
        /// The day on which it ends, `YYYY-MM-DD`.
        last_day: String,
    },
    /// A new group; its resources follow.
    GroupAdded {
        /// Its name.
        group: String,
    },
    /// A group that is gone; its resources follow.
    GroupRemoved {
        /// Its name.
        group: String,
    },
    /// A key of a group.
    Group {
        /// Its name.
        group: String,
        /// Which key.
        edit: Edit,
    },
    /// The groups, or one group's resources, stand in another order.
    Order {
        /// The group; `None`: the groups themselves.
        group: Option<String>,
    },
    /// A new resource: it takes calls at once.
    ResourceAdded {
        /// Its group.
        group: String,
        /// As written.
        aor: String,
        /// `port-capacity`.
        port_capacity: Option<u32>,
    },
    /// A resource that is gone: it drains, that is, it takes no new call and keeps those that it has.
    ResourceRemoved {
        /// The group that it was in.
        group: String,
        /// As written.
        aor: String,
    },
    /// A resource that changed its group; its calls stay.
    ResourceMoved {
        /// As written.
        aor: String,
        /// The group that it was in.
        from: String,
        /// The group that it is in.
        to: String,
    },
    /// The name of a resource has another address: that is another server, and the old one drains. No text says so:
    /// whoever resolves it does.
    ResourceElsewhere {
        /// As written.
        aor: String,
        /// Where it was.
        from: SocketAddr,
        /// Where it is.
        to: SocketAddr,
    },
    /// A key of a resource; its calls stay.
    Resource {
        /// As written.
        aor: String,
        /// Which key.
        edit: Edit,
    },
}

/// A key and its two values, as an operator would write them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// As in the text.
    pub key: &'static str,
    /// What it was.
    pub from: String,
    /// What it becomes.
    pub to: String,
}

/// Compares what runs with what shall run. Refused, with all reasons, if part of it needs a restart.
pub fn plan(old: &Settings, new: &Settings) -> Result<Plan, Vec<ConfigError>> {
    let refused: Vec<ConfigError> = fixed(old, new).map(|edit| needs_restart(new, edit)).collect();
    if !refused.is_empty() {
        return Err(refused);
    }
    let mut changes: Vec<Change> = settings(old, new).map(Change::Setting).collect();
    let names = |s: &'_ Settings| s.groups.iter().map(|g| g.name.clone()).collect::<Vec<_>>();
    if reordered(&names(old), &names(new)) {
        changes.push(Change::Order { group: None });
    }
    let (was, is) = (Members::of(old), Members::of(new));
    for group in &new.groups {
        self::group(&mut changes, &was, group);
    }
    for group in &old.groups {
        removed(&mut changes, group, &is);
    }
    Ok(Plan { changes })
}

/// Groups by name, and resources by canonical AOR with their group.
struct Members<'s> {
    groups: HashMap<&'s str, &'s Group>,
    resources: HashMap<&'s str, (&'s Group, &'s Resource)>,
}

impl<'s> Members<'s> {
    fn of(settings: &'s Settings) -> Self {
        let groups = settings.groups.iter();
        let resources = groups.clone().flat_map(|g| g.resources.iter().map(move |r| (r.canonical.as_str(), (g, r))));
        Self { resources: resources.collect(), groups: groups.map(|g| (g.name.as_str(), g)).collect() }
    }
}

/// What is bound, or written into dialogs, at the start.
fn fixed(old: &Settings, new: &Settings) -> impl Iterator<Item = Edit> {
    let (a, b) = (&old.cluster, &new.cluster);
    let file = |p: &Option<PathBuf>| p.as_ref().map_or("none".into(), |p| p.display().to_string());
    [
        edit("cluster.name", &a.name, &b.name),
        edit("cluster.ha-mode", a.ha_mode, b.ha_mode)
            .filter(|_| !a.modes().contains(&b.ha_mode) || a.modes() != b.modes()),
        edit("cluster.mymemberid", a.node.0, b.node.0),
        edit("cluster.secret-file", file(&a.secret_file), file(&b.secret_file)),
        edit("cluster.state-dir", a.state_dir.display(), b.state_dir.display()),
    ]
    .into_iter()
    .chain(pair(a, b))
    .chain([
        edit("proxy.sip.transport", joined(&old.listeners), joined(&new.listeners)),
        edit("proxy.sip.threadpoolsize", old.workers, new.workers),
        edit("admin.listen", old.admin, new.admin),
    ])
    .flatten()
}

/// What two nodes have agreed upon, or what was handed to the guard of the virtual IP.
fn pair(a: &Cluster, b: &Cluster) -> [Option<Edit>; 15] {
    let service = |c: &Cluster| joined(c.service_ips.iter().map(|s| format!("{}:{}", s.node.0, joined(&s.ips))));
    let witness = |c: &Cluster| c.witness.as_ref().map_or("none".into(), ToString::to_string);
    let script = |c: &Cluster| match &c.vip_manager {
        VipManager::Script { path, timeout } => (path.display().to_string(), format!("{timeout:?}")),
        VipManager::Builtin | VipManager::None => ("none".into(), "none".into()),
    };
    [
        edit("cluster.member", members(&a.members), members(&b.members)),
        edit("cluster.virtual-ip", joined(&a.virtual_ips), joined(&b.virtual_ips)),
        edit("cluster.virtual-ip-in-via", a.in_via, b.in_via),
        edit("cluster.service-ip", service(a), service(b)),
        edit("cluster.witness", witness(a), witness(b)),
        edit("cluster.floor", a.floor, b.floor),
        edit("cluster.cold-reserve", a.cold_reserve, b.cold_reserve),
        edit("cluster.peer-tls", a.peer_tls, b.peer_tls),
        spans("cluster.beat-interval", a.timing.beat, b.timing.beat),
        spans("cluster.suspicion-timeout", a.timing.suspicion, b.timing.suspicion),
        spans("cluster.guard-limit", a.timing.guard_limit, b.timing.guard_limit),
        spans("cluster.boot-hold", a.timing.boot_hold, b.timing.boot_hold),
        edit("cluster.vip-manager", &a.vip_manager, &b.vip_manager),
        edit("cluster.failover-script", script(a).0, script(b).0),
        edit("cluster.failover-script-timeout", script(a).1, script(b).1),
    ]
}

fn needs_restart(new: &Settings, edit: Edit) -> ConfigError {
    Finding {
        place: new.places.of(edit.key),
        key: edit.key.into(),
        cause: format!("`{}` cannot change from {} to {} while calls go on", edit.key, edit.from, edit.to),
        suggestion: Some(String::from("put it back, or restart")),
    }
}

fn settings(old: &Settings, new: &Settings) -> impl Iterator<Item = Edit> {
    let (a, b) = (&old.proxy, &new.proxy);
    let (was, is) = (&old.cluster, &new.cluster);
    let networks = |list: &[Prefix]| list.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    let sources = |s: &Settings| s.allow_from.as_deref().map_or("everybody".into(), networks);
    let balancers = |s: &Settings| match &s.proxy_protocol_from[..] {
        [] => "nobody".into(),
        list => networks(list),
    };
    let file = |s: &Settings, of: fn(&Tls) -> Option<&PathBuf>| {
        s.tls.as_ref().and_then(of).map_or("none".into(), |p| p.display().to_string())
    };
    let files = |of: fn(&Tls) -> Option<&PathBuf>| (file(old, of), file(new, of));
    let (certificates, keys) = (files(|t| Some(&t.certificate)), files(|t| Some(&t.key)));
    let authorities = files(|t| t.trusted_ca.as_ref());
    [
        edit("ha-mode", was.ha_mode, is.ha_mode),
        edit("partition", was.partition, is.partition),
        edit("commit", was.commit, is.commit),
        spans("commit-timeout", was.commit_timeout, is.commit_timeout),
        edit("reference-points", joined(&was.reference_points), joined(&is.reference_points)),
        edit("priority", was.priority, is.priority),
        edit("preempt", was.preempt, is.preempt),
        edit("sip.allow-from", sources(old), sources(new)),
        edit("sip.proxy-protocol-from", balancers(old), balancers(new)),
        spans("sip.timer.t1", a.t1, b.t1),
        spans("sip.timer.t2", a.t2, b.t2),
        spans("sip.timer.t4", a.t4, b.t4),
        spans("sip.timer.c", a.timer_c, b.timer_c),
        edit("sip.retried-invite", a.retried, b.retried),
        spans("inactivity-lease", a.inactivity, b.inactivity),
        spans("drain-timeout", old.drain_timeout, new.drain_timeout),
        edit("server-header", quoted(&a.server), quoted(&b.server)),
        edit("drill", old.drill, new.drill),
        edit("level", word(old.log_level), word(new.log_level)),
        edit("certificate", certificates.0, certificates.1),
        edit("key", keys.0, keys.1),
        edit("trusted-ca", authorities.0, authorities.1),
        edit("client-certificate", client_certificate(old), client_certificate(new)),
        edit("peer-names", peer_names(old), peer_names(new)),
    ]
    .into_iter()
    .chain(snmp(old.snmp.as_ref(), new.snmp.as_ref()))
    .flatten()
}

/// A community is named and never shown.
fn snmp(old: Option<&Snmp>, new: Option<&Snmp>) -> [Option<Edit>; 4] {
    let told = |snmp: Option<&Snmp>, tell: fn(&Snmp) -> String| snmp.map_or("none".into(), tell);
    let edit = |key, tell: fn(&Snmp) -> String| edit(key, told(old, tell), told(new, tell));
    let community = || Edit { key: "community", from: "one".into(), to: "another".into() };
    [
        edit("trap-target", |snmp| joined(&snmp.targets)),
        edit("version", |snmp| snmp.version.to_string()),
        edit("enterprise", |snmp| snmp.enterprise.to_string()),
        old.zip(new).filter(|(old, new)| old.community != new.community).map(|_| community()),
    ]
}

fn group(changes: &mut Vec<Change>, old: &Members<'_>, group: &Group) {
    let name = || group.name.clone();
    match old.groups.get(group.name.as_str()) {
        None => changes.push(Change::GroupAdded { group: name() }),
        Some(was) => {
            changes.extend(group_edits(was, group).map(|edit| Change::Group { group: name(), edit }));
            let ids = |g: &'_ Group| g.resources.iter().map(|r| r.canonical.clone()).collect::<Vec<_>>();
            if reordered(&ids(was), &ids(group)) {
                changes.push(Change::Order { group: Some(name()) });
            }
        }
    }
    for resource in &group.resources {
        let Some((from, was)) = old.resources.get(resource.canonical.as_str()) else {
            let (aor, port_capacity) = (resource.aor.clone(), resource.port_capacity);
            changes.push(Change::ResourceAdded { group: name(), aor, port_capacity });
            continue;
        };
        if from.name != group.name {
            let aor = resource.aor.clone();
            changes.push(Change::ResourceMoved { aor, from: from.name.clone(), to: name() });
        }
        let aor = || resource.aor.clone();
        changes.extend(resource_edits(was, resource).map(|edit| Change::Resource { aor: aor(), edit }));
    }
}

fn removed(changes: &mut Vec<Change>, group: &Group, new: &Members<'_>) {
    let name = || group.name.clone();
    if !new.groups.contains_key(group.name.as_str()) {
        changes.push(Change::GroupRemoved { group: name() });
    }
    for resource in group.resources.iter().filter(|r| !new.resources.contains_key(r.canonical.as_str())) {
        changes.push(Change::ResourceRemoved { group: name(), aor: resource.aor.clone() });
    }
}

fn group_edits(was: &Group, is: &Group) -> impl Iterator<Item = Edit> {
    [
        edit("service-types", services(was), services(is)),
        edit("load-balance-scheme", scheme(was), scheme(is)),
        edit("monitor-method", monitor(was), monitor(is)),
        edit("noresource-response-code", was.noresource_response_code, is.noresource_response_code),
        spans("first-response-timeout", was.terms.first_response_timeout, is.terms.first_response_timeout),
        edit("retry-codes", codes(was), codes(is)),
        edit("pin-by", pin_by(was), pin_by(is)),
    ]
    .into_iter()
    .flatten()
}

fn resource_edits(was: &Resource, is: &Resource) -> impl Iterator<Item = Edit> {
    [
        edit("aor", &was.aor, &is.aor),
        edit("port-capacity", ports(was.port_capacity), ports(is.port_capacity)),
        edit("aliases", joined(&was.aliases), joined(&is.aliases)),
        edit("tcp", was.also_tcp, is.also_tcp),
    ]
    .into_iter()
    .flatten()
}

/// Whether those that both sides have stand in another order.
fn reordered(old: &[String], new: &[String]) -> bool {
    let (before, after): (HashSet<_>, HashSet<_>) = (old.iter().collect(), new.iter().collect());
    !old.iter().filter(|o| after.contains(o)).eq(new.iter().filter(|n| before.contains(n)))
}

fn edit(key: &'static str, from: impl ToString, to: impl ToString) -> Option<Edit> {
    let (from, to) = (from.to_string(), to.to_string());
    (from != to).then_some(Edit { key, from, to })
}

fn spans(key: &'static str, from: std::time::Duration, to: std::time::Duration) -> Option<Edit> {
    edit(key, format!("{from:?}"), format!("{to:?}"))
}

fn client_certificate(settings: &Settings) -> &'static str {
    match settings.tls.as_ref().map(|tls| tls.client_certificate).unwrap_or_default() {
        ClientCertificate::None => "none",
        ClientCertificate::Request => "request",
        ClientCertificate::Require => "require",
    }
}

fn peer_names(settings: &Settings) -> String {
    match settings.tls.as_ref().map(|tls| tls.peer_names.as_slice()) {
        None | Some([]) => "any".into(),
        Some(names) => names.join(" "),
    }
}

fn quoted(text: &str) -> String {
    format!("\"{text}\"")
}

fn word(level: tracing::Level) -> String {
    level.to_string().to_ascii_lowercase()
}

impl fmt::Display for Edit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}` from {} to {}", self.key, self.from, self.to)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Setting(edit) => edit.fmt(f),
            Change::CertificateRenewed { last_day } => {
                write!(f, "the certificate is another one, good until {last_day}")
            }
            Change::GroupAdded { group } => write!(f, "group {group} is new"),
            Change::GroupRemoved { group } => write!(f, "group {group} is removed"),
            Change::Group { group, edit } => write!(f, "group {group}: {edit}"),
            Change::Order { group: None } => write!(f, "the groups stand in another order"),
            Change::Order { group: Some(group) } => write!(f, "group {group}: resources stand in another order"),
            Change::ResourceAdded { group, aor, port_capacity } => {
                write!(f, "group {group}: {aor} is new, port-capacity {}", ports(*port_capacity))
            }
            Change::ResourceRemoved { group, aor } => write!(f, "group {group}: {aor} is removed; it drains"),
            Change::ResourceMoved { aor, from, to } => write!(f, "{aor} moves from group {from} to {to}"),
            Change::ResourceElsewhere { aor, from, to } => write!(f, "{aor} leads to {to} now; {from} drains"),
            Change::Resource { aor, edit } => write!(f, "{aor}: {edit}"),
        }
    }
}

/// One change per line.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.changes.is_empty() {
            return f.write_str("nothing changes");
        }
        for (n, change) in self.changes.iter().enumerate() {
            write!(f, "{}{change}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}
