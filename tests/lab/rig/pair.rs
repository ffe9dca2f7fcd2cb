//! The pair: two nodes in two hosts of a network, each with two paths to the other, callers and media servers around
//! them.
//!
//! Node 1, the callers and two media servers are on the left half of the service network; node 2, a third media server
//! and more callers are on the right half. The trunk between the halves can be cut. The second network joins the nodes
//! alone.

use std::fs::{self, Permissions};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use super::lan::{Cable, Host, Lan, Net, Rules};
use super::node::{Node, Setup};
use super::poll::until_or;
use super::world::World;

/// The address that moves.
pub const VIP: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
/// The nodes on the service network.
pub const NODES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)];
/// The nodes on their own network.
pub const SECOND: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 78, 0, 1), Ipv4Addr::new(10, 78, 0, 2)];
/// Callers on the left.
pub const CALLER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 10);
/// Callers on the right.
pub const FAR_CALLER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 11);
/// Media servers on the left.
pub const SERVERS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 21), Ipv4Addr::new(10, 77, 0, 22)];
/// The media server on the right.
pub const FAR_SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 23);
/// Who only looks on, on the left.
pub const WATCHER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 50);
/// Port of beats and peer streams.
pub const PEER_PORT: u16 = 9_801;

/// How long anything of a pair may take on a busy machine: joining, a takeover, arming.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// What a pair is made of before it runs.
pub struct Plan {
    /// The nodes' configurations.
    pub setups: [Setup; 2],
    /// Hosts and cables.
    pub field: Field,
}

/// Hosts and cables. Before `lan` goes, every process in the hosts is ended.
pub struct Field {
    /// The network.
    pub lan: Lan,
    /// The nodes' hosts.
    pub nodes: [Host; 2],
    /// Their cables into the service network.
    pub cables: [Cable; 2],
    /// Their cables into the second network.
    pub seconds: [Cable; 2],
    /// Callers, left.
    pub callers: Host,
    /// Callers, right.
    pub far_callers: Host,
    /// Media servers, left.
    pub servers: Host,
    /// Media server, right.
    pub far_servers: Host,
    /// Who looks on, left.
    pub watcher: Host,
}

impl Field {
    /// All hosts with their cables. `None` where namespaces cannot be made.
    pub fn new() -> Option<Field> {
        let lan = Lan::new()?;
        let nodes = ["node1", "node2"].map(|name| lan.host(name));
        let halves = [Net::Left, Net::Right];
        let cables = [0, 1].map(|n| lan.plug(&nodes[n], "eth0", halves[n], &[NODES[n]]));
        let seconds = [0, 1].map(|n| lan.plug(&nodes[n], "eth1", Net::Second, &[SECOND[n]]));
        let host = |name: &str, net, addresses: &[Ipv4Addr]| {
            let host = lan.host(name);
            lan.plug(&host, "eth0", net, addresses);
            host
        };
        Some(Field {
            callers: host("callers", Net::Left, &[CALLER]),
            far_callers: host("far-callers", Net::Right, &[FAR_CALLER]),
            servers: host("servers", Net::Left, &SERVERS),
            far_servers: host("far-servers", Net::Right, &[FAR_SERVER]),
            watcher: host("watcher", Net::Left, &[WATCHER]),
            lan,
            nodes,
            cables,
            seconds,
        })
    }

    /// Cuts or heals everything between the two nodes: the trunk and the second network.
    pub fn part(&self, parted: bool) {
        for cable in [self.lan.trunk(), self.seconds[0].clone()] {
            if parted { cable.cut() } else { cable.heal() }
        }
    }

    /// Lets nothing of the peer link and no beat pass any more, on any path; the service network goes on.
    pub fn mute_peers(&self) -> [Rules; 2] {
        [0, 1].map(|n| self.nodes[n].lossy(PEER_PORT, 100))
    }
}

impl Plan {
    /// A pair with the left media servers, unprobed, of this capacity each. `None` where namespaces cannot be made.
    pub fn new(world: &World, capacity: &str) -> Option<Plan> {
        let field = Field::new()?;
        secret(world, "secret", "a secret of the lab, long enough to be one\n");
        let setup = |n: usize| {
            let mut setup = Setup::new(world).inside(&field.nodes[n]);
            setup.name = format!("node{}", n + 1);
            setup.listen = ["udp", "tcp"].map(|transport| format!("{transport}:0.0.0.0:5060")).to_vec();
            setup.cluster = cluster(world, n);
            setup.members(&SERVERS.map(sip), capacity)
        };
        Some(Plan { setups: [setup(0), setup(1)], field })
    }

    /// The same change to both configurations.
    pub fn both(mut self, change: impl Fn(Setup) -> Setup) -> Plan {
        self.setups = self.setups.map(change);
        self
    }

    /// Starts both nodes at once and waits until one is active and both are armed.
    #[track_caller]
    pub fn start(self, world: &World) -> Pair<'_> {
        let pair = self.launch(world);
        pair.until_armed();
        pair
    }

    /// Starts both nodes and waits for nothing.
    #[track_caller]
    pub fn launch(self, world: &World) -> Pair<'_> {
        let nodes = self.setups.map(|setup| setup.launch(world));
        Pair { nodes, field: self.field, world }
    }
}

/// Writes a secret as a file that only its owner reads.
pub fn secret(world: &World, name: &str, text: &str) -> PathBuf {
    let path = world.write(name, text);
    fs::set_permissions(&path, Permissions::from_mode(0o600)).expect("its mode");
    path
}

/// `[cluster]` of node `n` (0 or 1).
fn cluster(world: &World, n: usize) -> String {
    let paths = |n: usize| format!("[\"{}:{PEER_PORT}\", \"{}:{PEER_PORT}\"]", NODES[n], SECOND[n]);
    format!(
        "ha-mode = \"active-standby\"\nname = \"lab\"\nmymemberid = {}\nvirtual-ip = \"{VIP}\"\n\
         member.1 = {}\nmember.2 = {}\nsecret-file = {:?}\n",
        n + 1,
        paths(0),
        paths(1),
        world.path("secret"),
    )
}

/// Port 5060 of an address.
pub fn sip(ip: Ipv4Addr) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(ip), 5060)
}

/// Two nodes at work.
pub struct Pair<'w> {
    /// The nodes.
    pub nodes: [Node; 2],
    /// Hosts and cables.
    pub field: Field,
    world: &'w World,
}

impl Pair<'_> {
    /// Which node says that it is active; `None` while none or both do.
    pub fn active(&self) -> Option<usize> {
        match [0, 1].map(|n| self.nodes[n].role().as_deref() == Some("active")) {
            [true, false] => Some(0),
            [false, true] => Some(1),
            _ => None,
        }
    }

    /// Waits for a fact about the pair; says what both nodes last said if it does not come.
    #[track_caller]
    pub fn wait<T>(&self, what: &str, ask: impl FnMut() -> Option<T>) -> T {
        until_or(|| self.describe(what), PATIENCE, ask)
    }

    /// Waits until exactly one node is active and holds the address, the other does not, and both are armed; which one.
    #[track_caller]
    pub fn until_armed(&self) -> usize {
        self.wait("an armed pair", || {
            let active = self.active()?;
            let holds = [0, 1].map(|n| self.field.nodes[n].holds(VIP));
            let placed = holds[active] && !holds[1 - active];
            (placed && self.nodes.iter().all(Node::armed)).then_some(active)
        })
    }

    /// Waits until this node is active and holds the address.
    #[track_caller]
    pub fn until_active(&self, n: usize) {
        self.wait(&format!("node {} active", n + 1), || {
            let active = self.nodes[n].role().as_deref() == Some("active") && self.field.nodes[n].holds(VIP);
            active.then_some(())
        });
    }

    /// Waits until this node is in a role.
    #[track_caller]
    pub fn until_role(&self, n: usize, role: &str) {
        let is = || (self.nodes[n].role().as_deref() == Some(role)).then_some(());
        self.wait(&format!("node {} {role}", n + 1), is);
    }

    /// Starts a node again whose process has ended.
    #[track_caller]
    pub fn revive(&mut self, n: usize) {
        self.nodes[n].launch_again(self.world);
    }

    /// Kills a node's process as a crash would and waits for its end.
    #[track_caller]
    pub fn crash(&mut self, n: usize) {
        self.nodes[n].process.crash();
    }

    /// Asks a node to hand over, and waits until the other one is active.
    #[track_caller]
    pub fn switch_over(&self, from: usize) {
        let (code, said) = self.nodes[from].order(&["switchover"]);
        assert_eq!(code, Some(0), "{said}");
        self.until_active(1 - from);
    }

    /// Waits until both nodes hold the same calls on the same ports, resource by resource; how many calls.
    #[track_caller]
    pub fn until_equal(&self) -> f64 {
        self.wait("equal nodes", || {
            let [a, b] = [self.nodes[0].try_metrics()?, self.nodes[1].try_metrics()?];
            let apart = [&a, &b].map(|m| m.sum("tandem_peer_divergence_sessions"));
            let [ports, others] = [&a, &b].map(|m| m.of("tandem_ports_in_use"));
            let same = ports == others && a.sum("tandem_calls") == b.sum("tandem_calls");
            (apart == [0.0; 2] && same).then(|| a.sum("tandem_calls"))
        })
    }

    /// Waits until neither node holds a call or a port.
    #[track_caller]
    pub fn until_idle(&self) {
        let idle = |node: &Node| {
            let names = ["tandem_calls", "tandem_ringing", "tandem_ports_in_use"];
            node.try_metrics().is_some_and(|m| names.iter().all(|name| m.sum(name) == 0.0))
        };
        // RFC 3261 §9.1: an attempt whose CANCEL nobody answers holds its port for 64·T1 more.
        let limit = PATIENCE + Duration::from_secs(32);
        let what = "no call and no port";
        until_or(|| self.describe(what), limit, || self.nodes.iter().all(idle).then_some(()));
    }

    /// `what`, how both nodes are, and their last words.
    fn describe(&self, what: &str) -> String {
        let mut text = what.to_owned();
        for (node, host) in self.nodes.iter().zip(&self.field.nodes) {
            let log = node.log();
            let lines: Vec<&str> = log.lines().collect();
            let last = lines[lines.len().saturating_sub(15)..].join("\n");
            let (role, armed, holds) = (node.role(), node.armed(), host.holds(VIP));
            let (_, calls) = node.order(&["calls"]);
            let held =
                node.try_metrics().map(|m| ["tandem_calls", "tandem_ringing", "tandem_ports_in_use"].map(|n| m.sum(n)));
            text += &format!("\n-- {}: role {role:?}, armed {armed}, address {holds}", host.name);
            text += &format!("\ncalls, ringing, ports: {held:?}\n{calls}\n{last}");
        }
        text
    }
}

impl Node {
    /// Its role as its metrics say; `None` while nobody answers.
    pub fn role(&self) -> Option<String> {
        let metrics = self.try_metrics()?;
        let mut roles = metrics.series().filter(|(name, value)| name.starts_with("tandem_role{") && *value == 1.0);
        roles.next().and_then(|(name, _)| name.split('"').nth(1)).map(str::to_owned)
    }

    /// Whether it says that its peer could take over without a loss.
    pub fn armed(&self) -> bool {
        matches!(self.get("/ready/switchover"), Ok((200, _)))
    }

    /// Counter of the epoch in force.
    #[track_caller]
    pub fn epoch(&self) -> f64 {
        self.metrics().sum("tandem_epoch")
    }
}
