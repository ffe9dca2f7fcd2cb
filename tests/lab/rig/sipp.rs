//! SIPp as a caller and as a media server, and the figures that it leaves behind.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use super::poll::{SOON, until_true};
use super::process::Process;
use super::world::World;

/// A SIPp to be started. `name` names its files; `scenario` is a file of `tests/lab/sipp`.
pub struct Sipp {
    name: String,
    at: SocketAddr,
    command: Command,
}

impl Sipp {
    fn new(world: &World, name: &str, scenario: &str, at: SocketAddr) -> Sipp {
        let mut command = Command::new("sipp");
        let file = format!("{}/tests/lab/sipp/{scenario}.xml", env!("CARGO_MANIFEST_DIR"));
        command.args(["-sf", &file, "-i", &bare(at.ip()), "-p", &at.port().to_string()]);
        command.args(["-bind_local", "-nostdin", "-trace_stat", "-trace_counts", "-trace_err", "-fd", "1"]);
        command.args(["-buff_size", "4194304", "-max_recv_loops", "5000"]);
        command.arg("-stf").arg(world.path(&format!("{name}.csv")));
        command.arg("-error_file").arg(world.path(&format!("{name}.errors")));
        command.current_dir(world.path("."));
        Sipp { name: name.to_owned(), at, command }
    }

    /// A media server.
    pub fn uas(world: &World, name: &str, scenario: &str, at: SocketAddr) -> Sipp {
        Self::new(world, name, scenario, at)
    }

    /// A caller of `calls` calls, `rate` of them a second.
    pub fn uac(world: &World, name: &str, scenario: &str, from: SocketAddr, to: SocketAddr) -> Sipp {
        let mut sipp = Self::new(world, name, scenario, from);
        sipp.command.arg(to.to_string());
        sipp
    }

    /// How many calls, and how many of them a second.
    pub fn calls(self, calls: u32, rate: u32) -> Sipp {
        self.args(["-m", &calls.to_string(), "-r", &rate.to_string(), "-l", "1000000"])
    }

    /// Anything else on the command line.
    pub fn args<'a>(mut self, args: impl IntoIterator<Item = &'a str>) -> Sipp {
        self.command.args(args);
        self
    }

    /// Starts it; a media server is reachable when this returns.
    pub fn start(self, world: &World) -> Running {
        let running = self.launch(world);
        running.wait_until_bound();
        running
    }

    /// Starts it and waits for nothing.
    pub fn launch(mut self, world: &World) -> Running {
        let process = Process::start(world, &self.name, &mut self.command);
        Running { process, name: self.name, stats: world.path("."), at: self.at }
    }
}

/// A SIPp at work.
pub struct Running {
    process: Process,
    name: String,
    stats: PathBuf,
    at: SocketAddr,
}

impl Running {
    fn wait_until_bound(&self) {
        let holds = || self.process.sees_bound(self.at);
        until_true(&format!("{} holds {}", self.name, self.at), SOON, holds);
    }

    /// The process.
    pub fn process(&mut self) -> &mut Process {
        &mut self.process
    }

    /// Waits until the caller has made all its calls; the figures, and whether SIPp itself was content.
    #[track_caller]
    pub fn finish(mut self, limit: Duration) -> Score {
        let status = self.process.wait(limit);
        let score = self.score();
        // 0: all calls succeeded; 1: at least one failed, which the score says better. The rest is SIPp's own trouble.
        assert!(matches!(status.code(), Some(0 | 1)), "{} ended with {status}: {}", self.name, self.trouble());
        score
    }

    /// Ends a media server politely (its calls may finish) and gives its figures.
    #[track_caller]
    pub fn stop(mut self) -> Score {
        self.process.signal("USR1");
        self.process.wait(Duration::from_secs(60));
        self.score()
    }

    /// The figures so far; SIPp writes them each second.
    pub fn score(&self) -> Score {
        let csv = fs::read_to_string(self.stats.join(format!("{}.csv", self.name))).unwrap_or_default();
        Score { columns: table(&csv), counts: self.counts(), refused: self.refused(), trouble: self.trouble() }
    }

    /// The count of each message of the scenario, e.g. `1_INVITE_Recv`.
    fn counts(&self) -> HashMap<String, u64> {
        let suffix = format!("_{}_counts.csv", self.process.pid());
        let entries = fs::read_dir(&self.stats).into_iter().flatten().flatten();
        let file = entries.map(|e| e.path()).find(|p| p.to_string_lossy().ends_with(&suffix));
        table(&file.and_then(|f| fs::read_to_string(f).ok()).unwrap_or_default())
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.stats.join(format!("{}.errors", self.name))).unwrap_or_default()
    }

    /// Calls that SIPp gave up for a response, by its status.
    fn refused(&self) -> BTreeMap<u16, u64> {
        let mut refused = BTreeMap::new();
        for line in self.errors().lines().filter(|line| line.contains("Aborting")) {
            let status = line.split("received 'SIP/2.0 ").nth(1).and_then(|rest| rest.get(..3)?.parse().ok());
            *refused.entry(status.unwrap_or(0)).or_default() += 1;
        }
        refused
    }

    /// What SIPp says of calls that it gave up, then of what came to no call; without the messages. If it complains of
    /// something else, the beginning of that.
    fn trouble(&self) -> String {
        let errors = self.errors();
        let about = |word: &'static str| errors.lines().filter(move |line| line.contains(word));
        let told: Vec<&str> = about("Aborting").chain(about("Discarding")).chain(about("Dead call")).take(40).collect();
        if told.is_empty() { errors.chars().take(3_000).collect() } else { told.join("\n") }
    }
}

/// SIPp's own figures.
#[derive(Debug)]
pub struct Score {
    columns: HashMap<String, u64>,
    counts: HashMap<String, u64>,
    /// Calls that were given up for a final response, by its status; 0: for something else.
    pub refused: BTreeMap<u16, u64>,
    /// What SIPp complained about.
    pub trouble: String,
}

impl Score {
    /// A column of the statistics file, e.g. `SuccessfulCall(C)`.
    pub fn column(&self, name: &str) -> u64 {
        self.columns.get(name).copied().unwrap_or(0)
    }

    /// Calls that went through the scenario to its end.
    pub fn successful(&self) -> u64 {
        self.column("SuccessfulCall(C)")
    }

    /// Calls that did not.
    pub fn failed(&self) -> u64 {
        self.column("FailedCall(C)")
    }

    /// The sum of all message counters that end with `suffix`: `INVITE_Recv`, `200_Sent`, `180_Recv`, `ACK_Retrans`.
    pub fn messages(&self, suffix: &str) -> u64 {
        self.counts.iter().filter(|(name, _)| name.ends_with(&format!("_{suffix}"))).map(|(_, n)| n).sum()
    }

    /// Asserts that all of `calls` succeeded.
    #[track_caller]
    pub fn assert_all(&self, calls: u64) {
        assert_eq!((self.successful(), self.failed()), (calls, 0), "successful and failed calls; {}", self.trouble);
    }
}

/// First line and last complete line of one of SIPp's tables, as pairs; what is not a number is left out.
fn table(csv: &str) -> HashMap<String, u64> {
    let mut lines = csv.lines();
    let Some(head) = lines.next() else { return HashMap::new() };
    let Some(last) = lines.last() else { return HashMap::new() };
    let pairs = head.split(';').zip(last.split(';'));
    pairs.filter_map(|(name, value)| Some((name.to_owned(), value.parse().ok()?))).collect()
}

fn bare(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(v4) => v4.to_string(),
        IpAddr::V6(v6) => format!("[{v6}]"),
    }
}
