//! What the pair costs: CPU and delay of a call with and without replication, interleaved, median of the rounds; and how
//! long a node takes to join.
//!
//!   cargo bench --bench pair [-- CALLS_PER_SECOND [SECONDS [ROUNDS]]]      default: 500 6 5
//!   cargo bench --bench pair -- join [SESSIONS [FILL_RATE [RATE]]]         default: 100000 2000 500
//!
//! Needs `taskset` and two cores: the active node and the callers on one, the standby on the other. Loopback addresses
//! 127.0.41.x stand in for the hosts.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

mod rig;

use rig::{cpu, median, number, pinned, resources, stop};

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(60);

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|a| a != "--bench").collect();
    match args.first().map(String::as_str) {
        Some("calls") => rig::calls(number(&args, 1, 500), number(&args, 2, 6)),
        Some("stay") => rig::stay(number(&args, 1, 100_000), number(&args, 2, 2_000), number(&args, 3, 500)),
        Some("join") => join(number(&args, 1, 100_000), number(&args, 2, 2_000), number(&args, 3, 500)),
        _ => compare(number(&args, 0, 500), number(&args, 1, 6), number(&args, 2, 5)),
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Subject {
    Alone,
    Async,
    PeerAck,
}

const SUBJECTS: [Subject; 3] = [Subject::Alone, Subject::Async, Subject::PeerAck];

/// CPU of the active node and of the standby in microseconds a call, and the delay of INVITE to 200 in microseconds.
type Figures = [f64; 3];

/// All subjects in turn, then the ratios.
fn compare(rate: u32, seconds: u32, rounds: u32) {
    let mut all: Vec<Vec<Figures>> = vec![Vec::new(); SUBJECTS.len()];
    for round in 0..rounds {
        for (subject, figures) in SUBJECTS.iter().zip(&mut all) {
            let one = measure(*subject, rate, seconds);
            println!(
                "round {round}: {subject:?} active {:.1} us/call, standby {:.1}, INVITE to 200 {:.0} us",
                one[0], one[1], one[2]
            );
            figures.push(one);
        }
    }
    let of = |figures: &[Figures], n: usize| median(figures.iter().map(|one| one[n]).collect()).unwrap_or(f64::NAN);
    for (subject, figures) in SUBJECTS.iter().zip(&all) {
        println!(
            "{subject:?}: active {:.1} us/call ({:.2} of alone), standby {:.1}, INVITE to 200 {:.0} us ({:+.0})",
            of(figures, 0),
            of(figures, 0) / of(&all[0], 0),
            of(figures, 1),
            of(figures, 2),
            of(figures, 2) - of(&all[0], 2),
        );
    }
}

fn measure(subject: Subject, rate: u32, seconds: u32) -> Figures {
    let mut nodes = Nodes::new(subject);
    nodes.start(0, 0);
    if subject != Subject::Alone {
        nodes.until(0, "/readyz");
        nodes.start(1, 1);
        nodes.until(0, "/ready/switchover");
    } else {
        nodes.until(0, "/readyz");
    }
    thread::sleep(Duration::from_secs(1));
    let before = nodes.cpu();
    let own = std::env::current_exe().expect("this program");
    let done = pinned(&own, 0).args(["calls", &rate.to_string(), &seconds.to_string()]).output().expect("callers");
    let used = nodes.cpu().iter().zip(before).map(|(now, then)| (now - then) as f64 / 1_000.0).collect::<Vec<_>>();
    let said = String::from_utf8_lossy(&done.stdout).into_owned();
    let words: Vec<f64> = said.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let [ended, delay] = words[..] else { panic!("{said}{}", String::from_utf8_lossy(&done.stderr)) };
    assert!(ended >= f64::from(rate * seconds) * 0.999, "only {ended} calls came to their end");
    [used[0] / ended, used[1] / ended, delay]
}

/// Fills one node, starts the other, and says how long it takes until the pair is armed.
fn join(sessions: u32, fill: u32, rate: u32) {
    let mut nodes = Nodes::new(Subject::PeerAck);
    nodes.start(0, 0);
    nodes.until(0, "/readyz");
    let own = std::env::current_exe().expect("this program");
    let args = ["stay".to_owned(), sessions.to_string(), fill.to_string(), rate.to_string()];
    let mut callers = pinned(&own, 1).args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("callers");
    let mut said = BufReader::new(callers.stdout.take().expect("their output")).lines();
    assert_eq!(said.next().and_then(Result::ok).as_deref(), Some("open"));
    println!("{} calls are open", nodes.metric(0, "tandem_calls"));
    let begun = Instant::now();
    nodes.start(1, 1);
    nodes.until(0, "/ready/switchover");
    let (took, held) = (begun.elapsed(), nodes.metric(1, "tandem_calls"));
    thread::sleep(Duration::from_secs(3));
    let apart = [0, 1].map(|n| nodes.metric(n, "tandem_peer_divergence_sessions"));
    drop(callers.stdin.take());
    let last = said.next().and_then(Result::ok).unwrap_or_default();
    let _ended = callers.wait();
    println!("armed {took:.2?} after the start of the process, with {held} calls; divergence {apart:?}");
    println!("calls made, answered, answered twice: {last}");
}

/// One or two nodes; gone with this value.
struct Nodes {
    subject: Subject,
    folder: PathBuf,
    running: [Option<Child>; 2],
}

impl Nodes {
    fn new(subject: Subject) -> Nodes {
        let folder = std::env::temp_dir().join(format!("tandem-bench-pair-{}", std::process::id()));
        let _old = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).expect("a work folder");
        let secret = folder.join("secret");
        fs::write(&secret, "a secret of the benchmark, long enough to be one\n").expect("a file");
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).expect("its mode");
        Nodes { subject, folder, running: [None, None] }
    }

    fn start(&mut self, n: usize, core: usize) {
        let file = self.folder.join(format!("node{n}.toml"));
        fs::write(&file, self.toml(n)).expect("a file");
        let log = fs::File::create(self.folder.join(format!("node{n}.log"))).expect("a log");
        let mut command = pinned(Path::new(env!("CARGO_BIN_EXE_tandem")), core);
        command.args(["run", "--config"]).arg(file).stdin(Stdio::null()).stderr(log.try_clone().expect("a handle"));
        self.running[n] = Some(command.stdout(log).spawn().expect("tandem"));
    }

    fn toml(&self, n: usize) -> String {
        let (me, folder) = (n + 1, self.folder.display());
        let cluster = match self.subject {
            Subject::Alone => "ha-mode = \"none\"\n".to_owned(),
            Subject::Async | Subject::PeerAck => format!(
                "ha-mode = \"active-standby\"\nname = \"bench\"\nmymemberid = {me}\nvirtual-ip = \"127.0.41.1\"\n\
                 vip-manager = \"none\"\nmember.1 = \"127.0.41.2:9801\"\nmember.2 = \"127.0.41.3:9801\"\n\
                 secret-file = \"{folder}/secret\"\ncommit = \"{}\"\n",
                if self.subject == Subject::Async { "async" } else { "peer-ack" }
            ),
        };
        format!(
            "[cluster]\nstate-dir = \"{folder}/state{n}\"\n{cluster}[proxy]\nsip.transport = [\"udp:{}\"]\n\
             [admin]\nlisten = \"{}\"\n{}",
            rig::PROXY,
            admin(n),
            resources()
        )
    }

    /// Asks until the answer is 200.
    fn until(&self, n: usize, path: &str) {
        let end = Instant::now() + PATIENCE;
        while !get(n, path).is_some_and(|answer| answer.starts_with("HTTP/1.1 200")) {
            let log = || fs::read_to_string(self.folder.join(format!("node{n}.log"))).unwrap_or_default();
            assert!(Instant::now() < end, "no 200 from {path}: {}", log());
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sum of the series of one metric.
    fn metric(&self, n: usize, name: &str) -> f64 {
        let text = get(n, "/metrics").unwrap_or_default();
        let of = |line: &&str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']));
        text.lines().filter(of).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    fn cpu(&self) -> [u64; 2] {
        [0, 1].map(|n| self.running[n].as_ref().map_or(0, |child| cpu(child.id())))
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        self.running.iter_mut().flatten().for_each(stop);
        let _ = fs::remove_dir_all(&self.folder);
    }
}

fn admin(n: usize) -> String {
    format!("127.0.41.{}:9090", n + 2)
}

fn get(n: usize, path: &str) -> Option<String> {
    let mut stream = TcpStream::connect(admin(n)).ok()?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n").as_bytes()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    Some(answer)
}
