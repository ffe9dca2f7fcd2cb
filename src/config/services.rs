//! What no single `service-ip.N` shows: addresses of two nodes that take over from each other.

use std::net::{IpAddr, SocketAddr};

use super::cluster_settings::ServiceIps;
use super::reader::Reader;
use super::settings::Settings;
use super::sound::error;

/// Notes what contradicts itself in the service IPs; nothing without any.
pub(super) fn check(reader: &mut Reader<'_>, settings: &Settings) {
    if !settings.cluster.is_crossed() {
        return;
    }
    each_has_some(reader, settings);
    let mut seen: Vec<IpAddr> = Vec::new();
    for service in &settings.cluster.service_ips {
        for vip in &service.ips {
            let key = format!("cluster.service-ip.{}", service.node.0);
            match why_not(settings, vip.ip, &seen) {
                Some((cause, cure)) => error(reader, key, cause, Some(&cure)),
                None => seen.push(vip.ip),
            }
        }
    }
}

/// Both have as many, of the same families in the same order: each stands for one of the other node.
fn each_has_some(reader: &mut Reader<'_>, settings: &Settings) {
    let families = |s: &ServiceIps| s.ips.iter().map(|vip| vip.ip.is_ipv4()).collect::<Vec<_>>();
    let cluster = &settings.cluster;
    let of = |n: usize| {
        let member = cluster.members.get(n)?;
        cluster.service_ips.iter().find(|s| s.node == member.id).map(families)
    };
    if cluster.members.len() == 2 && of(0) != of(1) {
        let cause = "the nodes do not have the same number of `service-ip` of each family, in the same order".into();
        let cure = "write service-ip.N for both members: each takes over those of the other one";
        error(reader, "cluster.service-ip".into(), cause, Some(cure));
    }
}

/// Why this address cannot be one, and what to do.
fn why_not(settings: &Settings, ip: IpAddr, seen: &[IpAddr]) -> Option<(String, String)> {
    let cluster = &settings.cluster;
    let refused = |cause: String, cure: &str| Some((cause, cure.to_owned()));
    if seen.contains(&ip) {
        return refused(format!("the service IP {ip} is there twice"), "give each node addresses of its own");
    }
    if cluster.virtual_ips.iter().any(|vip| vip.ip == ip) {
        let cause = format!("the service IP {ip} is the virtual IP, too");
        return refused(cause, "give the node an address of its own: the virtual IP is with whoever is active");
    }
    if ip.is_loopback() {
        return refused(format!("the service IP {ip} is a loopback address"), "write one that the SIP Server reaches");
    }
    if cluster.members.iter().flat_map(|m| &m.paths).any(|path| path.ip() == ip) {
        let cause = format!("the service IP {ip} is a member's own address, which cannot move");
        return refused(cause, "write another address of the same subnet");
    }
    if settings.admin.ip() == ip {
        let cause = format!("`listen` in [admin] is the service IP {ip}, which moves");
        return refused(cause, "give [admin] an address that stays with this node");
    }
    if cluster.reference_points.contains(&ip) {
        let cause = format!("the reference point {ip} is a service IP, which moves between the nodes");
        return refused(cause, "write a gateway, a media server or the SIP Server");
    }
    let resources = settings.groups.iter().flat_map(|g| &g.resources);
    let own = |r: &&super::settings::Resource| r.host.parse() == Ok(ip);
    if let Some(resource) = resources.into_iter().find(own) {
        return refused(format!("{} is the service IP {ip} of this pair itself", resource.aor), "remove that resource");
    }
    if !settings.listeners.is_empty() && !settings.listeners.iter().any(|l| l.takes(ip)) {
        let cure = format!("add \"udp:{}\" to `sip.transport` in [proxy], or a wildcard", SocketAddr::new(ip, 5060));
        return refused(format!("no listener takes SIP that is sent to the service IP {ip}"), &cure);
    }
    None
}
