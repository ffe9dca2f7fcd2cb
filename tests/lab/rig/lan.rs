//! A small network of its own: hosts as network namespaces, joined by bridges in a namespace that plays the switch.

use std::cell::Cell;
use std::fs::{self, File};
use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::panic::resume_unwind;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::process::{Pid, Signal, kill_process};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use super::poll::{SOON, until_true};

/// Begin of every namespace of the lab.
const PREFIX: &str = "tandem-lab";
/// iproute2's word for putting a device into a bridge, as short as it takes it.
const JOIN: &str = "mast";
/// Where iproute2 keeps them.
const NAMESPACES: &str = "/run/netns";

/// A piece of the network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// One half of the service network.
    Left,
    /// The other half; a trunk joins the two.
    Right,
    /// A network of its own: the second path between the nodes.
    Second,
}

impl Net {
    fn bridge(self) -> &'static str {
        match self {
            Net::Left => "left",
            Net::Right => "right",
            Net::Second => "second",
        }
    }
}

/// The network. Dropped, it ends every process in its hosts and is gone, after a panic too.
pub struct Lan {
    tag: String,
    switch: Host,
    ports: Cell<u32>,
}

impl Lan {
    /// Three bridges, two of them joined. `None`, and a word on it, for who may not make namespaces.
    pub fn new() -> Option<Lan> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !rustix::process::geteuid().is_root() {
            println!("network namespaces: ABSENT (root makes them)");
            return None;
        }
        clear_stale();
        let tag = format!("{PREFIX}-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let lan = Lan { switch: Host::make(&tag, "switch"), tag, ports: Cell::new(0) };
        for net in [Net::Left, Net::Right, Net::Second] {
            let bridge = net.bridge();
            lan.switch.ip(&format!("link add name {bridge} type bridge forward_delay 0 mcast_snooping 0"));
            lan.switch.ip(&format!("link set {bridge} up"));
        }
        lan.switch.ip("link add name trunk-l type veth peer name trunk-r");
        for (end, bridge) in [("trunk-l", "left"), ("trunk-r", "right")] {
            lan.switch.ip(&format!("link set dev {end} {JOIN} {bridge}"));
            lan.switch.ip(&format!("link set {end} up"));
        }
        Some(lan)
    }

    /// A host without cables.
    pub fn host(&self, name: &str) -> Host {
        Host::make(&self.tag, name)
    }

    /// Plugs `host` into `net`; `addresses` are of /24 networks.
    pub fn plug(&self, host: &Host, device: &str, net: Net, addresses: &[Ipv4Addr]) -> Cable {
        self.ports.set(self.ports.get() + 1);
        let port = format!("port{}", self.ports.get());
        let (bridge, ns) = (net.bridge(), &host.ns);
        self.switch.ip(&format!("link add name {port} type veth peer name {device} netns {ns}"));
        self.switch.ip(&format!("link set dev {port} {JOIN} {bridge}"));
        self.switch.ip(&format!("link set {port} up"));
        host.ip(&format!("link set {device} up"));
        for address in addresses {
            host.ip(&format!("addr add {address}/24 dev {device}"));
        }
        Cable { switch: self.switch.clone(), port }
    }

    /// The cable between the two halves of the service network.
    pub fn trunk(&self) -> Cable {
        Cable { switch: self.switch.clone(), port: "trunk-l".to_owned() }
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        namespaces(&format!("{}-", self.tag)).iter().for_each(|ns| remove(ns));
    }
}

/// A link that can be pulled and put back; the host at its end sees the carrier go.
#[derive(Clone)]
pub struct Cable {
    switch: Host,
    /// Name of the port in the switch.
    pub port: String,
}

impl Cable {
    /// Pulls it.
    pub fn cut(&self) {
        self.switch.ip(&format!("link set {} down", self.port));
    }

    /// Puts it back.
    pub fn heal(&self) {
        self.switch.ip(&format!("link set {} up", self.port));
    }

    /// Takes it out of the bridge: nothing passes in either direction, and the host at its end keeps its carrier.
    pub fn deaden(&self) {
        self.switch.ip(&format!("link set dev {} no{JOIN}er", self.port));
    }

    /// Nothing faster than this, e.g. `10mbit`, leaves the switch towards the host.
    pub fn rate(&self, rate: &str) {
        let args = format!("qdisc replace dev {} root tbf rate {rate} burst 16kb latency 50ms", self.port);
        run(self.switch.command("tc").args(args.split(' ')));
    }
}

/// A machine of the network.
#[derive(Clone, Debug)]
pub struct Host {
    ns: String,
    /// What the test calls it.
    pub name: String,
}

impl Host {
    fn make(tag: &str, name: &str) -> Host {
        let ns = format!("{tag}-{name}");
        run(Command::new("ip").args(["netns", "add", &ns]));
        let host = Host { ns, name: name.to_owned() };
        host.ip("link set lo up");
        host
    }

    /// A command that runs in this host, with its own view of `/sys`.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.ns]).arg(program);
        command
    }

    /// What a process is started through to run in this host.
    pub fn wrapper(&self) -> Vec<String> {
        ["ip", "netns", "exec", &self.ns].map(str::to_owned).to_vec()
    }

    /// Calls `act` in this host: sockets that it opens and processes that it starts belong here for good.
    pub fn within<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(Path::new(NAMESPACES).join(&self.ns)).expect("a namespace that lives");
        let enter = || {
            move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network)).expect("the right to enter");
            act()
        };
        thread::scope(|scope| scope.spawn(enter).join()).unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// `ip` in this host; its output. Panics when it fails.
    #[track_caller]
    pub fn ip(&self, args: &str) -> String {
        run(Command::new("ip").args(["-n", &self.ns]).args(args.split(' ')))
    }

    /// Whether an interface of it has this address.
    pub fn holds(&self, address: Ipv4Addr) -> bool {
        self.ip("-o addr show").split_whitespace().any(|word| word.split('/').next() == Some(&address.to_string()))
    }

    /// The link-layer address of a device.
    pub fn mac(&self, device: &str) -> String {
        let shown = self.ip(&format!("-o link show dev {device}"));
        let mut words = shown.split_whitespace().skip_while(|word| *word != "link/ether");
        words.nth(1).expect("a MAC").to_owned()
    }

    /// What it believes to be the link-layer address of `address`; `None` when it knows of none.
    pub fn neighbour(&self, address: Ipv4Addr) -> Option<String> {
        let shown = self.ip(&format!("neigh show {address}"));
        shown.split_whitespace().skip_while(|word| *word != "lladdr").nth(1).map(str::to_owned)
    }

    /// Puts nft rules into force, in a table of their own of this family (`inet`, `arp`, `bridge`, `ip`); `chain` is what
    /// stands inside the chain.
    #[track_caller]
    pub fn rules(&self, family: &str, chain: &str) -> Rules {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let table = format!("{family} lab{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let text = format!("table {table} {{\n chain faults {{\n {chain}\n }}\n}}\n");
        let mut nft = self.command("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn().expect("nft");
        nft.stdin.take().expect("its input").write_all(text.as_bytes()).expect("nft reads");
        assert!(nft.wait().expect("nft").success(), "{text}");
        Rules { host: self.clone(), table }
    }

    /// Drops this share of what comes in for a port, in percent.
    pub fn lossy(&self, port: u16, percent: u32) -> Rules {
        let drop = if percent < 100 { format!("numgen random mod 100 < {percent} drop") } else { "drop".to_owned() };
        let of_port = |what: &str| format!("{what} {port} {drop}\n");
        let rules: String = ["udp dport", "udp sport", "tcp dport", "tcp sport"].map(of_port).concat();
        self.rules("inet", &format!("type filter hook input priority -300;\n{rules}"))
    }

    /// Counts what it sends from `address`, and what it sends as SIP from any other.
    pub fn counts_sip(&self, address: Ipv4Addr) -> Rules {
        let of = |port: &str| format!("meta l4proto {{ tcp, udp }} th {port} 5060 counter accept\n");
        let rules = ["sport", "dport"].map(of).concat();
        self.rules("inet", &format!("type filter hook output priority 0;\n ip saddr {address} counter accept\n{rules}"))
    }

    /// Hears nothing of `address` any more: neither IP nor ARP.
    pub fn deaf_to(&self, address: Ipv4Addr) -> [Rules; 2] {
        let ip = format!("type filter hook input priority -300;\n ip saddr {address} drop;");
        let arp = format!("type filter hook input priority -300;\n arp saddr ip {address} drop;");
        [self.rules("inet", &ip), self.rules("arp", &arp)]
    }

    /// The processes of this host.
    pub fn pids(&self) -> Vec<i32> {
        pids(&self.ns)
    }
}

/// Rules in force until they are dropped.
pub struct Rules {
    host: Host,
    table: String,
}

impl Rules {
    /// Packets that the counters among them have seen.
    #[track_caller]
    pub fn packets(&self) -> u64 {
        let shown = run(self.host.command("nft").args(["list", "table"]).args(self.table.split(' ')));
        let mut words = shown.split_whitespace();
        let counts = std::iter::from_fn(|| words.by_ref().skip_while(|word| *word != "packets").nth(1));
        counts.map(|count| count.parse::<u64>().expect("a count of nft")).sum()
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        // The namespace may be gone already.
        let _ = self.host.command("nft").args(["delete", "table"]).args(self.table.split(' ')).output();
    }
}

/// Sends SIGKILL at once, without a process of its own; who is gone already is no error.
pub fn kill(pid: u32) {
    signal(pid, Signal::KILL);
}

/// Likewise any signal.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid).ok().and_then(Pid::from_raw).expect("a process id");
    let _gone = kill_process(pid, signal);
}

/// Runs a command to its end; its output. Panics when it fails.
#[track_caller]
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn namespaces(prefix: &str) -> Vec<String> {
    let entries = fs::read_dir(NAMESPACES).into_iter().flatten().flatten();
    entries.filter_map(|e| e.file_name().into_string().ok()).filter(|name| name.starts_with(prefix)).collect()
}

fn pids(ns: &str) -> Vec<i32> {
    let shown = Command::new("ip").args(["netns", "pids", ns]).output();
    let shown = shown.map(|o| String::from_utf8_lossy(&o.stdout).into_owned()).unwrap_or_default();
    shown.lines().filter_map(|line| line.trim().parse().ok()).collect()
}

/// Ends what runs in a namespace, and the namespace.
fn remove(ns: &str) {
    let own = i32::try_from(std::process::id()).unwrap_or(0);
    for pid in pids(ns).into_iter().filter(|pid| *pid != own).filter_map(Pid::from_raw) {
        let _gone = kill_process(pid, Signal::KILL);
    }
    let _ = Command::new("ip").args(["netns", "del", ns]).output();
}

/// Removes what a run that was killed has left behind: namespaces that name a process which is no more.
fn clear_stale() {
    for ns in namespaces(&format!("{PREFIX}-")) {
        let maker = ns.strip_prefix(PREFIX).and_then(|rest| rest.split('-').nth(1)).unwrap_or("");
        if !PathBuf::from("/proc").join(maker).exists() {
            remove(&ns);
        }
    }
}

/// Waits until `host` holds `address`.
#[track_caller]
pub fn until_held(host: &Host, address: Ipv4Addr) {
    until_true(&format!("{} holds {address}", host.name), SOON, || host.holds(address));
}
