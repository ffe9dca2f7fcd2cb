//! The node under test: its configuration, its process, and what it says of itself.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::http;
use super::lan::Host;
use super::poll::{SOON, until, until_true};
use super::process::Process;
use super::world::World;

/// Where a node listens unless a test says otherwise.
pub const NODE: u8 = 1;
/// How long anything of a call may be remembered after it: a BYE that nobody answers takes 64*T1, and what it ended is
/// remembered for as long again.
pub const FORGOTTEN: Duration = Duration::from_secs(80);

/// A configuration in the making.
#[derive(Clone)]
pub struct Setup {
    /// `sip.transport`.
    pub listen: Vec<String>,
    /// `[admin] listen`.
    pub admin: SocketAddr,
    /// Further lines of `[admin]`.
    pub admin_lines: String,
    /// T1 in milliseconds. Shorter than the default of 500, so that 64*T1 is soon over.
    pub t1: u16,
    /// Further lines of `[proxy]`.
    pub proxy: String,
    /// `[log] level`.
    pub level: &'static str,
    /// The groups as text.
    pub groups: String,
    /// Environment of the process.
    pub env: Vec<(&'static str, String)>,
    /// What the binary is started through, e.g. `prlimit --nofile=64`.
    pub wrapper: Vec<String>,
    /// Begin of the names of its files.
    pub name: String,
    /// Further lines of `[cluster]`.
    pub cluster: String,
    /// Where it runs, if not beside the test.
    pub host: Option<Host>,
    /// The program; `None`: the one under test.
    pub program: Option<PathBuf>,
}

impl Setup {
    /// UDP and TCP on port 5060 of the world's first address, no groups.
    pub fn new(world: &World) -> Setup {
        let at = world.addr(NODE, 5060);
        Setup {
            listen: vec![format!("udp:{at}"), format!("tcp:{at}")],
            admin: world.addr(NODE, 9090),
            admin_lines: String::new(),
            t1: 200,
            proxy: String::new(),
            level: "info",
            groups: String::new(),
            env: Vec::new(),
            wrapper: Vec::new(),
            name: "tandem".to_owned(),
            cluster: String::new(),
            host: None,
            program: None,
        }
    }

    /// Runs in a host, where its admin listener is on loopback.
    pub fn inside(mut self, host: &Host) -> Setup {
        self.wrapper = host.wrapper();
        self.admin = SocketAddr::from((Ipv4Addr::LOCALHOST, 9090));
        self.host = Some(host.clone());
        self
    }

    /// Another T1, in milliseconds.
    pub fn t1(mut self, t1: u16) -> Setup {
        self.t1 = t1;
        self
    }

    /// One group that is not probed, with members of this capacity (`10`, `"unlimited"`).
    pub fn members(self, members: &[SocketAddr], capacity: &str) -> Setup {
        self.group("MCP", "monitor-method = \"none\"", members, capacity)
    }

    /// A group with these keys of its own.
    pub fn group(mut self, name: &str, keys: &str, members: &[SocketAddr], capacity: &str) -> Setup {
        self.groups.push_str(&format!("\n[[resource-group]]\nname = \"{name}\"\n{keys}\n"));
        for member in members {
            self = self.resource(&format!("sip:{member}"), &format!("port-capacity = {capacity}"));
        }
        self
    }

    /// One more member of the last group.
    pub fn resource(mut self, aor: &str, keys: &str) -> Setup {
        self.groups.push_str(&format!("[[resource-group.resource]]\naor = \"{aor}\"\n{keys}\n"));
        self
    }

    /// Further lines of `[proxy]`.
    pub fn proxy(mut self, lines: &str) -> Setup {
        self.proxy.push_str(lines);
        self.proxy.push('\n');
        self
    }

    fn text(&self, world: &World) -> String {
        let Setup { listen, admin, admin_lines, t1, proxy, level, groups, cluster, .. } = self;
        let state = world.path(if self.host.is_some() { &self.name } else { "state" });
        format!(
            "[cluster]\nstate-dir = {state:?}\n{cluster}\n[proxy]\nsip.transport = {listen:?}\nsip.timer.t1 = {t1}\n{proxy}\n\
             [admin]\nlisten = \"{admin}\"\n{admin_lines}\n\n[log]\nlevel = \"{level}\"\n{groups}"
        )
    }

    /// Starts the node and waits until it is ready.
    #[track_caller]
    pub fn start(self, world: &World) -> Node {
        let node = self.launch(world);
        node.wait_ready();
        node
    }

    /// Starts the node and waits for nothing.
    #[track_caller]
    pub fn launch(self, world: &World) -> Node {
        let name = if self.host.is_some() { format!("{}.1", self.name) } else { "node".to_owned() };
        self.launch_with(world, |command| Process::start(world, &name, command))
    }

    /// [`Self::start`] with a process that the test makes itself.
    #[track_caller]
    pub fn start_with(self, world: &World, spawn: impl FnOnce(&mut Command) -> Process) -> Node {
        let node = self.launch_with(world, spawn);
        node.wait_ready();
        node
    }

    fn launch_with(self, world: &World, spawn: impl FnOnce(&mut Command) -> Process) -> Node {
        let config = world.write(&format!("{}.toml", self.name), &self.text(world));
        let process = spawn(&mut self.command(&config));
        let admin = self.admin;
        Node { process, setup: self, config, sip: world.addr(NODE, 5060), admin, starts: 1 }
    }

    fn command(&self, config: &Path) -> Command {
        let binary = self.program.clone().unwrap_or_else(binary);
        let mut command = match self.wrapper.split_first() {
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(binary);
                command
            }
            None => Command::new(binary),
        };
        command.args(["run", "--config"]).arg(config);
        command.envs(self.env.iter().map(|(name, value)| (name, value.as_str())));
        command
    }
}

/// The binary under test.
pub fn binary() -> PathBuf {
    std::env::var_os("TANDEM_BIN").map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_tandem")), PathBuf::from)
}

/// The program as a later version might be: built with feature `next`.
#[track_caller]
pub fn later_binary() -> PathBuf {
    let named = std::env::var_os("TANDEM_NEXT_BIN").map(PathBuf::from);
    named.expect("TANDEM_NEXT_BIN: a program that was built with `--features next`, as tests/run does")
}

/// A running node.
pub struct Node {
    /// Its process.
    pub process: Process,
    /// Where it takes SIP.
    pub sip: SocketAddr,
    /// Where it says how it is.
    pub admin: SocketAddr,
    setup: Setup,
    config: PathBuf,
    starts: u32,
}

impl Node {
    /// Waits until `/readyz` says 200.
    #[track_caller]
    pub fn wait_ready(&self) {
        let ready = || matches!(self.get("/readyz"), Ok((200, _)));
        until_true(&format!("a ready node: {}", self.log()), SOON, ready);
    }

    /// Writes a new configuration and asks for it (SIGHUP).
    pub fn reload(&mut self, world: &World, setup: Setup) {
        std::fs::write(&self.config, setup.text(world)).expect("a writable directory");
        self.setup = setup;
        self.process.signal("HUP");
    }

    /// Writes any text as the configuration and asks for it (SIGHUP).
    pub fn reload_text(&self, text: &str) {
        std::fs::write(&self.config, text).expect("a writable directory");
        self.process.signal("HUP");
    }

    /// The text of its configuration.
    pub fn config(&self) -> String {
        std::fs::read_to_string(&self.config).expect("the configuration of a node")
    }

    /// Starts it again after its process has ended, with the same configuration and state.
    #[track_caller]
    pub fn start_again(&mut self, world: &World) {
        self.launch_again(world);
        self.wait_ready();
    }

    /// [`Self::start_again`] without waiting for anything.
    #[track_caller]
    pub fn launch_again(&mut self, world: &World) {
        self.starts += 1;
        let name = if self.setup.host.is_some() {
            format!("{}.{}", self.setup.name, self.starts)
        } else {
            "node-again".to_owned()
        };
        self.process = Process::start(world, &name, &mut self.setup.command(&self.config));
    }

    /// Likewise from another program, which has read the same configuration.
    pub fn launch_as(&mut self, program: &Path, world: &World) {
        self.setup.program = Some(program.to_owned());
        self.launch_again(world);
    }

    /// Asks its admin listener.
    pub fn get(&self, path: &str) -> io::Result<(u16, String)> {
        match &self.setup.host {
            Some(host) => host.within(|| http::get(self.admin, path)),
            None => http::get(self.admin, path),
        }
    }

    /// A command of the program, asked of this node; its exit code and all that it said.
    pub fn order(&self, words: &[&str]) -> (Option<i32>, String) {
        let mut command = match &self.setup.host {
            Some(host) => host.command(binary()),
            None => Command::new(binary()),
        };
        let output = command.args(words).args(["--admin", &self.admin.to_string()]).output().expect("the program");
        let said = [output.stdout, output.stderr].concat();
        (output.status.code(), String::from_utf8_lossy(&said).into_owned())
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// All metrics, as they are now.
    #[track_caller]
    pub fn metrics(&self) -> Metrics {
        let (status, text) = self.get("/metrics").expect("an admin listener");
        assert_eq!(status, 200);
        Metrics::read(&text)
    }

    /// All metrics, unless nobody answers.
    pub fn try_metrics(&self) -> Option<Metrics> {
        self.get("/metrics").ok().filter(|(status, _)| *status == 200).map(|(_, text)| Metrics::read(&text))
    }

    /// Asks for metrics until `wanted` holds.
    #[track_caller]
    pub fn until(&self, what: &str, wanted: impl Fn(&Metrics) -> bool) -> Metrics {
        until(what, SOON, || Some(self.metrics()).filter(&wanted))
    }

    /// Waits until no call, transaction or port is left, and nothing of a call is remembered.
    #[track_caller]
    pub fn assert_empty(&self) {
        let last = std::cell::RefCell::new(Vec::new());
        let ask = || {
            let alive = self.metrics().alive();
            let empty = alive.is_empty();
            *last.borrow_mut() = alive;
            empty
        };
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            until_true("empty tables", FORGOTTEN, ask);
        }));
        assert!(caught.is_ok(), "still alive: {:?}", last.borrow());
    }

    /// Asserts that it never logged a warning or an error, and nothing ended or panicked.
    #[track_caller]
    pub fn assert_quiet(&self) {
        let loud: Vec<_> = loud(&self.log());
        assert!(loud.is_empty(), "{loud:#?}");
        assert_eq!(self.metrics().sum("tandem_panics_total"), 0.0, "a caught panic");
    }
}

/// The lines of a log above INFO, but for what the test machine causes (small socket buffers) and what the test
/// chooses (no probes).
pub fn loud(log: &str) -> Vec<String> {
    let above = |line: &&str| line.contains("WARN") || line.contains("ERROR") || line.contains("panicked");
    let chosen = |line: &&str| line.contains("buffer") || line.contains("monitor-method") || line.contains("unlimited");
    log.lines().filter(above).filter(|line| !chosen(line)).map(str::to_owned).collect()
}

/// One reading of `/metrics`: `name{labels}` to value.
#[derive(Clone, Debug)]
pub struct Metrics {
    series: BTreeMap<String, f64>,
}

impl Metrics {
    /// Reads the Prometheus text format.
    #[track_caller]
    pub fn read(text: &str) -> Metrics {
        let sample = |line: &str| {
            let (name, value) = line.rsplit_once(' ')?;
            Some((name.to_owned(), value.parse().ok()?))
        };
        let lines = text.lines().filter(|l| !l.is_empty() && !l.starts_with('#'));
        let read = |line: &str| sample(line).unwrap_or_else(|| panic!("no metric: {line}"));
        Metrics { series: lines.map(read).collect() }
    }

    /// Every series.
    pub fn series(&self) -> impl Iterator<Item = (&str, f64)> {
        self.series.iter().map(|(name, value)| (name.as_str(), *value))
    }

    /// The series of a name.
    pub fn of(&self, name: &str) -> Vec<(&str, f64)> {
        self.series().filter(|(series, _)| series.split('{').next() == Some(name)).collect()
    }

    /// The sum over all series of a name.
    pub fn sum(&self, name: &str) -> f64 {
        self.of(name).into_iter().map(|(_, value)| value).sum()
    }

    /// The sum over all series of a name that carry `label` (`resource="sip:a"`).
    pub fn labelled(&self, name: &str, label: &str) -> f64 {
        let mine = |series: &str| series.split('{').next() == Some(name) && series.contains(label);
        self.series().filter(|(series, _)| mine(series)).map(|(_, value)| value).sum()
    }

    /// Ports in use on a member.
    pub fn ports(&self, member: SocketAddr) -> f64 {
        self.labelled("tandem_ports_in_use", &format!("resource=\"sip:{member}\""))
    }

    /// Whether a member is in this state of health.
    pub fn health(&self, member: SocketAddr, state: &str) -> bool {
        let of_member = |series: &str| series.contains(&format!("sip:{member}\"")) && series.contains(state);
        self.series().any(|(s, v)| s.starts_with("tandem_resource_health{") && of_member(s) && v == 1.0)
    }

    /// What is alive of calls: the tables that are not empty.
    pub fn alive(&self) -> Vec<(String, f64)> {
        let tables = [
            "tandem_calls",
            "tandem_ringing",
            "tandem_sessions",
            "tandem_transactions",
            "tandem_remembered_calls",
            "tandem_ports_in_use",
        ];
        let of_table = |name: &str| tables.contains(&name.split('{').next().unwrap_or(""));
        self.series().filter(|(name, value)| of_table(name) && *value != 0.0).map(|(n, v)| (n.to_owned(), v)).collect()
    }
}
