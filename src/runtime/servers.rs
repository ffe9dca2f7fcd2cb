//! Media servers as written and as resolved: those of the configuration, and those that left it with calls on them.
#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::balance::{self, ResourceConfig};
use crate::base::ResourceId;
use crate::config::{Change, Resource, Settings};

/// One media server.
#[derive(Clone, Debug)]
pub struct Server {
    /// As written.
    pub written: Resource,
    /// As resolved.
    pub resolved: ResourceConfig,
}

impl Server {
    /// The hosts that it answers at.
    pub fn hosts(&self) -> impl Iterator<Item = IpAddr> {
        self.resolved.aliases.iter().chain([&self.resolved.route.flow.remote]).map(|address| address.ip())
    }
}

/// The media servers that a node has to do with.
#[derive(Clone, Debug, Default)]
pub struct Servers {
    configured: Vec<Server>,
    left: Vec<Server>,
}

impl Servers {
    /// Those of `settings`, which were resolved to `farm`.
    pub fn new(settings: &Settings, farm: &balance::Config) -> Self {
        let written = settings.groups.iter().flat_map(|g| &g.resources);
        let resolved = farm.groups.iter().flat_map(|g| &g.resources);
        let server = |(w, r): (&Resource, &ResourceConfig)| Server { written: w.clone(), resolved: r.clone() };
        Self { configured: written.zip(resolved).map(server).collect(), left: Vec::new() }
    }

    /// These after `before`. What the configuration no longer names stays for as long as a call is on it (`used`), and
    /// until the next one in any case: a call may begin before this one is in force.
    pub fn succeed(self, before: &Servers, used: &HashSet<ResourceId>) -> Self {
        let named: HashSet<ResourceId> = self.configured.iter().map(|s| s.resolved.id).collect();
        let drain = before.left.iter().filter(|s| used.contains(&s.resolved.id));
        let left = before.configured.iter().chain(drain).filter(|s| !named.contains(&s.resolved.id)).cloned().collect();
        Self { left, ..self }
    }

    /// Those of the configuration.
    pub fn configured(&self) -> &[Server] {
        &self.configured
    }

    /// Those that left it too.
    pub fn all(&self) -> impl Iterator<Item = &Server> {
        self.configured.iter().chain(&self.left)
    }

    /// Names that lead elsewhere than they did `before`. No text says so.
    pub fn moved(&self, before: &Servers) -> Vec<Change> {
        let was: HashMap<&str, &ResourceConfig> =
            before.configured.iter().map(|s| (s.written.canonical.as_str(), &s.resolved)).collect();
        let elsewhere = |server: &Server| {
            let (is, was) = (&server.resolved, was.get(server.written.canonical.as_str())?);
            let (from, to) = (was.route.flow.remote, is.route.flow.remote);
            (was.id != is.id).then(|| Change::ResourceElsewhere { aor: is.aor.clone(), from, to })
        };
        self.configured.iter().filter_map(elsewhere).collect()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::balance::{GroupConfig, Route, SchemeName, Terms, resource_id};
    use crate::base::{Flow, ListenerId};

    /// One group of servers by AOR, each with the address that it resolves to.
    pub fn farm(servers: &[(&str, &str)]) -> (Settings, balance::Config) {
        let group = String::from("[[resource-group]]\nname = \"A\"\nmonitor-method = \"none\"\n");
        let entry = |aor: &str| format!("[[resource-group.resource]]\naor = \"{aor}\"\nport-capacity = 1\n");
        let text = servers.iter().fold(group, |text, (aor, _)| text + &entry(aor));
        let (settings, _) = Settings::parse(&text).unwrap();
        let resource = |(aor, remote): &(&str, &str)| {
            let (local, remote) = ("192.0.2.254:5060".parse().unwrap(), remote.parse().unwrap());
            let transport = crate::base::Transport::Udp;
            let flow = Flow { transport, listener: ListenerId(0), local, remote, conn: None };
            let route = Route { authority: remote.to_string().into(), flow, stream: None, own: None };
            let id = resource_id(&format!("{aor} {remote}"));
            ResourceConfig { id, aor: (*aor).into(), route, aliases: Vec::new(), port_capacity: Some(1) }
        };
        let group = GroupConfig {
            name: "A".into(),
            service_types: Vec::new(),
            scheme: SchemeName::RoundRobin,
            monitor: None,
            noresource_response_code: 480,
            terms: Terms { first_response_timeout: std::time::Duration::from_secs(2), retry_codes: Vec::new() },
            pin_by: None,
            resources: servers.iter().map(resource).collect(),
        };
        (settings, balance::Config { groups: vec![group] })
    }

    fn resolved(servers: &[(&str, &str)]) -> Servers {
        let (settings, farm) = farm(servers);
        Servers::new(&settings, &farm)
    }

    fn hosts(servers: &Servers) -> Vec<String> {
        servers.all().flat_map(Server::hosts).map(|host| host.to_string()).collect()
    }

    fn ids(servers: &Servers) -> HashSet<ResourceId> {
        servers.all().map(|s| s.resolved.id).collect()
    }

    #[test]
    fn who_left_the_file_stays_until_a_reload_finds_no_call_on_it() {
        let nobody = HashSet::new();
        let first = resolved(&[("sip:a.example", "192.0.2.1:5060"), ("sip:b.example", "192.0.2.2:5060")]);
        let second = resolved(&[("sip:b.example", "192.0.2.2:5060")]).succeed(&first, &nobody);
        assert_eq!(hosts(&second), ["192.0.2.2", "192.0.2.1"]);
        let kept = resolved(&[("sip:b.example", "192.0.2.2:5060")]).succeed(&second, &ids(&first));
        assert_eq!(hosts(&kept), ["192.0.2.2", "192.0.2.1"]);
        let back = resolved(&[("sip:a.example", "192.0.2.1:5060")]).succeed(&kept, &ids(&first));
        assert_eq!(hosts(&back), ["192.0.2.1", "192.0.2.2"], "once each");
        let gone = resolved(&[("sip:b.example", "192.0.2.2:5060")]).succeed(&second, &nobody);
        assert_eq!(hosts(&gone), ["192.0.2.2"]);
        assert_eq!((gone.configured().len(), gone.left.len()), (1, 0));
    }

    #[test]
    fn a_name_that_leads_elsewhere_is_told_with_both_addresses() {
        let was = resolved(&[("sip:a.example", "192.0.2.1:5060"), ("sip:b.example", "192.0.2.2:5060")]);
        let is = resolved(&[
            ("sip:b.example", "192.0.2.2:5060"),
            ("sip:a.example", "192.0.2.9:5060"),
            ("sip:c.example", "192.0.2.1:5060"),
        ]);
        let told: Vec<String> = is.moved(&was).iter().map(ToString::to_string).collect();
        assert_eq!(told, ["sip:a.example leads to 192.0.2.9:5060 now; 192.0.2.1:5060 drains"]);
        let is = is.succeed(&was, &HashSet::new());
        assert_eq!(hosts(&is), ["192.0.2.2", "192.0.2.9", "192.0.2.1", "192.0.2.1"]);
        assert!(is.moved(&is).is_empty());
    }
}
