//! `[cluster]`.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use toml::de::DeValue;

use super::cluster_settings::{Cluster, Commit, Member, ServiceIps, VipManager, VirtualIp};
use super::entry::{Refused, entries, one_or_more, read, single};
use super::reader::{Reader, Section, Value, shorten};
use super::witness::witness;
use crate::base::{NodeId, limits};
use crate::cluster::{HaMode, Partition, Timing};

/// Virtual IPs of one cluster.
const VIRTUAL_IPS: usize = 16;
/// Reference points: each is asked when the peer falls silent.
const REFERENCE_POINTS: usize = 16;
/// Octets of an interface's name (Linux, IFNAMSIZ without the final zero).
const INTERFACE: usize = 15;

/// Keys that have an effect only in a pair.
const PAIR: [&str; 22] = [
    "member",
    "members",
    "virtual-ip",
    "virtual-ip-in-via",
    "service-ip",
    "reference-points",
    "partition",
    "witness",
    "floor",
    "cold-reserve",
    "commit",
    "commit-timeout",
    "beat-interval",
    "suspicion-timeout",
    "guard-limit",
    "boot-hold",
    "priority",
    "preempt",
    "vip-manager",
    "failover-script",
    "failover-script-timeout",
    "peer-tls",
];

/// Reads the section. What no single key shows is left to `pair`.
pub(super) fn cluster(reader: &mut Reader<'_>, section: &Section<'_>) -> Cluster {
    let ha_mode = ha_mode(reader, section);
    let has = |key: &str| section.value(key).is_some();
    let rests = has("member") && (has("virtual-ip") || has("service-ip"));
    match ha_mode {
        Some(HaMode::ActiveStandby) => {
            required(reader, section);
            reader.missing(section, "virtual-ip", "write the address that both nodes put into Record-Route and Via");
            reader.idle(section, "virtual-ip-in-via", "in active-standby: it always is");
        }
        Some(HaMode::ActiveActive) => shared(reader, section),
        // A pair at rest, which may be told to be another one while it runs.
        Some(HaMode::None) if rests => required(reader, section),
        Some(HaMode::None) => PAIR.iter().for_each(|key| reader.idle(section, key, "while `ha-mode` is \"none\"")),
        None => {}
    }
    if ha_mode == Some(HaMode::ActiveActive) || has("service-ip") && (rests || ha_mode != Some(HaMode::None)) {
        reader.idle(section, "floor", "where both nodes can serve: each has half of every limit");
        reader.idle(section, "preempt", "where both nodes can serve");
    }
    let ms = Duration::from_millis;
    let partitions = [
        ("available", Partition::Available),
        ("exact", Partition::Exact),
        ("prefer-lower-id", Partition::PreferLowerId),
        ("witness", Partition::Witness),
    ];
    let commits = [("peer-ack", Commit::PeerAck), ("async", Commit::Async)];
    let members = members(reader, section);
    let balanced = ha_mode == Some(HaMode::ActiveActive) && !has("service-ip");
    let shared = balanced || has("service-ip");
    let partition = if shared { Partition::Exact } else { Partition::Available };
    Cluster {
        name: name(reader, section).unwrap_or("tandem").into(),
        ha_mode: ha_mode.unwrap_or(HaMode::None),
        node: NodeId(reader.number(section, "mymemberid", 1..=65_535).map_or(1, |n| n as u16)),
        secret_file: path(reader, section, "secret-file"),
        state_dir: path(reader, section, "state-dir").unwrap_or_else(|| PathBuf::from("/var/lib/tandem")),
        service_ips: service_ips(reader, section, &members),
        members,
        virtual_ips: entries(reader, section, "virtual-ip", VIRTUAL_IPS, virtual_ip),
        reference_points: entries(reader, section, "reference-points", REFERENCE_POINTS, single_ip),
        witness: section.value("witness").and_then(|value| read(reader, section, "witness", value, witness)),
        in_via: reader.boolean(section, "virtual-ip-in-via").unwrap_or(false) && balanced,
        partition: reader.choice(section, "partition", &partitions).unwrap_or(partition),
        floor: reader
            .number(section, "floor", 50..=100)
            .filter(|_| !shared)
            .map_or(if shared { 50 } else { 90 }, |n| n as u8),
        cold_reserve: reader.number(section, "cold-reserve", 0..=90).map_or(10, |n| n as u8),
        commit: reader.choice(section, "commit", &commits).unwrap_or_default(),
        commit_timeout: reader.duration(section, "commit-timeout", ms(1)..=ms(100)).unwrap_or(ms(5)),
        timing: timing(reader, section),
        priority: reader.number(section, "priority", 0..=255).map_or(100, |n| n as u8),
        preempt: reader.boolean(section, "preempt").unwrap_or(false) && !shared,
        vip_manager: match balanced {
            true => VipManager::None,
            false => vip_manager(reader, section),
        },
        peer_tls: reader.boolean(section, "peer-tls").unwrap_or(false),
    }
}

fn name<'a>(reader: &mut Reader<'_>, section: &Section<'a>) -> Option<&'a str> {
    let name = reader.text(section, "name")?;
    if name.is_empty() || name.len() > 64 || !name.bytes().all(|b| b.is_ascii_graphic()) {
        let at = section.value("name")?.span().start;
        reader.refuse(section, "name", at, "must be 1 to 64 printable characters without spaces", None);
        return None;
    }
    Some(name)
}

/// The model's three words. `None`: it could not be read, so that nobody knows what else belongs to it.
fn ha_mode(reader: &mut Reader<'_>, section: &Section<'_>) -> Option<HaMode> {
    let modes =
        [("none", HaMode::None), ("active-standby", HaMode::ActiveStandby), ("active-active", HaMode::ActiveActive)];
    match section.value("ha-mode") {
        Some(_) => reader.choice(section, "ha-mode", &modes),
        None => Some(HaMode::None),
    }
}

/// Every node serves: a balancer, or the SIP Server itself, spreads the calls, and no address moves.
fn shared(reader: &mut Reader<'_>, section: &Section<'_>) {
    required(reader, section);
    let crossed = section.value("service-ip").is_some();
    for key in ["vip-manager", "failover-script", "failover-script-timeout", "guard-limit"] {
        if !crossed {
            reader.idle(section, key, "in active-active without `service-ip`: no address moves");
        }
    }
}

fn required(reader: &mut Reader<'_>, section: &Section<'_>) {
    reader.missing(section, "mymemberid", "write the N of this node's own `member.N`");
    reader.missing(
        section,
        "member",
        "write member.1 = \"IP:9801\" and member.2 = \"IP:9801\", the same on both nodes",
    );
}

fn timing(reader: &mut Reader<'_>, section: &Section<'_>) -> Timing {
    let (ms, default) = (Duration::from_millis, Timing::default());
    let beat = reader.duration(section, "beat-interval", ms(10)..=ms(500));
    let suspicion = reader.duration(section, "suspicion-timeout", ms(50)..=ms(2_000));
    let guard = reader.duration(section, "guard-limit", ms(30)..=ms(1_000));
    // What the kernel still holds for a node that died must be gone before another one claims it.
    let hold = reader.duration(section, "boot-hold", default.lease..=ms(300_000));
    Timing {
        beat: beat.unwrap_or(default.beat),
        suspicion: suspicion.unwrap_or(default.suspicion),
        guard_limit: guard.unwrap_or(default.guard_limit),
        boot_hold: hold.unwrap_or(default.boot_hold),
        ..default
    }
}

/// `member.N`, and the model's `members`, which only repeats the ids.
fn members(reader: &mut Reader<'_>, section: &Section<'_>) -> Vec<Member> {
    let mut members: Vec<Member> = Vec::new();
    for (id, key, value) in numbered(reader, section, "member", "member.1 = \"192.0.2.11:9801\"") {
        let values = one_or_more(reader, section, &key, value, limits::PATHS);
        let mut paths: Vec<SocketAddr> = Vec::new();
        for (n, value) in values.iter().enumerate() {
            let place = reader.place(value.span().start);
            reader.places.put(section.full(&format!("{key}[{n}]")), place);
            paths.extend(read(reader, section, &key, value, member_path));
        }
        if paths.len() < values.len() {
            // Half of a list would look like a contradiction to the other member's.
            paths.clear();
        }
        members.push(Member { id, paths });
    }
    members.sort_by_key(|m| m.id);
    if let (Some(text), Some(value)) = (reader.text(section, "members"), section.value("members")) {
        let mut listed: Vec<Option<u16>> = text.split([' ', ',']).filter(|w| !w.is_empty()).map(id).collect();
        listed.sort();
        if !listed.iter().copied().eq(members.iter().map(|m| Some(m.id.0))) {
            let cause = format!("lists \"{}\", but {}", shorten(text), have(&members));
            let suggestion = Some(String::from("remove it: the keys `member.N` say it already"));
            reader.refuse(section, "members", value.span().start, &cause, suggestion);
        }
    }
    members
}

fn have(members: &[Member]) -> String {
    match members {
        [] => String::from("there is no `member.N`"),
        some => {
            let keys: Vec<String> = some.iter().map(|m| format!("`member.{}`", m.id.0)).collect();
            format!("the members are {}", keys.join(", "))
        }
    }
}

fn id(text: &str) -> Option<u16> {
    text.parse().ok().filter(|id| *id > 0)
}

/// The values of `KEY.N`, with N and the key in full.
fn numbered<'a>(
    reader: &mut Reader<'_>,
    section: &Section<'a>,
    key: &str,
    example: &str,
) -> Vec<(NodeId, String, &'a Value<'a>)> {
    let Some(value) = section.value(key) else { return Vec::new() };
    let DeValue::Table(table) = value.get_ref() else {
        let suggestion = Some(format!("write for example {example}"));
        reader.refuse(section, key, value.span().start, "has one entry for each member", suggestion);
        return Vec::new();
    };
    let mut found: Vec<(NodeId, String, &Value<'_>)> = Vec::new();
    for (n, value) in table {
        let id = id(n.get_ref()).filter(|id| !found.iter().any(|(other, ..)| other.0 == *id));
        let Some(id) = id else {
            let cause = format!("has the entry `{key}.{}`, whose end is no id of a member", shorten(n.get_ref()));
            let suggestion = Some(String::from("ids are 1 to 65535, each once"));
            reader.refuse(section, key, n.span().start, &cause, suggestion);
            continue;
        };
        let full = format!("{key}.{id}");
        reader.places.put(section.full(&full), reader.place(value.span().start));
        found.push((NodeId(id), full, value));
    }
    found
}

fn service_ips(reader: &mut Reader<'_>, section: &Section<'_>, members: &[Member]) -> Vec<ServiceIps> {
    let mut found = Vec::new();
    for (node, key, value) in numbered(reader, section, "service-ip", "service-ip.1 = \"192.0.2.21\"") {
        if !members.is_empty() && !members.iter().any(|m| m.id == node) {
            let cause = format!("is for a member that there is not: {}", have(members));
            reader.refuse(section, &key, value.span().start, &cause, None);
        }
        let values = one_or_more(reader, section, &key, value, VIRTUAL_IPS);
        let ips = values.iter().filter_map(|value| read(reader, section, &key, value, virtual_ip)).collect();
        found.push(ServiceIps { node, ips });
    }
    found.sort_by_key(|s| s.node);
    found
}

fn vip_manager(reader: &mut Reader<'_>, section: &Section<'_>) -> VipManager {
    let ms = Duration::from_millis;
    let script = path(reader, section, "failover-script").filter(|script| {
        if script.is_relative() {
            let at = section.value("failover-script").map_or(section.at, |v| v.span().start);
            reader.refuse(section, "failover-script", at, "is not an absolute path", None);
        }
        script.is_absolute()
    });
    let timeout = reader.duration(section, "failover-script-timeout", ms(100)..=ms(300_000)).unwrap_or(ms(5_000));
    let managers = [("builtin", "builtin"), ("script", "script"), ("none", "none")];
    let manager = reader.choice(section, "vip-manager", &managers).unwrap_or("builtin");
    if manager == "script" {
        reader.missing(section, "failover-script", "write the absolute path of the program that moves the address");
        return VipManager::Script { path: script.unwrap_or_default(), timeout };
    }
    for key in ["failover-script", "failover-script-timeout"] {
        reader.idle(section, key, "unless `vip-manager` is \"script\"");
    }
    if manager == "none" { VipManager::None } else { VipManager::Builtin }
}

fn path(reader: &mut Reader<'_>, section: &Section<'_>, key: &str) -> Option<PathBuf> {
    let text = reader.text(section, key)?;
    if text.is_empty() || text.contains('\0') {
        let at = section.value(key)?.span().start;
        reader.refuse(section, key, at, "is not a path", None);
        return None;
    }
    Some(PathBuf::from(text))
}

fn member_path(text: &str) -> Result<SocketAddr, Refused> {
    const FORM: &str = "write \"IP:PORT\" with the node's own address, an IPv6 address in brackets; usual is port 9801";
    let path: SocketAddr = text.parse().map_err(|_| ("is no address with a port", FORM))?;
    if path.port() == 0 {
        return Err(("has no port that the peer could call", FORM));
    }
    single(path.ip(), FORM)?;
    Ok(path)
}

fn single_ip(text: &str) -> Result<IpAddr, Refused> {
    const FORM: &str = "write an IP address without a port";
    let ip = text.parse().map_err(|_| ("is no IP address", FORM))?;
    single(ip, FORM)?;
    Ok(ip)
}

/// `IP[/PREFIX][%INTERFACE]`.
fn virtual_ip(text: &str) -> Result<VirtualIp, Refused> {
    const FORM: &str = "write \"IP\", \"IP/PREFIX\" or \"IP/PREFIX%INTERFACE\"";
    let (rest, interface) = text.split_once('%').map_or((text, None), |(rest, name)| (rest, Some(name)));
    let (ip, prefix) = rest.split_once('/').map_or((rest, None), |(ip, prefix)| (ip, Some(prefix)));
    let ip: IpAddr = ip.parse().map_err(|_| ("is no IP address", FORM))?;
    single(ip, FORM)?;
    // RFC 4007 section 11: such an address means something only together with a zone, which no SIP URI can carry.
    if matches!(ip, IpAddr::V6(ip) if ip.is_unicast_link_local()) {
        return Err(("is valid on one link only", "write an address that SIP URIs can carry"));
    }
    let longest = if ip.is_ipv4() { 32 } else { 128 };
    let prefix = match prefix.map(|p| p.parse().ok().filter(|p| (1..=longest).contains(p))) {
        Some(None) => return Err(("has no such prefix", "write 1 to 32 for IPv4, 1 to 128 for IPv6")),
        Some(prefix) => prefix,
        None => None,
    };
    let odd = |name: &str| {
        name.is_empty() || name.len() > INTERFACE || name.bytes().any(|b| !b.is_ascii_graphic() || b == b'/')
    };
    if interface.is_some_and(odd) {
        return Err(("has no name of an interface", FORM));
    }
    Ok(VirtualIp { ip, prefix, interface: interface.map(String::from) })
}
