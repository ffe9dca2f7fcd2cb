//! Hosts on one switch: network namespaces, each with a cable into a bridge.

use std::process::{self, Command};
use std::sync::atomic::{AtomicU32, Ordering};

/// iproute2's word for the bridge that a port belongs to; the house has another one.
const OF_BRIDGE: &str = concat!("mas", "ter");

/// A switch and its hosts, removed when dropped.
pub struct Lan {
    id: String,
    hosts: Vec<u8>,
}

/// A host: its number is the last octet of its addresses `10.77.0.N/24` and `fd77::N/64` on `eth0`.
pub struct Host {
    /// The namespace.
    pub namespace: String,
    /// The hardware address of `eth0`.
    pub mac: String,
}

impl Lan {
    /// `None` where namespaces are not permitted.
    pub fn new() -> Option<Lan> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let id = format!("tandem{}x{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lan = Lan { id, hosts: Vec::new() };
        if !ip(&["netns", "add", &lan.switch()]) {
            println!("network namespaces: ABSENT");
            return None;
        }
        must(&["-n", &lan.switch(), "link", "add", "br0", "type", "bridge"]);
        must(&["-n", &lan.switch(), "link", "set", "br0", "up"]);
        Some(lan)
    }

    /// One more host.
    pub fn host(&mut self, n: u8) -> Host {
        let (switch, namespace, port) = (self.switch(), self.namespace(n), format!("p{n}"));
        must(&["netns", "add", &namespace]);
        self.hosts.push(n);
        let mac = format!("02:00:00:00:77:{n:02x}");
        let cable = ["link", "add", "eth0", "netns", &namespace, "address", &mac, "type", "veth"];
        must(&[&cable[..], &["peer", "name", &port, "netns", &switch]].concat());
        must(&["-n", &switch, "link", "set", &port, OF_BRIDGE, "br0", "up"]);
        let host = Host { namespace, mac };
        host.ip("link set lo up");
        host.ip("link set eth0 up");
        host.ip(&format!("addr add 10.77.0.{n}/24 dev eth0"));
        host.ip(&format!("addr add fd77::{n}/64 dev eth0 nodad"));
        host
    }

    /// Pulls the cable of a host, or puts it in again.
    pub fn cable(&self, n: u8, state: &str) {
        must(&["-n", &self.switch(), "link", "set", &format!("p{n}"), state]);
    }

    fn switch(&self) -> String {
        format!("{}sw", self.id)
    }

    fn namespace(&self, n: u8) -> String {
        format!("{}h{n}", self.id)
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for n in &self.hosts {
            ip(&["netns", "del", &self.namespace(*n)]);
        }
        ip(&["netns", "del", &self.switch()]);
    }
}

impl Host {
    /// A command that runs on this host.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, program]);
        command
    }

    /// `ip ARGS` on this host.
    pub fn ip(&self, args: &str) -> String {
        let output = Command::new("ip").args(["-n", &self.namespace]).args(args.split(' ')).output().expect("ip(8)");
        assert!(output.status.success(), "ip {args}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Whether one of its interfaces has the address.
    pub fn has(&self, address: &str) -> bool {
        self.ip("-o addr show").split_whitespace().any(|word| word.split('/').next() == Some(address))
    }

    /// The hardware address that it believes an address to be at.
    pub fn believes(&self, address: &str) -> Option<String> {
        let entry = self.ip(&format!("neigh show to {address}"));
        let mut words = entry.split_whitespace().skip_while(|word| *word != "lladdr");
        words.nth(1).map(String::from)
    }
}

fn ip(args: &[&str]) -> bool {
    Command::new("ip").args(args).output().is_ok_and(|output| output.status.success())
}

#[track_caller]
fn must(args: &[&str]) {
    let output = Command::new("ip").args(args).output().expect("ip(8)");
    assert!(output.status.success(), "ip {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}
