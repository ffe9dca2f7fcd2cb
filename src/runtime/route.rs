//! From settings to what the node is made of: names resolved, the way to each resource fixed, keys derived.
#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs, UdpSocket};

use crate::balance::{self, GroupConfig, ResourceConfig, Route};
use crate::base::{Flow, ListenerId, Transport};
use crate::config::{Group, Listen, Resource};
use crate::identity::Shared;

/// A resource that cannot be reached as configured.
#[derive(Debug)]
pub struct RouteError {
    /// The AOR as written.
    pub aor: String,
    /// Why not.
    pub cause: Cause,
}

/// Why a resource cannot be reached.
#[derive(Debug)]
pub enum Cause {
    /// Its name has no address.
    Unresolved(io::Error),
    /// No entry of `sip.transport` has its transport and address family, so no Via could name us.
    NoListener(Transport, IpAddr),
    /// The kernel knows no way there.
    NoWay(SocketAddr, io::Error),
}

impl fmt::Display for RouteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "resource {}: ", self.aor)?;
        match &self.cause {
            Cause::Unresolved(e) => {
                write!(f, "its name has no address ({e}); write an IP address, or repair DNS or /etc/hosts")
            }
            Cause::NoListener(transport, ip) => {
                let any = if ip.is_ipv4() { "0.0.0.0" } else { "[::]" };
                write!(
                    f,
                    "sip.transport has no listener to send from; add \"{transport}:{any}:{}\"",
                    transport.default_port()
                )
            }
            Cause::NoWay(addr, e) => write!(f, "no route to {addr} ({e}); see: ip route get {}", addr.ip()),
        }
    }
}

impl std::error::Error for RouteError {}

/// What this node can send from.
#[derive(Clone, Copy, Debug)]
pub struct Ways<'a> {
    /// What is bound, index = listener id.
    pub listeners: &'a [Listen],
    /// Addresses that the pair shares: what belongs to calls leaves from these, if it can.
    pub shared: &'a Shared,
    /// Whether streams can be opened from these, too: not where a balancer has them.
    pub streams: bool,
}

/// The groups of the Farm. Blocks while names are resolved.
pub fn groups(groups: &[Group], ways: Ways<'_>) -> Result<balance::Config, RouteError> {
    let groups = groups
        .iter()
        .map(|group| {
            Ok(GroupConfig {
                name: group.name.clone(),
                service_types: group.service_types.clone(),
                scheme: group.scheme,
                monitor: group.monitor,
                noresource_response_code: group.noresource_response_code,
                terms: group.terms.clone(),
                pin_by: group.pin_by.clone(),
                resources: group.resources.iter().map(|r| resource(r, ways)).collect::<Result<_, _>>()?,
            })
        })
        .collect::<Result<_, _>>()?;
    Ok(balance::Config { groups })
}

fn resource(resource: &Resource, ways: Ways<'_>) -> Result<ResourceConfig, RouteError> {
    let route = route(resource, ways).map_err(|cause| RouteError { aor: resource.aor.clone(), cause })?;
    // A name that moved to another address is another server: the old one drains.
    let id = match literal(&resource.host) {
        Some(_) => balance::resource_id(&resource.canonical),
        None => balance::resource_id(&format!("{} {}", resource.canonical, route.flow.remote)),
    };
    Ok(ResourceConfig {
        id,
        aor: resource.aor.clone(),
        route,
        aliases: resource.aliases.clone(),
        port_capacity: resource.port_capacity,
    })
}

fn route(resource: &Resource, ways: Ways<'_>) -> Result<Route, Cause> {
    let remote = first_address(&resource.host, resource.port).map_err(Cause::Unresolved)?;
    let way = |transport| flow(transport, remote, ways.listeners).map(|own| (ways.shared(own).unwrap_or(own), own));
    let (flow, own) = way(resource.transport)?;
    let stream = match resource.transport {
        Transport::Tcp | Transport::Tls => Some(flow),
        Transport::Udp if resource.also_tcp => Some(way(Transport::Tcp)?.0),
        Transport::Udp => None,
    };
    let own = Some(own).filter(|own| !ways.shared.ips.contains(&own.local.ip()));
    Ok(Route { authority: remote.to_string().into_boxed_str(), flow, stream, own })
}

impl Ways<'_> {
    /// The same way from an address of the pair: the one that is closest to what the kernel would send from.
    fn shared(&self, own: Flow) -> Option<Flow> {
        if !self.shared.sends || own.transport.reliable() && !self.streams {
            return None;
        }
        let family = |ip: &&IpAddr| ip.is_ipv4() == own.remote.is_ipv4();
        let ip = *self.shared.ips.iter().filter(family).max_by_key(|ip| common_bits(**ip, own.local.ip()))?;
        let fits = |l: &Listen| l.transport == own.transport && l.takes(ip);
        let index = self.listeners.iter().position(fits)?;
        let local = SocketAddr::new(ip, self.listeners[index].addr.port());
        Some(Flow { listener: ListenerId(index as u16), local, ..own })
    }
}

/// How many leading bits two addresses of one family share.
fn common_bits(a: IpAddr, b: IpAddr) -> u32 {
    match (a, b) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => 0,
    }
}

fn literal(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn first_address(host: &str, port: u16) -> io::Result<SocketAddr> {
    if let Some(ip) = literal(host) {
        return Ok(SocketAddr::new(ip, port));
    }
    let none = || io::Error::new(io::ErrorKind::NotFound, "no A or AAAA record");
    (host, port).to_socket_addrs()?.next().ok_or_else(none)
}

/// The way to `remote`: a listener of the transport and family whose address the kernel would send from, else the
/// first that can; and the address that it leaves from, which its Via will name.
fn flow(transport: Transport, remote: SocketAddr, listeners: &[Listen]) -> Result<Flow, Cause> {
    let source = source(remote).map_err(|e| Cause::NoWay(remote, e))?;
    let fits = |l: &Listen| l.transport == transport && l.addr.is_ipv4() == remote.is_ipv4();
    let from_source = |l: &Listen| fits(l) && (l.addr.ip() == source || l.addr.ip().is_unspecified());
    let index = listeners
        .iter()
        .position(from_source)
        .or_else(|| listeners.iter().position(fits))
        .ok_or(Cause::NoListener(transport, remote.ip()))?;
    let addr = listeners[index].addr;
    let ip = if addr.ip().is_unspecified() { source } else { addr.ip() };
    let local = SocketAddr::new(ip, addr.port());
    Ok(Flow { transport, listener: ListenerId(index as u16), local, remote, conn: None })
}

/// The address that the kernel would send from. Connecting a UDP socket asks for the route and sends nothing.
fn source(remote: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if remote.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(remote)?;
    Ok(socket.local_addr()?.ip())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alone(listeners: &[Listen]) -> Ways<'_> {
        static NONE: Shared = Shared {
            ips: Vec::new(),
            sends: true,
            guests: Vec::new(),
            stands_in: false,
            virtual_ips: Vec::new(),
            leads: false,
        };
        Ways { listeners, shared: &NONE, streams: true }
    }

    fn listen(text: &str) -> Listen {
        let (transport, addr) = text.split_once(':').unwrap();
        Listen { transport: Transport::parse(transport.as_bytes()).unwrap(), addr: addr.parse().unwrap() }
    }

    fn written(host: &str, transport: Transport, also_tcp: bool) -> Resource {
        Resource {
            aor: format!("sip:{host}:5070"),
            canonical: format!("sip:{host}:5070;transport={transport}"),
            host: host.into(),
            port: 5070,
            transport,
            also_tcp,
            aliases: Vec::new(),
            port_capacity: Some(1),
        }
    }

    #[test]
    fn a_wildcard_listener_sends_from_the_kernels_source() {
        let listeners = [listen("udp:192.0.2.1:5060"), listen("udp:0.0.0.0:5060"), listen("tcp:127.0.0.1:5061")];
        let route = resource(&written("127.0.0.1", Transport::Udp, true), alone(&listeners)).unwrap().route;
        assert_eq!(route.authority.as_ref(), "127.0.0.1:5070");
        assert_eq!((route.flow.listener, route.flow.local), (ListenerId(1), "127.0.0.1:5060".parse().unwrap()));
        let stream = route.stream.unwrap();
        assert_eq!((stream.transport, stream.listener, stream.local.port()), (Transport::Tcp, ListenerId(2), 5061));
    }

    #[test]
    fn a_concrete_listener_sends_from_its_own_address() {
        let listeners = [listen("udp:127.0.2.1:5060")];
        let route = resource(&written("127.0.3.1", Transport::Udp, false), alone(&listeners)).unwrap().route;
        assert_eq!(route.flow.local, listeners[0].addr);
        assert_eq!(route.stream, None);
    }

    #[test]
    fn the_address_of_a_name_is_part_of_its_id() {
        let listeners = [listen("udp:0.0.0.0:5060"), listen("udp:[::]:5060")];
        let of = |host: &str| resource(&written(host, Transport::Udp, false), alone(&listeners)).unwrap();
        let named = of("localhost");
        let text = format!("sip:localhost:5070;transport=udp {}", named.route.flow.remote);
        assert_eq!(named.id, balance::resource_id(&text));
        assert_eq!(of("127.0.0.1").id, balance::resource_id("sip:127.0.0.1:5070;transport=udp"));
    }

    #[test]
    fn errors_name_the_resource_and_the_cure() {
        let listeners = [listen("udp:127.0.0.1:5060")];
        let error = resource(&written("127.0.0.1", Transport::Tcp, false), alone(&listeners)).unwrap_err().to_string();
        assert!(error.contains("sip:127.0.0.1:5070") && error.contains("add \"tcp:0.0.0.0:5060\""), "{error}");
        let error = resource(&written("no-such-host.invalid", Transport::Udp, false), alone(&listeners)).unwrap_err();
        assert!(error.to_string().contains("its name has no address"), "{error}");
    }
}
