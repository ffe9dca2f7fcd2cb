//! Both nodes serve: a balancer on the left owns the virtual address and gives each datagram to one of them, as it came.
//! Each node has the address, too, and is silent about it, so answers leave from it directly.

use std::net::Ipv4Addr;

use super::lan::{Host, Net, Rules};
use super::node::Node;
use super::pair::{NODES, Pair, Plan, VIP};
use super::world::World;

/// The balancer on the service network.
pub const BALANCER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 60);

/// How a balancer spreads datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Spread {
    /// Each to a node of its own.
    Datagrams,
    /// All of one source to one node.
    Sources,
}

/// A balancer at work.
pub struct Balancer {
    host: Host,
    spread: Spread,
    rules: Option<Rules>,
}

impl Balancer {
    /// Beside a pair that does not run yet. `None` where the kernel cannot do it.
    pub fn new(plan: &Plan, spread: Spread) -> Balancer {
        let field = &plan.field;
        let host = field.lan.host("balancer");
        field.lan.plug(&host, "eth0", Net::Left, &[BALANCER]);
        host.ip(&format!("addr add {VIP}/32 dev eth0"));
        for node in &field.nodes {
            for key in ["arp_ignore=1", "arp_announce=2"] {
                let set = node.command("sysctl").args(["-qw", &format!("net.ipv4.conf.all.{key}")]).status();
                assert!(set.is_ok_and(|status| status.success()), "{key}");
            }
            node.ip(&format!("addr add {VIP}/32 dev lo"));
        }
        let mut balancer = Balancer { host, spread, rules: None };
        balancer.serve(&[0, 1]);
        balancer
    }

    /// From now on these nodes get what comes in.
    pub fn serve(&mut self, nodes: &[usize]) {
        let count = nodes.len();
        let map: Vec<String> = nodes.iter().enumerate().map(|(n, node)| format!("{n} : {}", NODES[*node])).collect();
        let map = map.join(", ");
        let pick = match self.spread {
            Spread::Datagrams => format!("numgen random mod {count}"),
            Spread::Sources => format!("jhash ip saddr mod {count} seed 0x51b0"),
        };
        let before = self.rules.take();
        // A datagram in pieces goes to one node.
        let chain = format!(
            "type filter hook ingress device \"eth0\" priority 0;\n\
             ip daddr {VIP} ip frag-off & 0x3fff != 0 fwd ip to jhash ip saddr . ip id mod {count} map {{ {map} }} device \"eth0\"\n\
             ip daddr {VIP} meta l4proto udp fwd ip to {pick} map {{ {map} }} device \"eth0\"\n"
        );
        self.rules = Some(self.host.rules("netdev", &chain));
        drop(before);
    }
}

impl Plan {
    /// Both nodes serve behind a balancer that returns directly.
    pub fn behind(self, spread: Spread) -> (Plan, Balancer) {
        let balancer = Balancer::new(&self, spread);
        let mut plan = self;
        for setup in &mut plan.setups {
            setup.cluster = setup.cluster.replace("active-standby", "active-active") + "virtual-ip-in-via = true\n";
        }
        (plan, balancer)
    }

    /// Starts both nodes and waits until both serve and hold the same.
    #[track_caller]
    pub fn start_both(self, world: &World) -> Pair<'_> {
        let pair = self.launch(world);
        pair.until_both();
        pair
    }
}

impl Pair<'_> {
    /// Waits until both nodes serve, and each could take over from the other.
    #[track_caller]
    pub fn until_both(&self) {
        self.wait("two nodes that serve", || {
            let serves = |node: &Node| node.role().as_deref() == Some("active") && node.armed();
            self.nodes.iter().all(serves).then_some(())
        });
    }
}
