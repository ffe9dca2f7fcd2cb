//! The two nodes of the demo: processes of this very program with configurations of their own, and what they say of
//! themselves.

use std::fmt::Display;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::Mutex;

use crate::cli::http;
use crate::report::{ResourceRow, Status};
use crate::runtime::state;
use crate::runtime::sys::process::die_together;

/// Nodes of a pair.
pub const NODES: usize = 2;
/// How often they are asked.
const ASK: Duration = Duration::from_millis(100);
/// How often a port may be taken by somebody else between the look and the start.
const PORTS: usize = 20;

/// Both nodes have it, but for the lines of their own. The virtual address is on loopback, so that nobody needs a
/// privilege.
const CONFIGURATION: &str = r#"
[cluster]
name = "demo"
ha-mode = "active-standby"
mymemberid = {node}
member.1 = "{member1}"
member.2 = "{member2}"
virtual-ip = "{ip}"
vip-manager = "none"
state-dir = "{state}"

[proxy]
sip.transport = ["udp:{sip}"]

[admin]
listen = "{admin}"

[[resource-group]]
name = "MCP_LRG"
service-types = ["voicexml", "announcement", "conference", "msml"]
load-balance-scheme = "round-robin"
monitor-method = "option"
monitor-interval = "500ms"
monitor-timeout = "400ms"
monitor-down-after = 2
monitor-up-after = 2
"#;

/// What the nodes last said.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Index = node; `None`: it does not answer.
    pub nodes: [Option<Status>; NODES],
    /// The media servers as the active node sees them.
    pub resources: Vec<ResourceRow>,
}

impl Seen {
    /// The active node.
    pub fn active(&self) -> Option<usize> {
        (0..NODES).find(|n| self.role(*n) == "active")
    }

    /// What a node says it is.
    pub fn role(&self, node: usize) -> &str {
        match &self.nodes[node] {
            Some(status) => status.pair.as_ref().map_or("alone", |pair| &pair.role),
            None => "dead",
        }
    }

    /// Whether either node could die now without a loss.
    pub fn is_armed(&self) -> bool {
        let armed = |s: &Option<Status>| s.as_ref().and_then(|s| s.pair.as_ref()).is_some_and(|pair| pair.armed);
        self.active().is_some() && self.nodes.iter().all(armed)
    }

    /// How long a node says that its takeover took.
    pub fn took(&self, node: usize) -> Option<Duration> {
        let pair = self.nodes[node].as_ref()?.pair.as_ref().filter(|pair| pair.role == "active")?;
        pair.last_takeover_seconds.map(Duration::from_secs_f64)
    }
}

/// Two processes that are one proxy.
pub struct Nodes {
    /// The virtual address.
    pub sip: SocketAddr,
    admins: [SocketAddr; NODES],
    processes: [Option<Child>; NODES],
    secret: String,
    dir: Dir,
    seen: Arc<Mutex<Seen>>,
    over: Arc<AtomicBool>,
}

impl Nodes {
    /// Starts both, in front of these media servers.
    pub fn start(servers: &[SocketAddr]) -> Result<Self, String> {
        let dir = Dir::new().map_err(text)?;
        let [own, other, shared] = addresses();
        let sip = free_port(shared)?;
        let members = [free_port(own)?, free_port(other)?];
        let local = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let admins = [free_port(local)?, free_port(local)?];
        for (n, admin) in admins.iter().enumerate() {
            let mut configuration = CONFIGURATION
                .replace("{node}", &(n + 1).to_string())
                .replace("{member1}", &members[0].to_string())
                .replace("{member2}", &members[1].to_string())
                .replace("{ip}", &sip.ip().to_string())
                .replace("{sip}", &sip.to_string())
                .replace("{admin}", &admin.to_string())
                .replace("{state}", &dir.0.join(format!("node-{}", n + 1)).display().to_string());
            for server in servers {
                configuration
                    .push_str(&format!("\n[[resource-group.resource]]\naor = \"sip:{server}\"\nport-capacity = 200\n"));
            }
            std::fs::write(dir.configuration(n), configuration).map_err(text)?;
        }
        let secret = state::random::<16>().map_err(text)?.iter().map(|octet| format!("{octet:02x}")).collect();
        let (seen, over) = (Arc::default(), Arc::default());
        let mut nodes = Self { sip, admins, processes: [None, None], secret, dir, seen, over };
        nodes.revive(0)?;
        nodes.revive(1)?;
        nodes.watch()?;
        Ok(nodes)
    }

    /// What the nodes last said, at most a moment ago.
    pub fn seen(&self) -> Seen {
        self.seen.lock().clone()
    }

    /// SIGKILL: no last word, no last packet.
    pub fn kill(&mut self, node: usize) {
        if let Some(mut process) = self.processes[node].take() {
            let _it_may_be_dead = process.kill();
            // What it said before must not pass for the truth.
            self.seen.lock().nodes[node] = None;
            let _it_ends = process.wait();
        }
    }

    /// Starts a node that is dead.
    pub fn revive(&mut self, node: usize) -> Result<(), String> {
        let log = File::options().create(true).append(true).open(self.dir.log(node)).map_err(text)?;
        let mut command = Command::new("/proc/self/exe");
        command.arg("run").arg("--config").arg(self.dir.configuration(node));
        command.env(state::SECRET_VARIABLE, &self.secret).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        let child = die_together(&mut command).spawn().map_err(|e| format!("node {} does not start: {e}", node + 1))?;
        self.processes[node] = Some(child);
        Ok(())
    }

    /// A node that ended without being killed, with its last words.
    pub fn fallen(&mut self) -> Option<String> {
        for (n, process) in self.processes.iter_mut().enumerate() {
            if let Some(Ok(Some(status))) = process.as_mut().map(Child::try_wait) {
                let log = std::fs::read_to_string(self.dir.log(n)).unwrap_or_default();
                let last = log.lines().last().unwrap_or("it said nothing");
                return Some(format!("node {} ended by itself ({status}): {last}", n + 1));
            }
        }
        None
    }

    /// Leaves the logs behind; returns where.
    pub fn keep_logs(&mut self) -> String {
        self.dir.1 = true;
        self.dir.0.display().to_string()
    }

    fn watch(&self) -> Result<(), String> {
        let (admins, seen, over) = (self.admins, Arc::clone(&self.seen), Arc::clone(&self.over));
        let thread = std::thread::Builder::new().name("watcher".into());
        let look = move || {
            while !over.load(Ordering::Relaxed) {
                for (n, admin) in admins.iter().enumerate() {
                    let status = get::<Status>(admin, "/api/status");
                    seen.lock().nodes[n] = status;
                }
                let active = seen.lock().active();
                if let Some(rows) = active.and_then(|n| get(&admins[n], "/api/resources")) {
                    seen.lock().resources = rows;
                }
                std::thread::sleep(ASK);
            }
        };
        thread.spawn(look).map(drop).map_err(text)
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        (0..NODES).for_each(|n| self.kill(n));
    }
}

fn get<T: serde::de::DeserializeOwned>(admin: &SocketAddr, path: &str) -> Option<T> {
    let answer = http::ask(&admin.to_string(), "GET", path).ok()?;
    serde_json::from_str(&answer.body).ok()
}

/// Addresses of 127/8 that hardly anybody else on this machine uses: of each node, and of both.
fn addresses() -> [IpAddr; 3] {
    let [.., high, low] = std::process::id().to_be_bytes();
    [1, 2, 10].map(|last| IpAddr::from([127, 64 | high >> 2, low, last]))
}

/// A port that is free for UDP and TCP.
fn free_port(ip: IpAddr) -> Result<SocketAddr, String> {
    let mut last = None;
    for _ in 0..PORTS {
        let stream = TcpListener::bind((ip, 0)).map_err(text)?;
        let addr = stream.local_addr().map_err(text)?;
        match UdpSocket::bind(addr) {
            Ok(_) => return Ok(addr),
            Err(e) => last = Some(e),
        }
    }
    Err(format!("no free port on {ip}: {}", last.map(text).unwrap_or_default()))
}

/// A directory for this process alone, gone with it unless it is to be kept.
struct Dir(PathBuf, bool);

impl Dir {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("tandem-demo-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        Ok(Self(path, false))
    }

    fn configuration(&self, node: usize) -> PathBuf {
        self.0.join(format!("node-{}.toml", node + 1))
    }

    fn log(&self, node: usize) -> PathBuf {
        self.0.join(format!("node-{}.log", node + 1))
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        if !self.1 {
            let _it_is_only_temporary = std::fs::remove_dir_all(&self.0);
        }
    }
}

fn text(why: impl Display) -> String {
    why.to_string()
}
