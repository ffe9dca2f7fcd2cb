//! Who is around a node, as its configuration says: whom it hears, whom it trusts, what they are called.
#![forbid(unsafe_code)]

use std::collections::HashMap;
use std::net::IpAddr;

use crate::balance;
use crate::base::ResourceId;
use crate::config::Settings;
use crate::identity::Identities;
use crate::runtime::reach::Reach;
use crate::runtime::sources::Sources;

/// Who is around a node.
pub(super) struct Around {
    /// SIP is taken from these only.
    pub sources: Sources,
    /// Hosts of media servers: no limit per host is meant for them.
    pub hosts: Vec<IpAddr>,
    /// The names of media servers.
    pub names: HashMap<ResourceId, String>,
    /// What this node refers to, to tell its own isolation from the death of its peer.
    pub reach: Reach,
}

impl Around {
    /// What `settings` say, with their groups resolved.
    pub fn of(settings: &Settings, farm: &balance::Config, identities: &Identities) -> Self {
        let resources = || farm.groups.iter().flat_map(|g| &g.resources);
        let hosts = resources().flat_map(|r| r.aliases.iter().chain([&r.route.flow.remote])).map(|a| a.ip());
        let hosts: Vec<IpAddr> = hosts.collect();
        Self {
            sources: Sources::of(settings, hosts.clone(), identities),
            names: resources().map(|r| (r.id, r.aor.clone())).collect(),
            reach: Reach::new(&settings.cluster.reference_points, resources().map(|r| r.route.flow.remote.ip())),
            hosts,
        }
    }
}
