//! Who is around a node, as its configuration says: whom it hears, whom it trusts, what they are called.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;

use crate::base::ResourceId;
use crate::config::Settings;
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
            balancers: Sources::only(&settings.proxy_protocol_from, []),
            names: resources().map(|r| (r.id, r.aor.clone())).collect(),
            reach: Reach::new(&settings.cluster.reference_points, resources().map(|r| r.route.flow.remote.ip())),
            hosts,
        }
    }
}
