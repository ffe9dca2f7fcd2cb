//! What no single key of `[cluster]` shows: a pair whose parts do not fit, and what its choices cost.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::cluster_settings::{Commit, Member, VipManager};
use super::reader::{Reader, shorten};
use super::services;
use super::settings::Settings;
use super::sound::{error, overlap, warn};
use super::witness::Witness;
use crate::base::Transport;
use crate::cluster::{Partition, Timing, TimingError};

/// Notes what contradicts itself in the pair that `settings` describe; nothing without one.
pub(super) fn check(reader: &mut Reader<'_>, settings: &Settings) {
    if !settings.cluster.is_pair() {
        return;
    }
    members(reader, settings);
    virtual_ips(reader, settings);
    services::check(reader, settings);
    on_loopback(reader, settings);
    if settings.cluster.is_shared() && !settings.cluster.is_crossed() {
        shared(reader, settings);
    }
    listeners(reader, settings);
    resources(reader, settings);
    reference_points(reader, settings);
    timing(reader, &settings.cluster.timing);
    witness(reader, settings);
    costs(reader, settings);
}

/// Every path of every member, with its key.
fn paths(settings: &Settings) -> impl Iterator<Item = (&Member, usize, SocketAddr, String)> {
    let key = |m: &Member, n: usize| format!("cluster.member.{}[{n}]", m.id.0);
    settings
        .cluster
        .members
        .iter()
        .flat_map(move |m| m.paths.iter().enumerate().map(move |(n, path)| (m, n, *path, key(m, n))))
}

fn members(reader: &mut Reader<'_>, settings: &Settings) {
    let cluster = &settings.cluster;
    let [first, second] = cluster.members.as_slice() else {
        // None at all: its absence, or what makes it unreadable, is told already.
        if !cluster.members.is_empty() {
            let cause =
                format!("{} is for two nodes, but [cluster] has {} `member.N`", cluster.ha_mode, cluster.members.len());
            error(reader, "cluster.member".into(), cause, Some("name both nodes, the same on each"));
        }
        return;
    };
    if ![first.id, second.id].contains(&cluster.node) {
        let cause = format!(
            "`mymemberid` in [cluster] is {}, but the members are {} and {}",
            cluster.node.0, first.id.0, second.id.0
        );
        error(reader, "cluster.mymemberid".into(), cause, Some("write the N of this node's own `member.N`"));
    }
    if first.paths.len() != second.paths.len() && !first.paths.is_empty() && !second.paths.is_empty() {
        let cause = format!(
            "member {} has {} and member {} has {}: each path has two ends",
            first.id.0,
            counted(first.paths.len()),
            second.id.0,
            counted(second.paths.len())
        );
        error(reader, format!("cluster.member.{}", second.id.0), cause, Some("list the paths of both in one order"));
        return;
    }
    for (n, (a, b)) in first.paths.iter().zip(&second.paths).enumerate() {
        if a.is_ipv4() != b.is_ipv4() {
            let cause = format!("path {} leads from {a} to {b}: one end is IPv4, the other IPv6", n + 1);
            error(reader, format!("cluster.member.{}[{n}]", second.id.0), cause, None);
        }
    }
    distinct(reader, settings);
}

fn counted(paths: usize) -> String {
    format!("{paths} path{}", if paths == 1 { "" } else { "s" })
}

/// Each path has an address of its own, on which nothing else listens.
fn distinct(reader: &mut Reader<'_>, settings: &Settings) {
    let mut seen: Vec<(u16, SocketAddr)> = Vec::new();
    for (member, _, path, key) in paths(settings) {
        let taken =
            |(other, addr): &&(u16, SocketAddr)| *addr == path || addr.ip() == path.ip() && *other == member.id.0;
        if let Some((other, _)) = seen.iter().find(taken) {
            let cause = format!("{path} of member {} is an address of member {other} again", member.id.0);
            error(reader, key.clone(), cause, Some("a path that fails together with another one is no second path"));
        }
        seen.push((member.id.0, path));
        if settings.cluster.virtual_ips.iter().any(|vip| vip.ip == path.ip()) {
            let cause = format!("{path} of member {} is the virtual IP, which moves between the nodes", member.id.0);
            error(reader, key.clone(), cause, Some("write the node's own address"));
        }
        if member.id != settings.cluster.node {
            continue;
        }
        if let Some(listen) = settings.listeners.iter().find(|l| overlap(l.addr, path)) {
            let cause = format!("{path} of member {} is where {listen} listens", member.id.0);
            error(reader, key.clone(), cause, Some("give the peer link a port of its own, usually 9801"));
        }
        if overlap(settings.admin, path) {
            let cause = format!("{path} of member {} is where [admin] listens", member.id.0);
            error(reader, key, cause, Some("give the peer link a port of its own, usually 9801"));
        }
    }
}

fn virtual_ips(reader: &mut Reader<'_>, settings: &Settings) {
    let vips = &settings.cluster.virtual_ips;
    for (n, vip) in vips.iter().enumerate() {
        let key = format!("cluster.virtual-ip[{n}]");
        if vips[..n].iter().any(|other| other.ip == vip.ip) {
            error(reader, key.clone(), format!("the virtual IP {} is there twice", vip.ip), Some("keep one of them"));
            continue;
        }
        if !settings.listeners.is_empty() && !settings.listeners.iter().any(|l| l.takes(vip.ip)) {
            let cause = format!("no listener takes SIP that is sent to the virtual IP {}", vip.ip);
            let example = SocketAddr::new(vip.ip, 5060);
            let cure = format!("add \"udp:{example}\" to `sip.transport` in [proxy], or a wildcard of its family");
            error(reader, key, cause, Some(&cure));
        }
    }
}

/// Two nodes on one machine take turns at a port of UDP. A stream would die with its node in any case.
fn on_loopback(reader: &mut Reader<'_>, settings: &Settings) {
    if !settings.cluster.is_on_loopback() {
        return;
    }
    let vips = &settings.cluster.virtual_ips;
    for (n, listen) in settings.listeners.iter().enumerate() {
        if listen.transport == Transport::Tcp && vips.iter().any(|vip| vip.ip == listen.addr.ip()) {
            let cause = format!("listener {listen} cannot move: a virtual IP on loopback is for UDP only");
            error(reader, format!("proxy.sip.transport[{n}]"), cause, Some("remove it, or write \"udp:...\""));
        }
    }
    let cause =
        "`virtual-ip` is a loopback address, which no other machine reaches: for trying out on one machine only";
    warn(reader, "cluster.virtual-ip".into(), cause.into(), None);
}

/// Both nodes serve behind a balancer.
fn shared(reader: &mut Reader<'_>, settings: &Settings) {
    let cluster = &settings.cluster;
    if cluster.in_via && cluster.virtual_ips.is_empty() {
        let cause = "`virtual-ip-in-via` is true in [cluster], but there is no `virtual-ip`".into();
        error(reader, "cluster.virtual-ip-in-via".into(), cause, Some("write the address of the load balancer"));
    }
    if cluster.virtual_ips.iter().any(|vip| vip.ip.is_loopback()) {
        let cause = "`virtual-ip` is a loopback address: no load balancer has it".into();
        error(reader, "cluster.virtual-ip".into(), cause, Some("write the address of the load balancer"));
    }
    let own = |l: &super::settings::Listen| !cluster.virtual_ips.iter().any(|vip| vip.ip == l.addr.ip());
    if !settings.listeners.is_empty() && !settings.listeners.iter().any(own) {
        let cause = "every listener is on the virtual IP, but media servers are probed from an own address: an answer to the virtual IP may come to the other node".into();
        error(reader, "proxy.sip.transport".into(), cause, Some("let one listen on a wildcard"));
    }
}

fn listeners(reader: &mut Reader<'_>, settings: &Settings) {
    let vips = &settings.cluster.virtual_ips;
    // A balancer that translates addresses sends to those of the nodes.
    let carried = !settings.cluster.is_shared() || settings.cluster.in_via;
    for (n, listen) in settings.listeners.iter().enumerate() {
        if carried && !vips.is_empty() && !vips.iter().any(|vip| listen.takes(vip.ip)) {
            let cause =
                format!("listener {listen} takes nothing that is sent to a virtual IP: its calls die with this node");
            warn(
                reader,
                format!("proxy.sip.transport[{n}]"),
                cause,
                Some("let it listen on a virtual IP or a wildcard"),
            );
        }
    }
    let admin = settings.admin.ip();
    if vips.iter().any(|vip| vip.ip == admin) {
        let cause = format!("`listen` in [admin] is the virtual IP {admin}: only the active node could be asked");
        error(reader, "admin.listen".into(), cause, Some("give it an address that stays with this node"));
    }
}

fn resources(reader: &mut Reader<'_>, settings: &Settings) {
    let vips = &settings.cluster.virtual_ips;
    for (n, group) in settings.groups.iter().enumerate() {
        for (r, resource) in group.resources.iter().enumerate() {
            let Ok(ip) = resource.host.parse::<IpAddr>() else { continue };
            let key = format!("resource-group[{n}].resource[{r}].aor");
            let aor = shorten(&resource.aor);
            if vips.iter().any(|vip| vip.ip == ip) && settings.listeners.iter().any(|l| l.addr.port() == resource.port)
            {
                error(reader, key, format!("{aor} is the virtual IP of this pair itself"), None);
            } else if (settings.cluster.in_via || !settings.cluster.is_shared())
                && !vips.is_empty()
                && !vips.iter().any(|vip| vip.ip.is_ipv4() == ip.is_ipv4())
            {
                let family = if ip.is_ipv4() { "IPv4" } else { "IPv6" };
                let cause = format!("{aor} cannot be reached from a virtual IP: there is none over {family}");
                error(reader, key, cause, Some("add one to `virtual-ip` in [cluster]"));
            }
        }
    }
}

/// A reference point tells a node that is cut off from a peer that is dead; what is cut off with them tells nothing.
fn reference_points(reader: &mut Reader<'_>, settings: &Settings) {
    for (n, ip) in settings.cluster.reference_points.iter().enumerate() {
        let key = format!("cluster.reference-points[{n}]");
        if let Some((member, ..)) = paths(settings).find(|(_, _, path, _)| path.ip() == *ip) {
            let cause =
                format!("the reference point {ip} is member {}, whose silence is to be judged by it", member.id.0);
            error(reader, key, cause, Some("write a gateway, a media server or the SIP Server"));
        } else if settings.cluster.virtual_ips.iter().any(|vip| vip.ip == *ip) {
            let cause = format!("the reference point {ip} is the virtual IP, which moves between the nodes");
            error(reader, key, cause, Some("write a gateway, a media server or the SIP Server"));
        }
    }
}

/// Claim on suspicion comes only after a node that hangs has surely let go: else the address would live twice.
fn timing(reader: &mut Reader<'_>, timing: &Timing) {
    let Err(fault) = timing.check() else { return };
    let Timing { beat, suspicion, probe, guard_limit, kick, tolerance, .. } = timing;
    let (cause, least) = match fault {
        TimingError::ClaimBeforeGuard { claim, needed } => (
            format!(
                "the virtual IP could live twice: a survivor claims it after {claim:?} (`suspicion-timeout` {suspicion:?} \
                 + probe {probe:?}), but a node that hangs lets go only after {needed:?} (`guard-limit` {guard_limit:?} + \
                 kick {kick:?} + `beat-interval` {beat:?} + margin 30ms)"
            ),
            Some(needed.saturating_sub(*probe)),
        ),
        TimingError::BeatTooSlow { .. } => (
            format!(
                "`suspicion-timeout` is {suspicion:?}: fewer than 4 lost beats of {beat:?} make a living peer suspect"
            ),
            Some(*beat * 4),
        ),
        TimingError::ToleranceTooLong { limit, .. } => (
            format!(
                "`suspicion-timeout` is {suspicion:?}: a node that is {tolerance:?} late would be suspected before it knows"
            ),
            Some(*suspicion + tolerance.saturating_sub(limit) + Duration::from_millis(1)),
        ),
        // Of times that no key sets, or that the bounds of the keys exclude.
        TimingError::Zero(_)
        | TimingError::SuspicionTooLong { .. }
        | TimingError::KickTooSlow { .. }
        | TimingError::LeaseTooShort { .. }
        | TimingError::BootHoldTooShort { .. } => (fault.to_string(), None),
    };
    let cure = least.map(|least| format!("make `suspicion-timeout` at least {least:?}"));
    error(reader, "cluster.suspicion-timeout".into(), cause, cure.as_deref());
}

/// Who decides must be somebody else, and a node that is not to go on must have stopped before the other one does.
fn witness(reader: &mut Reader<'_>, settings: &Settings) {
    let cluster = &settings.cluster;
    let key = || String::from("cluster.witness");
    match (&cluster.witness, cluster.partition) {
        // What cannot be read is told already.
        (None, Partition::Witness) if reader.errors.iter().any(|e| e.key == key()) => {}
        (None, Partition::Witness) => {
            let cause = "`partition` is \"witness\", but [cluster] names none".into();
            let cure = "write for example witness = \"udp:192.0.2.5:9802\", where `tandem witness` runs";
            error(reader, "cluster.partition".into(), cause, Some(cure));
        }
        (Some(_), Partition::Witness) => {
            let cause = "`partition` is \"witness\": a node that hears neither its peer nor the witness admits no new call, and after an unproved death the survivor none for about 3 s";
            let cure = "let the witness run on a third host, and watch `tandem_witness_reachable`";
            warn(reader, "cluster.partition".into(), cause.into(), Some(cure));
            let timing = &cluster.timing;
            if timing.check().is_ok()
                && let Err(fault @ TimingError::SuspicionTooLong { .. }) = timing.check_witness()
            {
                error(reader, "cluster.suspicion-timeout".into(), fault.to_string(), Some("make it at most 750ms"));
            }
        }
        (Some(_), _) => {
            let cause = format!("`witness` has no effect: `partition` is \"{}\"", cluster.partition);
            warn(reader, key(), cause, Some("write partition = \"witness\", or remove it"));
        }
        (None, _) => {}
    }
    let Some(Witness::Own(host) | Witness::Etcd(host)) = &cluster.witness else { return };
    let Ok(ip) = host.name.parse::<IpAddr>() else { return };
    if let Some((member, ..)) = paths(settings).find(|(_, _, path, _)| path.ip() == ip) {
        let cause = format!("the witness is on the host of member {}: with it the witness is gone, too", member.id.0);
        warn(reader, key(), cause, Some("let it run on a third host, best where callers are"));
    } else if cluster.virtual_ips.iter().any(|vip| vip.ip == ip) {
        error(reader, key(), format!("the witness {ip} is the virtual IP"), Some("write the address of a third host"));
    }
}

fn costs(reader: &mut Reader<'_>, settings: &Settings) {
    let cluster = &settings.cluster;
    let mut costs: Vec<(&str, String, Option<&str>)> = Vec::new();
    if cluster.secret_file.is_none() {
        let cause = "there is no `secret-file` in [cluster]: the node starts only with TANDEM_CLUSTER_SECRET in its environment";
        costs.push(("cluster", cause.into(), Some("both nodes must have the same secret")));
    }
    if cluster.members.iter().any(|m| m.paths.len() == 1) {
        let cause = match cluster.is_shared() {
            true if !cluster.is_crossed() => {
                "the nodes share one path: when it is cut, each goes on with the calls of both, and nobody knows who lives"
            }
            _ => "the nodes share one path: when it is cut, only an ARP probe of the address tells that from a death",
        };
        costs.push(("cluster.member", cause.into(), Some("add a second address to each member, on another network")));
    }
    if cluster.commit == Commit::Async {
        let cause = "`commit` is \"async\": what a call did in the last moments before its node died may be lost, and a media server may get a call twice";
        costs.push(("cluster.commit", cause.into(), Some("write \"peer-ack\" to let messages wait for the peer")));
    }
    let (own, other) = (cluster.floor, 100 - cluster.floor);
    match cluster.partition {
        Partition::Available if cluster.is_shared() => costs.push((
            "cluster.partition",
            String::from("`partition` is \"available\": nodes that do not hear each other spend every limit together twice, once a lease has passed"),
            Some("write \"exact\" to keep limits in a partition, too"),
        )),
        Partition::Available | Partition::Witness => {}
        Partition::Exact if cluster.is_shared() => {}
        Partition::Exact => costs.push((
            "cluster.partition",
            format!("`partition` is \"exact\": as long as the peer may live, a node admits new calls only up to {own} % of each limit (the active one) or {other} %"),
            Some("`tandem peer declare-dead` gives the whole limit to a survivor"),
        )),
        Partition::PreferLowerId => costs.push((
            "cluster.partition",
            String::from("`partition` is \"prefer-lower-id\": without its peer and without proof of its death, the node with the higher id admits no new call"),
            Some("`tandem peer declare-dead` gives the whole limit to a survivor"),
        )),
    }
    if cluster.preempt {
        let cause =
            "`preempt` is true: each return of the node with the higher priority moves the virtual IP once more";
        costs.push(("cluster.preempt", cause.into(), None));
    }
    if cluster.is_crossed() {
        // Each takes over the addresses of the other one.
    } else if cluster.is_shared() && cluster.virtual_ips.is_empty() {
        let cause = "there is neither `virtual-ip` nor `service-ip` in [cluster]: each node writes its own address into Via and Record-Route, so all calls of a node that dies are stranded but for what the SIP Server sends to the other one";
        costs.push((
            "cluster",
            cause.into(),
            Some("write the address of the load balancer before both nodes, or service-ip.N for each"),
        ));
    } else if cluster.is_shared() && !cluster.in_via {
        let cause = "`virtual-ip-in-via` is false: answers of media servers go to the node that asked, so calls that ring at a node that dies are lost";
        let cure =
            "let the balancer return directly, give each node the virtual IP as a silent address, and write true";
        costs.push(("cluster", cause.into(), Some(cure)));
    }
    let moves = !cluster.is_shared() || cluster.is_crossed();
    if cluster.vip_manager == VipManager::None && moves && !cluster.is_on_loopback() {
        let cause =
            "`vip-manager` is \"none\": Tandem moves no address; whatever does must follow `/readyz` of both nodes";
        costs.push(("cluster.vip-manager", cause.into(), None));
    }
    for (key, cause, suggestion) in costs {
        warn(reader, key.into(), cause, suggestion);
    }
}
