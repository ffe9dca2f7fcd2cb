//! What no single key shows: values that contradict each other, and choices that cost something.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};

use super::finding::{Finding, Place};
use super::reader::Reader;
use super::settings::{Group, Listen, Resource, Settings};
use crate::balance::resource_id;
use crate::base::Transport;

/// Notes what contradicts itself in `settings`, of which every key was readable by itself or has its default.
pub(super) fn check(reader: &mut Reader<'_>, settings: &Settings, has_groups: bool) {
    listeners(reader, &settings.listeners);
    balancers(reader, settings);
    admin(reader, settings);
    timers(reader, settings);
    if !has_groups {
        let cause = String::from("there is no [[resource-group]]: calls would have nowhere to go");
        let suggestion = Some(String::from("add a group with at least one [[resource-group.resource]]"));
        reader.errors.push(Finding { place: Place::default(), key: "resource-group".into(), cause, suggestion });
    }
    group_names(reader, &settings.groups);
    for (n, group) in settings.groups.iter().enumerate() {
        self::group(reader, settings, n, group);
    }
    resource_ids(reader, &settings.groups);
}

/// What a choice costs that is right for many, so that only those who ask are told, not the log of each start.
pub(super) fn advice(settings: &Settings) -> Option<Finding> {
    let closed = settings.allow_from.is_some() || settings.listeners.iter().all(|l| l.addr.ip().is_loopback());
    if closed {
        return None;
    }
    let key = String::from("proxy.sip.allow-from");
    let cause = String::from("whoever reaches the listeners can place calls: `sip.allow-from` in [proxy] is not set");
    let suggestion = Some(String::from("list the networks of your SIP servers, unless a firewall keeps others out"));
    Some(Finding { place: settings.places.of(&key), key, cause, suggestion })
}

/// Notes an error at `key`.
pub(super) fn error(reader: &mut Reader<'_>, key: String, cause: String, suggestion: Option<&str>) {
    let place = reader.places.of(&key);
    reader.errors.push(Finding { place, key, cause, suggestion: suggestion.map(String::from) });
}

/// Notes a warning at `key`.
pub(super) fn warn(reader: &mut Reader<'_>, key: String, cause: String, suggestion: Option<&str>) {
    let place = reader.places.of(&key);
    reader.warnings.push(Finding { place, key, cause, suggestion: suggestion.map(String::from) });
}

fn listeners(reader: &mut Reader<'_>, listeners: &[Listen]) {
    for (n, listen) in listeners.iter().enumerate() {
        let key = format!("proxy.sip.transport[{n}]");
        let addr = listen.addr;
        if addr.port() == 0 {
            let cause = format!("listener {listen} has port 0, which nobody could be told");
            let usual = if listen.transport == Transport::Tls {
                "write the port, usually 5061"
            } else {
                "write the port, usually 5060"
            };
            error(reader, key.clone(), cause, Some(usual));
        } else if addr.ip().is_multicast() || addr.ip() == IpAddr::from([255; 4]) {
            error(reader, key.clone(), format!("listener {listen} is not the address of one node"), None);
        }
        let Some(before) = listeners[..n].iter().find(|other| clash(other, listen)) else { continue };
        let cause = if before == listen {
            format!("listener {listen} is there twice")
        } else {
            format!("listeners {before} and {listen} cannot both be bound: one includes the other")
        };
        error(reader, key, cause, Some("keep one of them"));
    }
}

/// Load balancers that forward streams to a node that takes none.
fn balancers(reader: &mut Reader<'_>, settings: &Settings) {
    if !settings.proxy_protocol_from.is_empty() && !settings.listeners.iter().any(|l| l.transport.reliable()) {
        let cause = "`sip.proxy-protocol-from` in [proxy] has no effect: no listener takes streams";
        let suggestion = "add a \"tcp:\" or \"tls:\" listener to `sip.transport`, or remove the key";
        warn(reader, String::from("proxy.sip.proxy-protocol-from"), cause.into(), Some(suggestion));
    }
}

fn clash(a: &Listen, b: &Listen) -> bool {
    // TLS is bound as TCP.
    a.transport.reliable() == b.transport.reliable() && overlap(a.addr, b.addr)
}

/// Whether two sockets would be bound to one address and port.
pub(super) fn overlap(a: SocketAddr, b: SocketAddr) -> bool {
    let wide = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() == b.port() && a.is_ipv4() == b.is_ipv4() && (wide || a.ip() == b.ip())
}

fn admin(reader: &mut Reader<'_>, settings: &Settings) {
    let key = || String::from("admin.listen");
    let admin = settings.admin;
    if admin.port() == 0 {
        error(reader, key(), String::from("`listen` in [admin] has port 0"), Some("write the port, usually 9090"));
    }
    let clash = |l: &&Listen| l.transport.reliable() && overlap(l.addr, admin);
    if let Some(listen) = settings.listeners.iter().find(clash) {
        let cause = format!("`listen` in [admin] is {admin}, where {listen} listens already");
        error(reader, key(), cause, Some("give it a port of its own, usually 9090"));
    }
    if admin.ip().is_unspecified() {
        let cause = format!("`listen` in [admin] is {admin}: whoever reaches this machine can read and command it");
        warn(reader, key(), cause, Some("use 127.0.0.1 or an address of the management network"));
    }
    if settings.drill {
        let cause = format!("`drill` in [admin]: whoever reaches {admin} can end this process and cut it off its peer");
        warn(reader, "admin.drill".into(), cause, Some("remove it after the drill"));
    }
}

fn timers(reader: &mut Reader<'_>, settings: &Settings) {
    let (t1, t2) = (settings.proxy.t1, settings.proxy.t2);
    if t2 < t1 {
        // RFC 3261 §17.1.2.2: T2 is the ceiling that T1 doubles up to.
        let cause = format!("`sip.timer.t2` in [proxy] is {t2:?}, shorter than `sip.timer.t1`, which is {t1:?}");
        error(reader, "proxy.sip.timer.t2".into(), cause, Some("make it at least as long; usual are 500ms and 4s"));
    }
}

fn group_names(reader: &mut Reader<'_>, groups: &[Group]) {
    let mut first: HashMap<&str, usize> = HashMap::new();
    for (n, group) in groups.iter().enumerate().filter(|(_, g)| !g.name.is_empty()) {
        let Some(before) = first.get(group.name.as_str()) else {
            first.insert(&group.name, n);
            continue;
        };
        let line = reader.places.of(&format!("resource-group[{before}].name")).line;
        let cause =
            format!("the name \"{}\" is taken by the group of line {line}", super::reader::shorten(&group.name));
        error(reader, format!("resource-group[{n}].name"), cause, Some("give each group a name of its own"));
    }
}

fn group(reader: &mut Reader<'_>, settings: &Settings, n: usize, group: &Group) {
    let key = |k: &str| format!("resource-group[{n}].{k}");
    if group.resources.is_empty() {
        let code = group.noresource_response_code;
        warn(reader, key("resource"), format!("this group has no resource: its calls are answered {code}"), None);
    }
    match group.monitor {
        Some(m) if m.timeout > m.interval => {
            let cause = format!(
                "`monitor-timeout` in [[resource-group]] is {:?}, longer than `monitor-interval`, which is {:?}",
                m.timeout, m.interval
            );
            error(reader, key("monitor-timeout"), cause, Some("a probe must be decided before the next one"));
        }
        Some(_) => {}
        None => {
            let cause = String::from("`monitor-method` is \"none\": only calls that fail tell that a resource is dead");
            warn(reader, key("monitor-method"), cause, Some("write \"option\" to probe with OPTIONS"));
        }
    }
    if group.pin_by.is_some() && group.monitor.is_none() {
        let cause =
            String::from("`pin-by` needs probes: only they tell when a server is dead and its calls belong elsewhere");
        error(reader, key("pin-by"), cause, Some("write `monitor-method = \"option\"`, or remove `pin-by`"));
    }
    let first = group.terms.first_response_timeout;
    // RFC 3261 §17.1.1.2: Timer B, after which an attempt over UDP is over in any case.
    let timer_b = settings.proxy.t1 * 64;
    if first >= timer_b {
        let cause = format!("`first-response-timeout` is {first:?}, but 64 times T1 ends an attempt after {timer_b:?}");
        warn(reader, key("first-response-timeout"), cause, Some("shorten it, so that the caller is still there"));
    }
    for (r, resource) in group.resources.iter().enumerate() {
        self::resource(reader, settings, &format!("resource-group[{n}].resource[{r}]"), resource);
    }
}

fn resource(reader: &mut Reader<'_>, settings: &Settings, path: &str, resource: &Resource) {
    let aor = super::reader::shorten(&resource.aor);
    let ip: Option<IpAddr> = resource.host.parse().ok();
    if !reachable(&settings.listeners, resource.transport, ip) {
        let cause = format!("{aor} cannot be reached: {}", no_listener(resource.transport, ip));
        error(reader, format!("{path}.aor"), cause, Some("add one to `sip.transport` in [proxy]"));
    }
    if resource.also_tcp && resource.transport == Transport::Udp && !reachable(&settings.listeners, Transport::Tcp, ip)
    {
        let cause = format!("`tcp` is true, but {}", no_listener(Transport::Tcp, ip));
        error(reader, format!("{path}.tcp"), cause, Some("add one to `sip.transport` in [proxy]"));
    }
    let own =
        |l: &&Listen| l.transport == resource.transport && Some(l.addr.ip()) == ip && l.addr.port() == resource.port;
    if let Some(own) = settings.listeners.iter().find(own) {
        error(reader, format!("{path}.aor"), format!("{aor} is the listener {own} of this node itself"), None);
    }
    match resource.port_capacity {
        Some(0) => warn(reader, format!("{path}.port-capacity"), format!("{aor} takes no calls: 0 ports"), None),
        Some(_) => {}
        None => {
            let cause = format!("nothing keeps {aor} from being overrun: its ports are unlimited");
            warn(reader, format!("{path}.port-capacity"), cause, Some("write the number of calls that it can serve"));
        }
    }
}

fn reachable(listeners: &[Listen], transport: Transport, ip: Option<IpAddr>) -> bool {
    let family = |l: &Listen| ip.is_none_or(|ip| ip.is_ipv4() == l.addr.is_ipv4());
    listeners.is_empty() || listeners.iter().any(|l| l.transport == transport && family(l))
}

fn no_listener(transport: Transport, ip: Option<IpAddr>) -> String {
    let family = match ip {
        Some(IpAddr::V4(_)) => " over IPv4",
        Some(IpAddr::V6(_)) => " over IPv6",
        None => "",
    };
    format!("no listener speaks {transport}{family}")
}

/// Tokens in dialogs name resources by their ids (hashes of the canonical AOR): each must name one.
fn resource_ids(reader: &mut Reader<'_>, groups: &[Group]) {
    let mut ids: HashMap<_, String> = HashMap::new();
    let mut hosts: HashMap<_, String> = HashMap::new();
    for (n, group) in groups.iter().enumerate() {
        for (r, resource) in group.resources.iter().enumerate() {
            let key = format!("resource-group[{n}].resource[{r}].aor");
            if let Some(before) = ids.get(&resource_id(&resource.canonical)) {
                let line = reader.places.of(before).line;
                let cause = format!("{} is the resource of line {line} again", super::reader::shorten(&resource.aor));
                error(reader, key, cause, Some("list each resource once, in one group"));
                continue;
            }
            if let Some(before) = hosts.get(&(&resource.host, resource.port)) {
                let line = reader.places.of(before).line;
                let cause = format!("host and port are those of line {line}: the ports of both are counted apart");
                warn(reader, key.clone(), cause, Some("write `tcp = true` instead of a second resource"));
            }
            hosts.insert((&resource.host, resource.port), key.clone());
            ids.insert(resource_id(&resource.canonical), key);
        }
    }
}
