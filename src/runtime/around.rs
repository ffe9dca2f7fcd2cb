//! Who is around a node, as its configuration says: whom it hears, whom it trusts, what they are called.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;

use crate::base::ResourceId;
use crate::config::{Cluster, Settings};
use crate::identity::Identities;
use crate::runtime::reach::Reach;
use crate::runtime::servers::{Server, Servers};
use crate::runtime::sources::Sources;

/// Who is around a node.
pub(super) struct Around {
    /// SIP is taken from these only.
    pub sources: Sources,
    /// Load balancers that say whose the streams are that they forward.
    pub balancers: Sources,
    /// Addresses that other hosts have as well, or may, and from where streams leave instead.
    pub shared: Vec<(IpAddr, Option<IpAddr>)>,
    /// Hosts of media servers, of those too that left the file: no limit per host is meant for them.
    pub hosts: Vec<IpAddr>,
    /// The names of media servers.
    pub names: HashMap<ResourceId, String>,
    /// What this node refers to, to tell its own isolation from the death of its peer.
    pub reach: Reach,
}

impl Around {
    /// What `settings` say, with their media servers resolved.
    pub fn of(settings: &Settings, servers: &Servers, identities: &Identities) -> Self {
        let resources = || servers.configured().iter().map(|server| &server.resolved);
        let hosts: Vec<IpAddr> = servers.all().flat_map(Server::hosts).collect();
        Self {
            sources: Sources::of(settings, hosts.clone(), identities),
            shared: shared(&settings.cluster),
            balancers: Sources::only(&settings.proxy_protocol_from, []),
            names: resources().map(|r| (r.id, r.aor.clone())).collect(),
            reach: Reach::new(&settings.cluster.reference_points, resources().map(|r| r.route.flow.remote.ip())),
            hosts,
        }
    }
}

/// Those of a balancer, and those that are the peer's while it serves.
fn shared(cluster: &Cluster) -> Vec<(IpAddr, Option<IpAddr>)> {
    let [own, guests] = [true, false].map(|own| cluster.service_ips_of(own).iter().map(|vip| vip.ip));
    let crossed = guests.zip(own.map(Some));
    cluster.balanced_ips().into_iter().map(|ip| (ip, None)).chain(crossed).collect()
}
