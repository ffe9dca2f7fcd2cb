//! Both nodes serve, each at an address of its own, and each stands in for the other one.

use std::net::Ipv4Addr;

use super::lan::Host;
use super::node::Node;
use super::pair::{Pair, Plan, VIP};
use super::world::World;

/// The addresses of the nodes, as callers know them.
pub const SERVICES: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 71), Ipv4Addr::new(10, 77, 0, 72)];

impl Plan {
    /// Each node has an address of its own that the other one takes over.
    pub fn crossed(self) -> Plan {
        let services = format!("service-ip.1 = \"{}\"\nservice-ip.2 = \"{}\"\n", SERVICES[0], SERVICES[1]);
        self.both(|mut setup| {
            let vip = format!("virtual-ip = \"{VIP}\"\n");
            assert!(setup.cluster.contains(&vip), "{}", setup.cluster);
            setup.cluster = setup.cluster.replace("active-standby", "active-active").replace(&vip, &services);
            setup
        })
    }

    /// Starts both nodes and waits until each serves at its own address.
    #[track_caller]
    pub fn start_crossed(self, world: &World) -> Pair<'_> {
        let pair = self.launch(world);
        pair.until_crossed();
        pair
    }
}

impl Pair<'_> {
    /// Waits until each node serves at its own address alone, and each could take over from the other.
    #[track_caller]
    pub fn until_crossed(&self) {
        self.wait("two nodes at their own addresses", || {
            let serves = |node: &Node| node.role().as_deref() == Some("active") && node.armed();
            let holds = |n: usize| SERVICES.map(|address| answers(&self.field.nodes[n], address));
            let at_home = holds(0) == [true, false] && holds(1) == [false, true];
            (self.nodes.iter().all(serves) && at_home).then_some(())
        });
    }

    /// Waits until this node stands in for the other one.
    #[track_caller]
    pub fn until_stood_in(&self, by: usize) {
        self.wait("a node that stands in for the other one", || {
            SERVICES.iter().all(|address| answers(&self.field.nodes[by], *address)).then_some(())
        });
    }
}

/// Whether a host answers for an address: one that it keeps in silence is on its loopback interface.
fn answers(host: &Host, address: Ipv4Addr) -> bool {
    host.ip("-o addr show dev eth0").contains(&format!(" {address}/"))
}
