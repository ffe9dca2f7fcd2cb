//! A third host that both halves of the service network reach while they are apart, and what decides there.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use super::lan::{Cable, Host, Net};
use super::node::binary;
use super::pair::Field;
use super::poll::{SOON, until_true};
use super::process::Process;
use super::world::World;

/// The address of the third host.
pub const WITNESS: Ipv4Addr = Ipv4Addr::new(10, 80, 0, 1);

/// The third host, with a leg in each half.
pub struct Third {
    host: Host,
    /// Its legs: the first node's, the second node's.
    pub legs: [Cable; 2],
}

impl Third {
    /// Plugs it in; each node has its own way to it.
    pub fn new(field: &Field) -> Third {
        let host = field.lan.host("third");
        host.ip(&format!("addr add {WITNESS}/32 dev lo"));
        // Both legs are on one wire while the network is whole: each speaks for itself alone.
        let alone = ["net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2"];
        assert!(host.command("sysctl").arg("-qw").args(alone).status().expect("sysctl").success());
        let legs = [(0, Net::Left), (1, Net::Right)].map(|(n, net)| {
            let (third, node) = (Ipv4Addr::new(10, 81, n, 1), Ipv4Addr::new(10, 81, n, 2));
            let cable = field.lan.plug(&host, &format!("eth{n}"), net, &[third]);
            field.nodes[usize::from(n)].ip(&format!("addr add {node}/24 dev eth0"));
            field.nodes[usize::from(n)].ip(&format!("route add {WITNESS}/32 via {third}"));
            cable
        });
        Third { host, legs }
    }

    /// Starts `tandem witness` there.
    #[track_caller]
    pub fn tandem(&self, world: &World) -> Process {
        let at = SocketAddr::new(IpAddr::V4(WITNESS), 9802);
        let mut command = self.host.command(binary());
        command.args(["witness", "--listen", &at.to_string(), "--secret-file"]).arg(world.path("secret"));
        self.start(world, "witness", command, at)
    }

    /// Starts etcd there, as one of its own.
    #[track_caller]
    pub fn etcd(&self, world: &World) -> Process {
        let at = SocketAddr::new(IpAddr::V4(WITNESS), 2379);
        let clients = format!("http://{at}");
        let mut command = self.host.command("etcd");
        command.arg("--data-dir").arg(world.path("etcd"));
        command.args(["--listen-client-urls", &clients, "--advertise-client-urls", &clients]);
        command.args(["--listen-peer-urls", "http://127.0.0.1:2380"]);
        self.start(world, "etcd", command, at)
    }

    #[track_caller]
    fn start(&self, world: &World, name: &str, mut command: Command, at: SocketAddr) -> Process {
        let process = Process::start(world, name, &mut command);
        until_true(&format!("{name} holds {at}"), SOON, || process.sees_bound(at));
        process
    }
}
